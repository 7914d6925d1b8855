"""The events of a recording: their files, their lines, and their columns."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

META_FILE = "session_meta.json"
FRAMES = "frames"
SESSION = "session_"
SHARD = re.compile(r"events_shard_(\d+)\.jsonl")
SHOWN = 3  # places that a warning names

# What the columns run over (events, observations whose frame exists, actions), and their types.
COLUMNS: dict[str, tuple[str, Any]] = {
    "steps": ("events", np.int64),
    "times": ("events", np.float64),
    "is_action": ("events", np.bool_),
    "shards": ("events", np.int64),  # index of the shard that holds the event's line
    "offsets": ("events", np.int64),  # the byte that the line begins at
    "observations": ("observations", np.int64),
    "actions_before": ("observations", np.int64),
    "ends_before": ("observations", np.int64),  # how many episodes have ended before
    "rewards": ("observations", np.float32),
    "terminated": ("observations", np.bool_),
    "truncated": ("observations", np.bool_),
    "actions": ("actions", np.int64),
    "action_codes": ("actions", np.int32),
}


@dataclass
class Table:
    """What the lines of all shards say.

    Attributes:
        columns: arrays by the names of ``COLUMNS``, in the order of the steps.
        action_set: what ``action_codes`` index.
        warnings: sentences on all that was passed over.
    """

    columns: dict[str, np.ndarray]
    action_set: list[dict[str, Any]]
    warnings: list[str]


def shard_files(path: Path) -> list[os.DirEntry[str]]:
    """The shards in a directory by their numbers (``_1000`` comes after ``_999``); none if it cannot be read."""
    try:
        with os.scandir(path) as entries:
            found = [(match, one) for one in entries if (match := SHARD.fullmatch(one.name))]
    except OSError:
        return []
    return [one for _, one in sorted(found, key=lambda pair: (int(pair[0][1]), pair[1].name))]


def action_key(action: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two actions the same one: the sorted pairs of key and value."""
    return tuple(sorted((str(key), _frozen(value)) for key, value in action.items()))


def _frozen(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return action_key(value) if isinstance(value, Mapping) else value


class Event(NamedTuple):
    """One line; ``time`` in seconds, NaN where it is not told."""

    step: int
    time: float
    kind: str
    data: dict[str, Any]


@dataclass
class _Warnings:
    """Places by what is wrong with them; each kind becomes one sentence."""

    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, where: str) -> None:
        self.places.setdefault(what, []).append(where)

    def sentences(self) -> list[str]:
        return [f"{what}: {listed(where)}" for what, where in self.places.items()]


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def read_table(
    path: Path, shards: Iterable[Path], action_space: list[dict[str, Any]] | None
) -> Table:
    """Read every line of ``shards`` of the recording in ``path``; what is damaged is passed over and told."""
    warnings = _Warnings()
    reader = _Reader(_Frames(path), action_space, warnings)
    for number, shard in enumerate(shards):
        for offset, event in _events(shard, warnings):
            reader.add(event, number, offset)
    return Table(reader.columns(), reader.action_set, warnings.sentences())


def _events(shard: Path, warnings: _Warnings) -> Iterator[tuple[int, Event]]:
    """The events of a shard with the bytes that they begin at."""
    content, offset = shard.read_bytes(), 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield offset, parse(line)
            except (ValueError, RecursionError):
                cut = number == len(lines)  # nothing ends it
                what = "last line cut off" if cut else "damaged line passed over"
                warnings.add(what, f"{shard.name} line {number}")
        offset += len(line) + 1


# json.loads looks for the encoding of each line first, which takes as long again.
_DECODER = json.JSONDecoder()


def parse(line: bytes) -> Event:
    """One line.

    Raises:
        ValueError: it is no event.
    """
    text = line.decode().strip()
    event, end = _DECODER.raw_decode(text)
    if not isinstance(event, dict) or end != len(text):
        raise ValueError("no object")
    data, step, time = event.get("data", {}), event.get("step", 0), event.get("timestamp")
    if not isinstance(data, dict) or not isinstance(step, int) or abs(step) >= 2**63:
        raise ValueError("no event")
    return Event(step, _number(time), str(event.get("type")), data)


def _number(value: Any) -> float:
    """A number, or NaN where there is none."""
    if isinstance(value, float):
        return value
    return float(value) if isinstance(value, int) and abs(value) < 2**127 else float("nan")


