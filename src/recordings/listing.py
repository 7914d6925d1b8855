"""Finding recordings, and what is worth knowing of each."""

import os
from dataclasses import dataclass
from pathlib import Path

from src.recordings.events import SESSION, shard_files
from src.recordings.recording import Recording
from src.utils.errors import UserError


def find_recordings(root: str | Path) -> list[Path]:
    """Every ``session_…`` directory with events at or below ``root``, by robot and name; no event is read."""
    root = Path(root)
    if shard_files(root):
        return [root]
    found = []
    for folder, below, _ in os.walk(root):
        sessions = [name for name in below if name.startswith(SESSION)]
        below[:] = [name for name in below if not name.startswith((SESSION, "."))]
        found += [path for name in sessions if shard_files(path := Path(folder) / name)]
    return sorted(found, key=lambda path: (path.parent.name, path.name, path))


@dataclass(frozen=True)
class Summary:
    """A row of the list of recordings.

    Attributes:
        path: of the recording.
        robot: that recorded; empty where it cannot be read.
        observations: how many, and how many actions.
        actions: see there.
        seconds: from the first event to the last; NaN where not told.
        size: (H, W) of the first frame, None where there is none.
        state: finished, crashed (or still being recorded), or unreadable.
        warnings: sentences.
    """

    path: Path
    robot: str
    observations: int
    actions: int
    seconds: float
    size: tuple[int, int] | None
    state: str
    warnings: tuple[str, ...]


def summaries(root: str | Path) -> list[Summary]:
    """Every recording at or below ``root``; one that is damaged is listed too and hides no other."""
    return [_summary(path) for path in find_recordings(root)]


def _summary(path: Path) -> Summary:
    try:
        recording = Recording.open(path)
    except UserError as error:
        return Summary(path, "", 0, 0, float("nan"), None, "unreadable", (str(error),))
    warnings, size = recording.warnings, None
    try:
        size = recording.frame_size()
    except UserError as error:
        warnings = (*warnings, str(error))
    times = recording.times
    return Summary(
        path,
        recording.robot,
        len(recording.observations),
        len(recording.actions),
        float(times[-1] - times[0]) if len(times) else float("nan"),
        size,
        "finished" if recording.finished else "crashed",
        warnings,
    )
