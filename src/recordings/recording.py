"""Reading a recording, whoever wrote it and however it ended."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from src.recordings.events import META_FILE, escapes, parse, shard_files
from src.recordings.images import decode, picture_size
from src.recordings.index import index_of
from src.utils.errors import UserError, nearest


class Recording:
    """One recording as its files tell it, in columns sorted by step; nothing of it is held but what is used.

    E events are N observations whose frames exist, M actions, and observations whose frames are missing.

    Attributes:
        path: its directory.
        meta: the content of session_meta.json, unknown keys too.
        name: of the directory.
        robot: toroidal_dot, jetbot, so101, or another robot's name in lower case.
        warnings: sentences on everything that was passed over.
        finished: whether its writer has ended it.
        fingerprint: changes with the events and the folder of frames.
        num_events: E.
        steps: (E,) int64.
        times: (E,) float64, seconds as stored; NaN where there is none.
        is_action: (E,) bool.
        observations: (N,) int64, event index of every observation whose frame exists.
        actions: (M,) int64, event index of every action.
        action_set: the action space as stored, or the actions in the order of their first use.
        action_codes: (M,) int32, index into ``action_set``.
        rewards: (N,) float32, received on arriving; NaN where not told.
        terminated: (N,) bool.
        truncated: (N,) bool.
        actions_before: (N,) int64, how many actions come before each observation.
        ends_before: (N,) int64, how many observations before each one have ended an episode.
    """

    num_events: int
    steps: np.ndarray
    times: np.ndarray
    is_action: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    action_codes: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    actions_before: np.ndarray
    ends_before: np.ndarray

    @classmethod
    def open(cls, path: str | Path) -> "Recording":
        """The recording in the directory ``path``.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        return cls(Path(path))

    def __init__(self, path: Path) -> None:
        _check_is_recording(path)
        self.path, self.name = path, path.resolve().name
        self.meta, warnings = meta_of(path)
        index = index_of(path, _action_space(self.meta))
        table, self._shards, self.fingerprint = index.table, index.shards, index.fingerprint
        for column in table.columns.values():
            column.flags.writeable = False
        columns = dict(table.columns)
        self._shard_of, self._offset_of = columns.pop("shards"), columns.pop("offsets")
        vars(self).update(columns)
        self.action_set, self.num_events = table.action_set, len(self.steps)
        self.warnings = (*warnings, *table.warnings)
        self.finished = any(self.meta.get(key) is not None for key in ("end_time", "total_steps"))
        self.robot = robot_of(self.meta, path, self.action_set)

    def __repr__(self) -> str:
        return f"Recording({str(self.path)!r}: {len(self.observations)} observations, {len(self.actions)} actions)"

    def event(self, index: int) -> dict[str, Any]:
        """An event as it was written.

        Raises:
            UserError: its shard was written over.
        """
        shard = self.path / self._shards[int(self._shard_of[index])]
        try:
            with open(shard, "rb") as lines:
                lines.seek(int(self._offset_of[index]))
                line = lines.readline()
            parse(line)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{shard} is not what the index of {self.path} says ({error}); remove its .cache"
            ) from error
        return dict(json.loads(line))

    def frame_path(self, index: int) -> Path:
        """The file of observation ``index``'s frame.

        Raises:
            UserError: it lies outside of the recording.
        """
        event = int(self.observations[index])
        text = str(self.event(event)["data"].get("frame_path"))
        inside = self.path.resolve()
        # Not Path.resolve, which does not bear links that go in a circle.
        if escapes(text) or not Path(os.path.realpath(inside / text)).is_relative_to(inside):
            raise UserError(
                f"frame_path {text!r} of event {event} of {self.path} leads out of the recording"
            )
        return self.path / text

    def frame(self, index: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """Observation ``index``'s frame as (H, W, 3) uint8, scaled to ``size`` = (H, W) where it is given.

        Raises:
            UserError: it lies outside of the recording, or is no picture.
        """
        return decode(self.frame_path(index), size)

    def frame_size(self) -> tuple[int, int] | None:
        """(H, W) of the first frame, None where there is none.

        Raises:
            UserError: as ``frame`` does.
        """
        return picture_size(self.frame_path(0)) if len(self.observations) else None

    def frames(self, progress: bool = True, folder: Path | None = None) -> np.ndarray:
        """(N, 3, H, W) uint8, mapped; decoded once, into a file in ``folder`` (the recording's own without it).

        Raises:
            UserError: a frame cannot be read or has another size, or the file cannot be written.
        """
        from src.recordings.pack import pack  # which reads recordings

        return pack([self], folder=folder, progress=progress).frames


def robot_of(meta: dict[str, Any], path: Path, action_set: list[dict[str, Any]]) -> str:
    """What recorded: by ``robot_type``, else by the names of the directories, else by the form of the actions."""
    told = meta.get("robot_type")
    if isinstance(told, str) and told:
        return _robot(told) or told.lower()
    for parent in path.resolve().parents:
        if robot := _robot(parent.name):
            return robot
    if not action_set:
        return path.resolve().parent.name.lower()
    return "toroidal_dot" if "action" in action_set[0] else "jetbot"


def _robot(name: str) -> str | None:
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    known = {"toroidal": "toroidal_dot", "jetbot": "jetbot", "so101": "so101"}
    return next((robot for part, robot in known.items() if part in letters), None)


def _check_is_recording(path: Path) -> None:
    if os.path.isfile(path / META_FILE) or shard_files(path):
        return
    if path.is_dir():
        raise UserError(
            f"{path} is no recording: it has neither {META_FILE} nor events_shard_000.jsonl"
        )
    there = (
        [one.name for one in path.parent.iterdir() if one.is_dir()] if path.parent.is_dir() else []
    )
    raise UserError(f"{path} does not exist{nearest(path.name, there)}")


def meta_of(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A recording's metadata, empty where it cannot be read; and what is to be said of it."""
    try:
        meta = json.loads((path / META_FILE).read_bytes())
    except FileNotFoundError:
        return {}, [f"{META_FILE} is missing"]
    except (ValueError, RecursionError, OSError) as error:
        return {}, [f"{META_FILE} cannot be read: {error}"]
    return (meta, []) if isinstance(meta, dict) else ({}, [f"{META_FILE} holds no object"])


def _action_space(meta: dict[str, Any]) -> list[dict[str, Any]] | None:
    space = meta.get("action_space")
    is_one = isinstance(space, list) and all(isinstance(one, dict) for one in space)
    return space if is_one else None