class _Frames:
    """Which frames there are, with one look at their directory instead of one at each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = set(os.listdir(path / FRAMES)) if (path / FRAMES).is_dir() else set()

    def has(self, frame_path: Any) -> bool:
        """Whether the frame is there, or lies outside of the recording, where nobody looks before it is refused."""
        if not isinstance(frame_path, str):
            return False
        folder, _, name = frame_path.rpartition("/")
        if folder == FRAMES:
            return name in self.names
        return escapes(frame_path) or os.path.isfile(self.path / frame_path)


def escapes(frame_path: str) -> bool:
    """Whether a path, as it is written, leads out of the recording."""
    parts = re.split(r"[/\\]", frame_path)
    return (
        frame_path.startswith(("/", "\\"))
        or re.match("[A-Za-z]:", parts[0]) is not None
        or ".." in parts
        or "\0" in frame_path
    )


OBSERVED = [
    ("row", np.int64),
    ("reward", np.float32),
    ("terminated", np.bool_),
    ("truncated", np.bool_),
    ("is_there", np.bool_),
]


class _Reader:
    """Gathers events into columns."""

    def __init__(
        self, frames: _Frames, action_space: list[dict[str, Any]] | None, warnings: _Warnings
    ) -> None:
        self.frames, self.warnings = frames, warnings
        self.action_set = list(action_space or [])
        self.codes = {
            action_key(action): code for code, action in reversed([*enumerate(self.action_set)])
        }
        self.as_written: dict[tuple[Any, ...], int] = {}
        self.is_told = bool(self.action_set)
        self.rows: list[tuple[int, float, bool, int, int]] = []
        # By the row that an event has before sorting.
        self.observed: list[tuple[int, float, bool, bool, bool]] = []
        self.acted: list[tuple[int, int]] = []

    def add(self, event: Event, shard: int, offset: int) -> None:
        row = len(self.rows)
        if event.kind == "action":
            self.acted.append((row, self._code(event.data)))
        elif event.kind == "observation":
            self._observe(row, event)
        else:
            self.warnings.add("event of an unknown type passed over", repr(event.kind))
            return
        self.rows.append((event.step, event.time, event.kind == "action", shard, offset))

    def _observe(self, row: int, event: Event) -> None:
        data = event.data
        is_there = self.frames.has(data.get("frame_path"))
        if not is_there:
            self.warnings.add("missing frame", str(data.get("frame_path", f"of step {event.step}")))
        elif escapes(data["frame_path"]):
            self.warnings.add("frame outside of the recording, refused", data["frame_path"])
        ends = bool(data.get("terminated")), bool(data.get("truncated"))
        self.observed.append((row, _number(data.get("reward")), *ends, is_there))

    def _code(self, action: dict[str, Any]) -> int:
        """Its code; that of an action written with the same keys in the same order is found without sorting them."""
        try:
            as_written = tuple(action.items())
            if (known := self.as_written.get(as_written)) is not None:
                return known
        except TypeError:  # lists in it
            return self._code_by_key(action)
        code = self.as_written[as_written] = self._code_by_key(action)
        return code

    def _code_by_key(self, action: dict[str, Any]) -> int:
        key = action_key(action)
        code = self.codes.get(key)
        if code is None:
            if self.is_told:
                self.warnings.add("action outside of the action space", json.dumps(action))
            code = self.codes[key] = len(self.action_set)
            self.action_set.append(action)
        return code

    def columns(self) -> dict[str, np.ndarray]:
        kinds = {name: kind for name, (of, kind) in COLUMNS.items() if of == "events"}
        events = np.array(self.rows, [*kinds.items()])
        order = np.argsort(events["steps"], kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        found = {name: np.ascontiguousarray(events[name][order]) for name in kinds}
        return found | self._actions(rank) | self._observations(rank, found["is_action"])

    def _actions(self, rank: np.ndarray) -> dict[str, np.ndarray]:
        acted = np.array(self.acted, np.int64).reshape(-1, 2)
        places = rank[acted[:, 0]]
        order = np.argsort(places)
        return {"actions": places[order], "action_codes": acted[order, 1].astype(np.int32)}

    def _observations(self, rank: np.ndarray, is_action: np.ndarray) -> dict[str, np.ndarray]:
        observed = np.array(self.observed, OBSERVED)
        observed["row"] = rank[observed["row"]]
        observed = observed[np.argsort(observed["row"])]
        ends = (observed["terminated"] | observed["truncated"]).astype(np.int64)
        # Also by one whose frame is missing.
        ends_before = np.cumsum(ends) - ends
        keep, places = observed["is_there"], observed["row"]
        return {
            "observations": places[keep],
            "actions_before": np.cumsum(is_action, dtype=np.int64)[places[keep]],
            "ends_before": ends_before[keep],
            "rewards": observed["reward"][keep],
            "terminated": observed["terminated"][keep],
            "truncated": observed["truncated"][keep],
        }
