"""The columns of a recording in one mapped file, so that opening does not depend on its length."""

import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.recordings.events import COLUMNS, FRAMES, META_FILE, SHARD, Table, read_table, shard_files
from src.recordings.files import replacing, shown
from src.utils.errors import UserError

CACHE = ".cache"
FILE = "index.bin"
VERSION = 1
ALIGNMENT = 64
MANY = 50  # shards, from which on reading them is shown


@dataclass
class Index:
    """What a recording's shards hold.

    Attributes:
        table: their columns.
        shards: their names.
        fingerprint: of their sizes and times, and of the folder of frames.
    """

    table: Table
    shards: list[str]
    fingerprint: str


def index_of(path: Path, action_space: list[dict[str, Any]] | None) -> Index:
    """The index of the recording in ``path``, from its file, or from the shards where that is none or out of date.

    Raises:
        UserError: a shard cannot be read.
    """
    file = path / CACHE / FILE
    if found := _mapped(file, path):
        return found
    # Before the mark, which it would change; where it cannot be done, that is told when the index is written.
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
    try:
        return _built(file, path, action_space)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _built(file: Path, path: Path, action_space: list[dict[str, Any]] | None) -> Index:
    entries = shard_files(path)
    names = [entry.name for entry in entries]
    mark = _mark(path, names)  # before reading: what grows meanwhile is read again next time
    times = [(entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries]
    content = repr([VERSION, times, _changed(path / FRAMES)])
    files = [path / name for name in names]
    told = shown(files, len(files), f"reading {path.name}", wanted=len(files) > MANY)
    table = read_table(path, told, action_space)
    index = Index(table, names, hashlib.sha256(content.encode()).hexdigest()[:32])
    try:
        _write(file, mark, index)
    except OSError as error:
        why = error.strerror or error
        table.warnings.append(
            f"no index can be written to {file.parent} ({why}): opening takes longer"
        )
    return index


def _mark(path: Path, shards: list[str]) -> list[Any]:
    """What differs once a recording has grown, after a few looks whatever its length.

    Files that come, go or are replaced change their directory, and only the last shard grows; a shard before it that
    is written over in place is not noticed.
    """
    # The directory's own time does not tell of one that came within a tick of its clock.
    following = path / f"events_shard_{len(shards):03d}.jsonl"
    watched = [path, path / FRAMES, path / META_FILE, following]
    return [VERSION, *map(_changed, [*watched, *(path / name for name in shards[-1:])])]


def _changed(path: Path) -> list[int]:
    """A file's size and time, a directory's time; nothing where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_mtime_ns, 0 if stat.S_ISDIR(status.st_mode) else status.st_size]


def _write(file: Path, mark: list[Any], index: Index) -> None:
    columns = index.table.columns
    counted = {"events": "steps", "observations": "observations", "actions": "actions"}
    header = {
        "mark": mark,
        "fingerprint": index.fingerprint,
        "shards": index.shards,
        "lengths": {of: len(columns[name]) for of, name in counted.items()},
        "action_set": index.table.action_set,
        "warnings": index.table.warnings,
    }
    with replacing(file) as out:
        out.write(json.dumps(header).encode() + b"\n")
        for name in COLUMNS:
            out.write(bytes(-out.tell() % ALIGNMENT))
            out.write(columns[name].tobytes())
        out.write(b"\n")


def _mapped(file: Path, path: Path) -> Index | None:
    """The index as it was written; None where there is none, where it is damaged, or the recording has changed."""
    try:
        with open(file, "rb") as opened:
            line = opened.readline()
            content = np.memmap(opened, np.uint8, mode="r").view(np.ndarray)
        header = json.loads(line)
        shards = header["shards"]
        # The index of somebody else's recording opens no file that is not one of its shards.
        if not all(map(SHARD.fullmatch, shards)) or header["mark"] != _mark(path, shards):
            return None
        columns, end = _columns(content, header["lengths"], len(line))
        if end + 1 != len(content):
            return None
        table = Table(columns, header["action_set"], header["warnings"])
        return Index(table, shards, header["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _columns(
    content: np.ndarray, lengths: dict[str, int], place: int
) -> tuple[dict[str, np.ndarray], int]:
    """The columns after the header, which ends at byte ``place``; and where the last one ends."""
    columns = {}
    for name, (of, kind) in COLUMNS.items():
        place += -place % ALIGNMENT
        end = place + lengths[of] * np.dtype(kind).itemsize
        columns[name] = content[place:end].view(kind)
        place = end
    return columns, place
