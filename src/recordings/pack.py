"""All frames of recordings in one mapped file, so that no frame is decoded twice."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock

from src.recordings.files import explained, shown
from src.recordings.index import CACHE
from src.recordings.recording import Recording
from src.utils.errors import UserError

VERSION = 1
PAGE = 4096  # bytes


@dataclass(frozen=True)
class Pack:
    """Frames of recordings, one after another.

    Attributes:
        frames: (N, 3, H, W) uint8, mapped read-only.
        starts: (R + 1,) int64; the rows of recording r are ``starts[r]:starts[r + 1]``.
        path: the file.
    """

    frames: np.ndarray
    starts: np.ndarray
    path: Path


def pack(
    recordings: Sequence[Recording],
    size: tuple[int, int] | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Pack:
    """Decode every frame of ``recordings`` into one file, or find the file of the last time.

    A file is found again as long as no recording has changed. One that takes its place removes those of the same
    recordings as they were before. Two processes that ask at once build it once.

    Args:
        recordings: in the order of the rows.
        size: (H, W) to scale the frames to; without it they must all be of one size.
        folder: where the file lies; without it ``.cache`` of the recording, or of the first one's robot.
        progress: whether to show it.

    Raises:
        UserError: no frames, two sizes, a frame that cannot be read, or the file cannot be written.
    """
    counts = [len(recording.observations) for recording in recordings]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if not starts[-1]:
        where = f": {recordings[0].path} has none" if recordings else ""
        raise UserError(f"there are no frames to learn from{where}")
    place = Path(folder) if folder else _home(recordings) / CACHE
    family, content = _names(recordings, size)
    file = place / f"pack_{family}_{content}.npy"
    frames = _mapped(file, length := int(starts[-1]))
    if frames is None:
        _build_once(file, length, partial(_write, recordings, size, length, progress))
        frames = _mapped(file, length)
    if frames is None:
        raise UserError(f"{file} was written but cannot be read back")
    return Pack(frames, starts, file)


def _home(recordings: Sequence[Recording]) -> Path:
    """The directory that keeps the pack: a recording's own, or its robot's for several."""
    path = recordings[0].path
    return path if len(recordings) == 1 else path.parent


def _names(recordings: Sequence[Recording], size: tuple[int, int] | None) -> tuple[str, str]:
    """What says which recordings these are, and what says how they are now."""
    family: list[object] = [VERSION, size and tuple(size)]
    family += [(one.path.resolve().parent.name, one.name) for one in recordings]
    content = [one.fingerprint for one in recordings]
    digests = [hashlib.sha256(repr(part).encode()).hexdigest()[:16] for part in (family, content)]
    return digests[0], digests[1]


def _mapped(file: Path, length: int) -> np.ndarray | None:
    """The frames, or None where the file is not there, or is not whole."""
    try:
        frames = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[:2] == (length, 3)
    return frames if whole else None


def _build_once(file: Path, length: int, write: Callable[[BinaryIO], None]) -> None:
    with explained(file.parent, "; give the packed frames another folder, or make room"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.parent / ".pack.lock"):
            if _mapped(file, length) is None:  # nobody else has built it meanwhile
                _build(file, write)


def _build(file: Path, write: Callable[[BinaryIO], None]) -> None:
    # Under the lock: what another process was killed over bears this name too, and is written over.
    temporary = file.with_name(".pack.tmp")
    try:
        with open(temporary, "wb") as out:
            write(out)
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _remove_older(file)


def _write(
    recordings: Sequence[Recording],
    scale: tuple[int, int] | None,
    length: int,
    progress: bool,
    out: BinaryIO,
) -> None:
    size = scale or _common_size(recordings)
    out.write(_header((length, 3, *size)))
    for frame in shown(_frames(recordings, scale, size), length, "packing frames", progress):
        out.write(np.ascontiguousarray(frame.transpose(2, 0, 1)).data)


def _header(shape: tuple[int, ...]) -> bytes:
    """The beginning of a .npy file, as long as a page: a frame that is whole pages long then lies on no other."""
    content = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
    start = b"\x93NUMPY\x01\x00"
    length = PAGE - len(start) - 2
    return start + length.to_bytes(2, "little") + content.ljust(length - 1) + b"\n"


def _frames(
    recordings: Sequence[Recording], scale: tuple[int, int] | None, size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Every frame as (H, W, 3), scaled where ``scale`` says so and else checked to be of ``size``."""
    for recording in recordings:
        for index in range(len(recording.observations)):
            frame = recording.frame(index, scale)
            if frame.shape[:2] != tuple(size):
                found = (frame.shape[0], frame.shape[1])
                raise _two_sizes(recording.frame_path(0), size, recording.frame_path(index), found)
            yield frame


def _common_size(recordings: Sequence[Recording]) -> tuple[int, int]:
    """The size of every recording's first frame."""
    sizes = {r: found for r in range(len(recordings)) if (found := recordings[r].frame_size())}
    first = next(iter(sizes))
    for r, found in sizes.items():
        if found != sizes[first]:
            raise _two_sizes(recordings[first].path, sizes[first], recordings[r].path, found)
    return sizes[first]


def _two_sizes(a: Path, size_a: tuple[int, int], b: Path, size_b: tuple[int, int]) -> UserError:
    return UserError(
        f"{b} is {size_b[0]}×{size_b[1]} where {a} is {size_a[0]}×{size_a[1]}; give data.size=[H,W] to scale all to "
        "one size"
    )


def _remove_older(file: Path) -> None:
    """Remove the packs of these recordings as they were before; a process that has mapped one keeps it."""
    family = file.name.split("_")[1]
    for older in file.parent.glob(f"pack_{family}_*.npy"):
        if older != file:
            older.unlink(missing_ok=True)
