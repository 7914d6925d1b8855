"""Exact frames of videos, decoded once and one at a time, with PyAV.

A dataset names a frame by its time. Numbers of frames and average rates that files tell of
themselves are known to be off by one deep in files that hold many episodes, so only the
presentation time of each decoded frame is believed.
"""

from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from src.recordings.lerobot.tables import existing, needed
from src.utils.errors import UserError

# How many seconds further back is looked for a key frame, each where the one before came too late: streams with
# reordered frames are indexed by decoding time, which may lie before the time of presentation.
STEPS_BACK = (0.0, 1.0, 10.0, float("inf"))


def frames_at(
    file: Path, times: Iterable[float], tolerance: float
) -> Generator[np.ndarray, None, None]:
    """The frame nearest to each time, (H, W, 3) uint8, RGB.

    Args:
        file: the video.
        times: seconds, not decreasing.
        tolerance: seconds by which a frame may miss its time.

    Raises:
        UserError: the video is missing or damaged, or holds no frame near a time.
    """
    av = needed("av", "av")
    wanted = list(times)
    if not wanted:
        return
    try:
        with av.open(str(existing(file))) as container:
            if not container.streams.video:
                raise UserError(f"{file} holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            decoded = _decode_from(container, stream, wanted[0])
            for frame in _nearest(decoded, wanted, tolerance, file):
                yield frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise UserError(f"{file} cannot be decoded: {error.strerror or error}") from error


def _nearest(
    decoded: Iterator[Any], times: Iterable[float], tolerance: float, file: Path
) -> Iterator[Any]:
    """Of frames in the order of their time, the nearest to each of ``times``."""
    before, current = None, next(decoded, None)
    for time in times:
        while current is not None and current.time < time:
            before, current = current, next(decoded, None)
        near = [frame for frame in (before, current) if frame is not None]
        best = min(near, key=lambda frame: abs(frame.time - time), default=None)
        if best is None or abs(best.time - time) > tolerance:
            there = "nothing" if best is None else f"the nearest at {best.time:.4f} s"
            raise UserError(f"{file} has no frame at {time:.4f} s; there is {there}")
        yield best


def _decode_from(container: Any, stream: Any, time: float) -> Iterator[Any]:
    """All frames from the last key frame at or before ``time``."""
    for back in STEPS_BACK:
        start = max(time - back, 0.0)
        # No time is asked for before the file's own start, which may be a little after or before 0.
        container.seek(int(start / stream.time_base), stream=stream, backward=True)
        decoded = container.decode(stream)
        first = next(decoded, None)
        # Times in the metadata are not rounded to the video's ticks.
        is_before = first is not None and first.time <= time + stream.time_base
        if first is not None and (is_before or start == 0.0):
            yield first
            yield from decoded
            return
