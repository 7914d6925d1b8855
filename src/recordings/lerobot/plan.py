"""Which frames and actions of a LeRobot episode a recording holds."""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from src.recordings.lerobot.dataset import LeRobotDataset
from src.recordings.lerobot.decisions import DOWN, STAY, UP, DecisionLog, log_file, read_log
from src.recordings.lerobot.info import Feature, is_called
from src.recordings.lerobot.tables import read_columns
from src.utils.errors import UserError, nearest

ActionSource = Literal["auto", "log", "column", "velocity", "none"]


@dataclass(frozen=True)
class Plan:
    """What one episode becomes.

    Attributes:
        frames: (N,) numbers of the frames to observe.
        times: (N,) seconds from the episode's start.
        actions: those between them, N - 1; none at all where the dataset's are not wanted.
        rewards: (N,) received on arriving at each frame, NaN where not told.
        is_done: whether the environment ended the episode.
        step: seconds from one observation to the next, as it was meant; its action lies in the middle.
        action_space: all that there may be.
        facts: keys for session_meta.json.
        fingerprint: of the episode's table, and of what was taken from it.
    """

    frames: np.ndarray
    times: np.ndarray
    actions: list[dict[str, Any]]
    rewards: np.ndarray
    is_done: bool
    step: float
    action_space: list[dict[str, Any]] | None
    facts: dict[str, Any]
    fingerprint: str

    @property
    def stay(self) -> dict[str, Any] | None:
        """The action that does nothing, for robots that have one."""
        stay = _action(STAY, 0.0)
        return stay if stay in (self.action_space or []) else None


