"""Where conversions put their recordings, and which are there already."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from src.recordings.recording import robot_of
from src.utils.errors import UserError

# Where a recording lies until it is whole; no listing looks into a folder with a dot.
UNFINISHED = ".converting"
UNKNOWN_ROBOT = "lerobot"


def identity(meta: Mapping[str, Any]) -> str:
    """What two conversions of the same thing have in common, as text."""
    keys = ("source", "episode_index", "combined_episodes", "collection", "source_fingerprint")
    return json.dumps([meta.get(key) for key in keys], sort_keys=True, default=str)


def converted(folder: Path) -> dict[str, Path]:
    """The whole recordings in ``folder`` that were converted, by their identity."""
    found = {}
    for file in sorted(folder.glob("session_*/session_meta.json")):
        try:
            meta = json.loads(file.read_text())
        except (OSError, ValueError):  # a recording of somebody else's, that is damaged
            continue
        if isinstance(meta, dict) and "total_steps" in meta and "collection" in meta:
            found[identity(meta)] = file.parent
    return found


def robot_folder(root: Path, robot_type: str | None) -> Path:
    """The folder of a robot's recordings, called as ``Recording.robot`` is, so far as folders can be."""
    name = robot_of({"robot_type": robot_type or UNKNOWN_ROBOT}, root, [])
    plain = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
    return root / (plain or UNKNOWN_ROBOT)


def unused(folder: Path, episode: int, is_many: bool) -> str:
    """A name that no recording has; two conversions with other options may fall into one second."""
    which = "all" if is_many else f"ep{episode:04d}"
    name = f"session_{folder.name}_{which}_{datetime.now():%Y%m%d_%H%M%S}"
    number = 1
    while (folder / (name if number == 1 else f"{name}_{number}")).exists():
        number += 1
    return name if number == 1 else f"{name}_{number}"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other conversion writes into ``folder``; what a killed one left behind is removed.

    The folder and its lock stay: removed, they could be held by one process and made anew by the next.

    Raises:
        UserError: another one does, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    unfinished = folder / UNFINISHED
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        lock = FileLock(unfinished / "lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another conversion is writing into {folder}; wait for it") from error
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        for left in unfinished.glob("session_*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
