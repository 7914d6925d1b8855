"""What ``meta/info.json`` of a LeRobot dataset says: version, rate, features, and where its files lie."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from src.recordings.events import escapes
from src.utils.errors import UserError, nearest

VERSIONS = ("v2.0", "v2.1", "v3.0")
FIELD = re.compile(r"\{(\w+)(?::\d{0,2}d?)?\}")


@dataclass(frozen=True)
class Feature:
    """One column of the dataset.

    Attributes:
        key: its name, as ``observation.images.front``.
        dtype: ``video``, ``image``, ``string``, or a NumPy type.
        shape: of one frame's value; pictures come as (C, H, W) or (H, W, C).
        names: of the entries of a vector, in order; empty where the dataset tells none.
        details: the ``info`` of a video feature.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    details: Mapping[str, Any]

    @property
    def is_camera(self) -> bool:
        """Whether it holds pictures that are looked at; depth maps are no pictures."""
        is_depth = any(self.details.get(key) for key in ("video.is_depth_map", "is_depth_map"))
        return self.dtype in ("video", "image") and not is_depth

    @property
    def entries(self) -> tuple[str, ...]:
        """A name for every entry of the vector, made up from the key where there is none."""
        size = prod(self.shape)
        if len(self.names) == size:
            return self.names
        return tuple(f"{self.key}_{number}" for number in range(size))

    def places(self, name: str) -> list[int]:
        """Where the entry called ``name`` is; those that may be meant by it where none has this very name."""
        entries = list(enumerate(self.entries))
        exact = [place for place, entry in entries if entry == name]
        return exact or [place for place, entry in entries if is_called(entry, name)]

    def place(self, name: str, root: Path) -> int:
        """Where the one entry is that may be called ``name``.

        Raises:
            UserError: there is none in the dataset at ``root``, or more than one.
        """
        found = self.places(name)
        if len(found) == 1:
            return found[0]
        if found:
            many = ", ".join(self.entries[place] for place in found)
            raise UserError(f"joint='{name}' may be any of {many} in {root}; give the whole name")
        raise UserError(f"{root} has no joint '{name}'{nearest(name, self.entries)}")


@dataclass(frozen=True)
class Info:
    """``meta/info.json``, checked."""

    root: Path
    version: str
    fps: float
    robot_type: str | None
    chunks_size: int
    features: Mapping[str, Feature]
    data_path: str
    video_path: str

    @property
    def major(self) -> int:
        """2 or 3: one file per episode, or many episodes in one."""
        return int(self.version[1])

    def data_file(self, **fields: Any) -> Path:
        """The parquet file that ``data_path`` names with these fields."""
        return self._file(self.data_path, "data_path", fields)

    def video_file(self, **fields: Any) -> Path:
        """The video that ``video_path`` names with these fields."""
        return self._file(self.video_path, "video_path", fields)

    def _file(self, template: str, name: str, fields: Mapping[str, Any]) -> Path:
        where = f"{name}='{template}' of {self.root / 'meta' / 'info.json'}"
        # str.format reaches attributes ({a.__class__}) and widths without end, so only plain fields are let through.
        if "{" in (rest := FIELD.sub("", template)) or "}" in rest:
            raise UserError(f"{where} cannot be filled in; fields look like {{chunk_index:03d}}")
        wanted = {match[1] for match in FIELD.finditer(template)}
        if unknown := sorted(wanted - set(fields)):
            known = ", ".join(sorted(fields))
            raise UserError(f"{where} asks for '{unknown[0]}'; fields that are known: {known}")
        try:
            name = template.format(**fields)
        except ValueError as error:
            raise UserError(f"{where} cannot be filled in: {error}") from error
        return confined(self.root, name)


def is_called(full: str, name: str) -> bool:
    """Whether ``main_shoulder_pan`` or ``shoulder_pan.pos`` is meant by ``shoulder_pan``."""
    plain, name = full.removesuffix(".pos"), name.removesuffix(".pos")
    return plain == name or plain.endswith(("_" + name, "." + name))


def confined(root: Path, relative: str) -> Path:
    """``root / relative``.

    Raises:
        UserError: it lies outside of ``root``: absolute, through ``..``, or through a link.
    """
    path = root / relative
    folder = os.path.realpath(path.parent)  # Path.resolve does not bear links that go in a circle
    # A file that is itself a link is how the hub's own cache stores datasets; a folder that leads out is not.
    if escapes(relative) or not Path(folder).is_relative_to(os.path.realpath(root)):
        raise UserError(f"{root} names a file outside of itself, '{relative}'; it is not read")
    return path


def read_info(root: Path) -> Info:
    """``meta/info.json`` of the dataset at ``root``.

    Raises:
        UserError: there is none, it is damaged, or of a version that is not read.
    """
    file = root / "meta" / "info.json"
    if not file.is_file():
        there = "" if root.is_dir() else ", nor is the folder there"
        raise UserError(f"{root} holds no LeRobot dataset: meta/info.json is not there{there}")
    raw = read_json(file)
    version = str(raw.get("codebase_version"))
    if version not in VERSIONS:
        raise UserError(
            f"{file} is of codebase_version {version}; versions that are read: {', '.join(VERSIONS)}"
        )
    return _info(root, file, version, raw)


def _info(root: Path, file: Path, version: str, raw: Mapping[str, Any]) -> Info:
    try:
        info = Info(
            root=root,
            version=version,
            fps=float(raw["fps"]),
            robot_type=raw.get("robot_type"),
            chunks_size=int(raw.get("chunks_size") or 1000),
            features={key: _feature(key, told) for key, told in raw["features"].items()},
            data_path=str(raw["data_path"]),
            video_path=str(raw.get("video_path") or ""),  # null where there is no video
        )
    except KeyError as error:
        raise UserError(f"{file} does not say {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    if not info.fps > 0:
        raise UserError(f"{file} says fps={info.fps:g}; it must be more than 0")
    return info


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``.

    Raises:
        UserError: it cannot be read, or is no object.
    """
    try:
        raw = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{file} holds no JSON object")
    return raw


def read_lines(file: Path, may_be_cut: bool = False) -> list[dict[str, Any]]:
    """The JSON objects of the lines of ``file``; blank lines are skipped.

    Args:
        file: JSON Lines.
        may_be_cut: a damaged last line is dropped, as of a log whose writer was killed.

    Raises:
        UserError: naming the line that is damaged.
    """
    rows = []
    try:
        lines = file.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError as error:
            if may_be_cut and number == len(lines):
                break
            raise UserError(f"{file}, line {number} is damaged: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{file}, line {number} is no JSON object")
        if row:
            rows.append(row)
    return rows


def _feature(key: str, told: Mapping[str, Any]) -> Feature:
    shape = tuple(int(size) for size in told.get("shape") or (1,))
    details = told.get("info") or told.get("video_info") or {}
    return Feature(key, str(told["dtype"]), shape, _names(told.get("names")), dict(details))


def _names(told: Any) -> tuple[str, ...]:
    """Names of entries from a list, a list of lists, a dict of lists, or a dict of positions."""
    if told is None:
        return ()
    if isinstance(told, str):
        return (told,)
    if isinstance(told, Mapping):
        if all(isinstance(place, int) for place in told.values()):
            return tuple(sorted(told, key=lambda name: told[name]))
        told = list(told.values())
    return tuple(name for part in told for name in _names(part))
