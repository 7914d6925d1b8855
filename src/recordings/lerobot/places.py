"""Where conversions put their recordings, and which are there already."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from src.recordings.collection import read_meta
from src.recordings.files import explained
from src.recordings.listing import find_recordings
from src.recordings.recording import robot_of
from src.utils.errors import UserError

# Where a recording lies until it is whole; no listing looks into a folder with a dot.
UNFINISHED = ".converting"
UNKNOWN_ROBOT = "lerobot"


def identity(meta: Mapping[str, Any]) -> str:
    """What two conversions of the same thing have in common, as text."""
    keys = ("episode_index", "combined_episodes", "collection", "source_fingerprint")
    return json.dumps([meta.get(key) for key in keys], sort_keys=True, default=str)


def converted(folder: Path) -> dict[str, Path]:
    """The whole recordings in ``folder`` that were converted, by their identity."""
    metas = {path: read_meta(path) for path in find_recordings(folder)}
    whole = {"total_steps", "collection"}
    return {identity(meta): path for path, meta in metas.items() if whole <= meta.keys()}


def robot_folder(root: Path, robot_type: str | None) -> Path:
    """The folder of a robot's recordings, called as ``Recording.robot`` is, so far as folders can be."""
    name = robot_of({"robot_type": robot_type or UNKNOWN_ROBOT}, root, [])
    plain = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
    return root / (plain or UNKNOWN_ROBOT)


def unused(folder: Path, which: str) -> str:
    """A name that no recording has; two conversions with other options may fall into one second."""
    name = f"session_{folder.name}_{which}_{datetime.now():%Y%m%d_%H%M%S}"
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(one for one in names if not (folder / one).exists())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other conversion writes into ``folder``; what a killed one left behind is removed.

    The folder and its lock stay: removed, they could be held by one process and made anew by the next.

    Raises:
        UserError: another one does, or the folder cannot be written.
    """
    unfinished = folder / UNFINISHED
    lock = FileLock(unfinished / "lock")
    with explained(folder):
        unfinished.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"another conversion is writing into {folder}; wait for it") from error
    try:
        for left in unfinished.glob("session_*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
