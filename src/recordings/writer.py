"""Writing a recording, event by event."""

import json
import os
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from src.recordings.events import FRAMES, META_FILE, SESSION, action_key, listed
from src.recordings.files import explained, refusal, replacing
from src.recordings.images import ImageFormat, encode, ending
from src.utils.errors import UserError

OWN_KEYS = (
    "session_name",
    "start_time",
    "end_time",
    "shard_size",
    "action_space",
    "robot_type",
    "total_shards",
    "total_steps",
)


class RecordingWriter:
    """A context manager that writes one recording; left by an exception, it leaves one without an end.

    Every event is with the system when its call returns, its frame before it: killing the process loses nothing but
    the event being written, and a frame that was cut off is named by no event.

    Args:
        path: the recording's directory, ``…/<robot>/session_…``.
        robot_type: what records.
        action_space: all actions; without it any is taken.
        shard_size: events a file.
        image_format: png and webp keep every bit, jpeg (quality 85) does not.
        meta: more keys of session_meta.json.

    Attributes:
        steps: events written.
        size: (H, W) of the frames, None before the first.

    Raises:
        UserError: ``path`` exists, has another kind of name, or cannot be written; ``meta`` has a key of the format.
    """

    def __init__(
        self,
        path: str | Path,
        robot_type: str,
        action_space: list[dict[str, Any]] | None = None,
        shard_size: int = 1000,
        image_format: ImageFormat = "png",
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.image_format, self.shard_size = Path(path), image_format, shard_size
        self.steps, self.size = 0, None
        self._ending, self._file, self._is_open = ending(image_format), -1, True
        self._known = None if action_space is None else {action_key(one) for one in action_space}
        self._frames = str(self.path / FRAMES)
        self._meta: dict[str, Any] = {
            "session_name": self.path.name,
            "start_time": datetime.now().isoformat(),
            "shard_size": shard_size,
            "action_space": action_space,
            "robot_type": robot_type,
            "total_shards": 0,
        } | _own(meta or {})
        self._create()

    steps: int
    size: tuple[int, int] | None

    def observe(self, frame: np.ndarray, timestamp: float | None = None, **data: Any) -> int:
        """Write a frame, (H, W, 3) uint8 of the same size as all others, and its event; returns the step.

        Args:
            frame: what is seen.
            timestamp: Unix seconds, or seconds from the beginning; now without it.
            data: more keys of the event: reward (received on arriving here), terminated, truncated, lives …

        Raises:
            UserError: another shape, a value that JSON does not know, or it cannot be written.
        """
        self._check(frame, data)
        name = f"frame_{self.steps:06d}.{self._ending}"
        line = self._line("observation", {"frame_path": f"{FRAMES}/{name}", **data}, timestamp)
        return self._append(line, (f"{self._frames}/{name}", encode(frame, self.image_format)))

    def act(self, action: Mapping[str, Any], timestamp: float | None = None) -> int:
        """Write an action's event; returns the step.

        Raises:
            UserError: it is not in the action space, or cannot be written.
        """
        if self._known is not None and action_key(action) not in self._known:
            space = listed([json.dumps(one) for one in self._meta["action_space"]])
            raise UserError(f"{dict(action)} is no action of {self.path}; actions: {space}")
        return self._append(self._line("action", dict(action), timestamp))

    def close(self, **meta: Any) -> None:
        """End the recording: its end goes into session_meta.json, with ``meta``. A second time nothing happens."""
        if not self._is_open:
            return
        end = {"end_time": datetime.now().isoformat(), "total_steps": self.steps}
        self._meta |= _own(meta) | end
        try:
            self._write_meta()
        except OSError as error:
            raise self._failed(error) from error
        self.abandon()

    def abandon(self) -> None:
        """Let go of the recording without an end; what was written stays readable."""
        self._is_open = False
        self._go_on_in(-1)

    def __enter__(self) -> "RecordingWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def _create(self) -> None:
        if self.shard_size < 1:
            raise UserError(
                f"shard_size={self.shard_size} leaves no event in a file; give 1 or more"
            )
        if not self.path.name.startswith(SESSION):
            raise UserError(
                f"{self.path} is no name of a recording, which begins with '{SESSION}'; nearest: "
                f"'{SESSION}{self.path.name}'"
            )
        with explained(self.path):
            try:
                Path(self._frames).parent.mkdir(parents=True)
            except FileExistsError as error:
                raise UserError(
                    f"{self.path} exists; give a recording a name of its own"
                ) from error
            os.mkdir(self._frames)
            self._write_meta()

    def _check(self, frame: np.ndarray, data: Mapping[str, Any]) -> None:
        if "frame_path" in data:
            raise UserError(
                f"frame_path of an event of {self.path} is the writer's own; leave it out"
            )
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise UserError(
                f"a frame of {self.path} must be (H, W, 3) uint8, not {frame.shape} {frame.dtype}"
            )
        size = (frame.shape[0], frame.shape[1])
        if self.size not in (None, size):
            raise UserError(
                f"frame {self.steps} of {self.path} is {size[0]}×{size[1]} where the others are "
                f"{self.size[0]}×{self.size[1]}; a recording has one size"
            )
        self.size = size

    def _line(self, kind: str, data: dict[str, Any], timestamp: float | None) -> bytes:
        seconds = time.time() if timestamp is None else float(timestamp)
        event = {"step": self.steps, "type": kind, "data": data, "timestamp": seconds}
        try:
            return _ENCODER.encode(event).encode() + b"\n"
        except (ValueError, TypeError) as error:  # NaN, or an object
            raise UserError(
                f"event {self.steps} of {self.path} cannot be written as JSON: {error}"
            ) from error

    def _append(self, line: bytes, frame: tuple[str, bytes] | None = None) -> int:
        """Write a frame's file and then the event's line, which is what names it."""
        if not self._is_open:
            raise UserError(f"{self.path} is closed; nothing more can be recorded in it")
        try:
            if frame is not None:
                _write_file(*frame)
            if self.steps % self.shard_size == 0:
                self._next_shard()
            _write_all(self._file, line)
        except OSError as error:
            raise self._failed(error) from error
        self.steps += 1
        return self.steps - 1

    def _next_shard(self) -> None:
        number = self._meta["total_shards"]
        shard = self.path / f"events_shard_{number:03d}.jsonl"
        self._go_on_in(os.open(shard, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666))
        self._meta["total_shards"] = number + 1
        self._write_meta()

    def _go_on_in(self, file: int) -> None:
        """Another file for the events; none is closed twice, for its number may be somebody else's by then."""
        old, self._file = self._file, file
        if old >= 0:
            os.close(old)

    def _write_meta(self) -> None:
        with replacing(self.path / META_FILE) as file:
            file.write(json.dumps(self._meta, indent=2, default=_plain).encode() + b"\n")

    def _failed(self, error: OSError) -> UserError:
        """Nothing is written any more: the line may be cut off, and the next one would be glued to it."""
        self.abandon()
        return refusal(self.path, error, f"; its first {self.steps} events stay readable")


def _own(meta: Mapping[str, Any]) -> dict[str, Any]:
    if taken := sorted({*meta} & {*OWN_KEYS}):
        raise UserError(
            f"'{taken[0]}' is a key that the format of recordings writes itself; give another name"
        )
    return dict(meta)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON knows them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is no number, text, list or object")


_ENCODER = json.JSONEncoder(default=_plain, allow_nan=False)


def _write_file(path: str, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        _write_all(file, content)
    finally:
        os.close(file)


def _write_all(file: int, content: bytes) -> None:
    """All of it: the system may take less at a time, for one when a disk is nearly full."""
    while written := os.write(file, content):
        if written == len(content):
            return
        content = content[written:]