class Planner:
    """Makes plans for a dataset's episodes, all in the same way.

    Args:
        dataset: the dataset.
        source: of the actions: ``log``, the decisions that a policy wrote to ``meta/discrete_action_logs``;
            ``column``, a column of whole numbers (not where a joint is named); ``velocity``, the sign of a joint's
            commanded velocity; ``none``; ``auto``, the first of these that an episode has.
        joint: the joint that is looked at; ``None``: the log's, else the first of ``action``.
        still: a velocity below which a joint counts as still, in the dataset's units per second.

    Raises:
        UserError: an unknown source or joint, or no velocity.
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        source: ActionSource = "auto",
        joint: str | None = None,
        still: float = 0.05,
    ) -> None:
        if source not in get_args(ActionSource):
            raise UserError(
                f"actions='{source}' is unknown{nearest(source, get_args(ActionSource))}"
            )
        if joint is not None and source in ("column", "none"):
            raise UserError(
                f"joint={joint} decides nothing with actions={source}; leave one of them out"
            )
        if not isinstance(still, int | float) or not still >= 0:
            raise UserError(f"still={still} must be a number from 0, in units per second")
        self.dataset, self.source, self.joint, self.still = dataset, source, joint, still
        if joint is not None and "action" in dataset.features:
            dataset.features["action"].place(joint, dataset.path)

    def plan(self, episode: int) -> Plan:
        """The plan of one episode.

        Raises:
            UserError: the episode has no such actions, or none that can be told apart.
        """
        table = self.dataset.table(episode)
        if not self.dataset.episode(episode).length:
            raise UserError(f"episode {episode} of {self.dataset.path} has no frames")
        if self.source in ("auto", "log"):
            log = read_log(self.dataset.path, episode)
            if log is not None:
                return self._from_log(episode, log, table)
            if self.source == "log":
                raise UserError(f"{log_file(self.dataset.path, episode)} holds no decisions")
        is_auto = self.source == "auto" and self.joint is None
        if self.source == "column" or (is_auto and self._column is not None):
            return self._from_column(episode, table)
        if self.source == "none":
            return self._every_frame(episode, table, [], None, {})
        return self._from_velocity(episode, table)

    def _from_log(self, episode: int, log: DecisionLog, table: Mapping[str, np.ndarray]) -> Plan:
        """Frames at decisions only, with the decision's action between two of them."""
        if self.joint is not None and log.joint and not is_called(log.joint, self.joint):
            raise UserError(
                f"{log_file(self.dataset.path, episode)} is of joint '{log.joint}', not of "
                f"'{self.joint}'; leave joint out, or take actions=velocity"
            )
        frames, choices = log.decisions(self.dataset.episode(episode).length, self.dataset.fps)
        facts = {
            "joint_name": log.joint,
            "joint_index": self._joint_index(log.joint),
            "action_duration": log.duration,
            "position_delta": log.delta,
            "used_discrete_action_log": True,
            "action_source": "log",
        }
        times = np.arange(len(frames)) * log.duration
        actions = [_action(choice, log.duration) for choice in choices]
        return _plan(table, frames, times, actions, log.duration, _space(log.duration), facts)

    def _from_column(self, episode: int, table: Mapping[str, np.ndarray]) -> Plan:
        if self._column is None or self._column not in table:
            raise UserError(
                f"{self.dataset.path} has no column of actions that are one whole number each; "
                "take actions=velocity or actions=none"
            )
        actions = [{"action": value} for value in table[self._column].astype(int).ravel().tolist()]
        space = [{"action": int(value)} for value in self._choices]
        facts = {"action_source": "column", "action_column": self._column}
        return self._every_frame(episode, table, actions, space, facts)

    def _from_velocity(self, episode: int, table: Mapping[str, np.ndarray]) -> Plan:
        """Every frame; stay, up or down by the velocity that is commanded to the joint."""
        name, velocity = self._velocity(episode, table)
        choices = np.where(np.abs(velocity) < self.still, STAY, np.where(velocity > 0, UP, DOWN))
        step = 1 / self.dataset.fps
        facts = {
            "joint_name": name,
            "joint_index": self._commanded,
            "action_duration": step,
            "action_source": "velocity",
            "still_velocity": self.still,
        }
        actions = [_action(choice, step) for choice in choices.tolist()]
        return self._every_frame(episode, table, actions, _space(step), facts)

    def _velocity(self, episode: int, table: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
        """The joint's name and its commanded velocity, (N,) in the dataset's units per second."""
        for column in ("action", "observation.state"):
            if column not in table:
                raise UserError(
                    f"{self.dataset.path} has no column '{column}', from which a joint's velocity is "
                    "taken; take actions=none for its frames alone"
                )
        features, commanded = self.dataset.features, self._commanded
        name = features["action"].entries[commanded]
        state = _same_entry(features["observation.state"], name, commanded, self.dataset.path)
        command = table["action"].reshape(len(table["action"]), -1)[:, commanded]
        measured = table["observation.state"].reshape(len(command), -1)[:, state]
        velocity = (command - measured) * self.dataset.fps
        if not np.isfinite(velocity).all():
            raise UserError(
                f"the velocity of '{name}' is not known throughout episode {episode} of "
                f"{self.dataset.path}; take another joint, or actions=none"
            )
        return name, velocity

    def _every_frame(
        self,
        episode: int,
        table: Mapping[str, np.ndarray],
        actions: list[dict[str, Any]],
        space: list[dict[str, Any]] | None,
        facts: dict[str, Any],
    ) -> Plan:
        frames = np.arange(self.dataset.episode(episode).length)
        # Nothing is seen of what the last frame's action did.
        step = 1 / self.dataset.fps
        return _plan(table, frames, frames / self.dataset.fps, actions[:-1], step, space, facts)

    def _joint_index(self, name: str | None) -> int | None:
        feature = self.dataset.features.get("action")
        found = feature.places(name) if feature and name else []
        return found[0] if len(found) == 1 else None

    @cached_property
    def _commanded(self) -> int:
        """The place in ``action`` of the joint whose velocity is taken; one that nobody named is told."""
        feature = self.dataset.features["action"]
        if self.joint is not None:
            return feature.place(self.joint, self.dataset.path)
        first = feature.entries[0]
        print(
            f"actions are those of the first joint, {first}; joint=… takes another", file=sys.stderr
        )
        return 0

    @cached_property
    def _column(self) -> str | None:
        """The column of actions that are one whole number each."""
        keys = [key for key in self.dataset.features if key.split(".")[0] == "action"]
        discrete = [key for key in sorted(keys) if _is_discrete(self.dataset.features[key])]
        return discrete[0] if discrete else None

    @cached_property
    def _choices(self) -> np.ndarray:
        """All values of that column in the whole dataset, so that every recording's actions are numbered alike."""
        key = str(self._column)
        files = sorted({episode.data for episode in self.dataset.episodes.values()})
        values = [column.ravel() for file in files for column in read_columns(file, [key]).values()]
        return np.unique(np.concatenate(values).astype(np.int64))


def _plan(
    table: Mapping[str, np.ndarray],
    frames: np.ndarray,
    times: np.ndarray,
    actions: list[dict[str, Any]],
    step: float,
    space: list[dict[str, Any]] | None,
    facts: dict[str, Any],
) -> Plan:
    done = table.get("next.done", np.zeros(0))
    columns = [key.encode() + table[key].tobytes() for key in sorted(table)]
    taken = repr((frames.tolist(), times.tolist(), actions))
    unknown = {"joint_name": None, "joint_index": None, "action_duration": None}
    return Plan(
        frames=frames,
        times=times,
        actions=actions,
        rewards=np.array(list(_rewards(table, frames))),
        is_done=bool(done[: frames[-1] + 1].any()),
        step=step,
        action_space=space,
        facts=unknown | {"position_delta": None, "used_discrete_action_log": False} | facts,
        fingerprint=fingerprint([*columns, taken.encode()]),
    )


def fingerprint(parts: Iterable[bytes]) -> str:
    """Sixteen digits that tell contents apart."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _rewards(table: Mapping[str, np.ndarray], frames: np.ndarray) -> Iterator[float]:
    """``next.reward`` of a frame is what its action brings, so it is received at the next one."""
    if "next.reward" not in table:
        yield from [np.nan] * len(frames)
        return
    rewards = table["next.reward"].reshape(-1)
    yield np.nan
    for start, stop in pairwise(frames):
        yield float(rewards[start:stop].sum())


def _action(choice: int, duration: float) -> dict[str, Any]:
    return {"action": choice, "duration": 0.0 if choice == STAY else duration}


def _space(duration: float) -> list[dict[str, Any]]:
    return [_action(choice, duration) for choice in (STAY, UP, DOWN)]


def _is_discrete(feature: Feature) -> bool:
    whole = feature.dtype.startswith(("int", "uint", "bool"))
    return whole and len(feature.entries) == 1


def _same_entry(state: Feature, name: str, place: int, path: Path) -> int:
    """Where the state of the joint ``name`` is: by its name, else at the same place."""
    if len(found := state.places(name)) == 1:
        return found[0]
    if place < len(state.entries):
        return place
    raise UserError(f"{path}: observation.state has no entry for '{name}'")
