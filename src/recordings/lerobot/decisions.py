"""The log of what a policy decided in an episode, beside a LeRobot dataset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.recordings.lerobot.info import read_lines
from src.utils.errors import UserError

STAY, UP, DOWN = range(3)
# Seconds that a decision lasts where the log's header does not say.
DECISION = 0.5


@dataclass(frozen=True)
class DecisionLog:
    """The decisions of a policy in one episode, each at a frame."""

    joint: str | None
    duration: float
    delta: float | None
    at: list[int]
    choices: list[int]

    def decisions(self, length: int, fps: float) -> tuple[np.ndarray, list[int]]:
        """Frames (N,) and the choices between them, without the stays at the end.

        Decisions past the episode's last frame led to nothing that was seen, and are left out.
        """
        last = self.at[-1] + round(self.duration * fps)
        frames = np.minimum([*self.at, last], length - 1)
        kept = sum(at < length - 1 for at in self.at)
        while kept and self.choices[kept - 1] == STAY:
            kept -= 1
        return frames[: kept + 1], self.choices[:kept]


def log_file(root: Path, episode: int) -> Path:
    return root / "meta" / "discrete_action_logs" / f"episode_{episode:06d}.jsonl"


def read_log(root: Path, episode: int) -> DecisionLog | None:
    """The log of an episode, or ``None`` where there is none, or nothing in it but a header."""
    file = log_file(root, episode)
    rows = read_lines(file, may_be_cut=True) if file.exists() else []
    header = next((row for row in rows if row.get("type") == "header"), {})
    acted = [row for row in rows if row.get("type") == "action"]
    if not acted:
        return None
    try:
        acted.sort(key=lambda row: int(row["frame_index"]))
        return DecisionLog(
            joint=header.get("joint_name"),
            duration=float(header.get("action_duration") or DECISION),
            delta=header.get("position_delta"),
            at=[int(row["frame_index"]) for row in acted],
            choices=[int(row["discrete_action"]) for row in acted],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error!r}") from error
