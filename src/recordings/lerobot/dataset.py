"""LeRobot datasets on disk, v2.0, v2.1 and v3.0: their episodes, tables and exact frames."""

import io
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.recordings.lerobot.info import Feature, Info, confined, read_info, read_lines
from src.recordings.lerobot.tables import read_cells, read_columns, read_rows
from src.recordings.lerobot.video import frames_at
from src.utils.errors import UserError, nearest

Frames = Generator[np.ndarray, None, None]


@dataclass(frozen=True)
class Span:
    """Where one camera's frames of an episode lie: frame i is at ``start`` + i / fps seconds of ``file``."""

    file: Path
    start: float


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        index: its number, as the dataset counts.
        length: frames.
        tasks: what was to be done, in words.
        data: the parquet file with its rows.
        packed: whether that file holds other episodes too.
        videos: per camera of dtype ``video``.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    packed: bool
    videos: Mapping[str, Span]


def open_dataset(path: str | Path) -> "LeRobotDataset":
    """The dataset whose folder (the one with ``meta/``) is ``path``.

    Raises:
        UserError: there is none, it is of another version, or its metadata is damaged.
    """
    return LeRobotDataset(read_info(Path(path)))


class LeRobotDataset:
    """A dataset; nothing but its ``meta/`` is read before a table or frame is asked for."""

    def __init__(self, info: Info) -> None:
        self.info = info
        self.path = info.root
        self.version = info.version
        self.fps = info.fps
        self.robot_type = info.robot_type
        self.features = info.features
        self.cameras = tuple(key for key, feature in info.features.items() if feature.is_camera)

    @cached_property
    def episodes(self) -> dict[int, Episode]:
        """All episodes by their number, in order."""
        found = _episodes_v2(self.info) if self.info.major == 2 else _episodes_v3(self.info)
        return {episode.index: episode for episode in sorted(found, key=lambda one: one.index)}

    def episode(self, index: int) -> Episode:
        """Episode ``index``.

        Raises:
            UserError: the dataset has none of this number.
        """
        if index in self.episodes:
            return self.episodes[index]
        numbers = list(self.episodes)
        there = f"it has {numbers[0]} to {numbers[-1]}" if numbers else "it has none"
        raise UserError(f"{self.path} has no episode {index}; {there}")

    def camera(self, name: str) -> str:
        """The key of a camera from its key or the last part of it (``front``).

        Raises:
            UserError: no camera, or more than one, is called so.
        """
        if name in self.cameras:
            return name
        called = [key for key in self.cameras if key.rsplit(".", 1)[-1] == name]
        if len(called) != 1:
            raise UserError(f"{self.path} has no camera '{name}'{nearest(name, self.cameras)}")
        return called[0]

    def table(self, index: int) -> dict[str, np.ndarray]:
        """All columns of numbers of an episode, (length,) or (length, entries) each.

        Raises:
            UserError: the rows are missing, or not as many as the metadata says.
        """
        episode = self.episode(index)
        wanted = [key for key, feature in self.features.items() if _is_numeric(feature)]
        columns = read_columns(episode.data, wanted, self._rows_of(episode))
        for key, values in columns.items():
            if len(values) != episode.length:
                raise UserError(
                    f"{episode.data} has {len(values)} rows of '{key}' for episode {index}; "
                    f"its metadata says {episode.length}"
                )
        return columns

    def frames(self, index: int, camera: str, numbers: Sequence[int] | None = None) -> Frames:
        """Frames of an episode, (H, W, 3) uint8, each decoded once, one in memory at a time.

        Args:
            index: the episode.
            camera: its key or last part.
            numbers: which frames, from 0, not decreasing; ``None``: all.

        Raises:
            UserError: a frame is missing or damaged.
        """
        episode, key = self.episode(index), self.camera(camera)
        wanted = list(range(episode.length)) if numbers is None else [int(n) for n in numbers]
        if wanted and not (wanted[0] >= 0 and wanted[-1] < episode.length):
            raise UserError(f"episode {index} of {self.path} has frames 0 to {episode.length - 1}")
        if key in episode.videos:
            span = episode.videos[key]
            times = [span.start + number / self.fps for number in wanted]
            # Half a frame, and the rounding of times that are stored as ticks.
            return frames_at(span.file, times, tolerance=0.5 / self.fps + 1e-6)
        return self._stored(episode, key, wanted)

    def frame(self, index: int, camera: str, number: int) -> np.ndarray:
        """Frame ``number`` of an episode, (H, W, 3) uint8, sought in its file."""
        return next(self.frames(index, camera, [number]))

    def _stored(self, episode: Episode, key: str, wanted: Iterable[int]) -> Frames:
        """Pictures that lie in the table itself."""
        cells = enumerate(read_cells(episode.data, key, self._rows_of(episode)))
        number, cell = -1, None
        for want in wanted:
            while number < want:
                number, cell = next(cells, (want, None))
            yield _picture(cell, self.path, f"{episode.data}, '{key}', frame {want}")

    def _rows_of(self, episode: Episode) -> int | None:
        return episode.index if episode.packed else None


def _is_numeric(feature: Feature) -> bool:
    return feature.dtype not in ("video", "image", "string", "language")


def _picture(cell: Any, root: Path, where: str) -> np.ndarray:
    """A cell {bytes, path}, or plain bytes → (H, W, 3) uint8."""
    from PIL import Image

    data = cell if isinstance(cell, bytes) else (cell or {}).get("bytes")
    name = None if isinstance(cell, bytes) else (cell or {}).get("path")
    if data is None and name is None:
        raise UserError(f"{where} is missing")
    try:
        source = io.BytesIO(data) if data is not None else confined(root, str(name))
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise UserError(f"{where} cannot be read as a picture: {error}") from error


def _episodes_v2(info: Info) -> list[Episode]:
    """One line of ``meta/episodes.jsonl``, one parquet file and one video per camera for each."""
    file = info.root / "meta" / "episodes.jsonl"
    episodes = []
    for row in read_lines(file):
        index = _number(row, "episode_index", file)
        fields = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        videos = {
            key: Span(info.video_file(**fields, video_key=key), 0.0) for key in _video_keys(info)
        }
        length = _number(row, "length", file)
        data = info.data_file(**fields)
        episodes.append(Episode(index, length, _tasks(row), data, packed=False, videos=videos))
    return episodes


def _episodes_v3(info: Info) -> list[Episode]:
    """Rows of ``meta/episodes/chunk-…/file-….parquet``, which say in which files an episode lies."""
    files = sorted((info.root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise UserError(f"{info.root} has no meta/episodes/chunk-000/file-000.parquet")
    episodes = []
    for file in files:
        # Statistics of every feature make most of such a file.
        for row in read_rows(file, lambda name: not name.startswith("stats/")):
            episodes.append(_packed(row, info, file))
    return episodes


def _packed(row: Mapping[str, Any], info: Info, file: Path) -> Episode:
    videos = {}
    for key in _video_keys(info):
        place = _place(row, f"videos/{key}", file)
        start = row.get(f"videos/{key}/from_timestamp")
        if start is None:
            raise UserError(f"{file} does not say 'videos/{key}/from_timestamp'")
        videos[key] = Span(info.video_file(**place, video_key=key), float(start))
    return Episode(
        index=_number(row, "episode_index", file),
        length=_number(row, "length", file),
        tasks=_tasks(row),
        data=info.data_file(**_place(row, "data", file)),
        packed=True,
        videos=videos,
    )


def _place(row: Mapping[str, Any], prefix: str, file: Path) -> dict[str, int]:
    return {
        field: _number(row, f"{prefix}/{field}", file) for field in ("chunk_index", "file_index")
    }


def _number(row: Mapping[str, Any], key: str, file: Path) -> int:
    value = row.get(key)
    if not isinstance(value, (int, float)) or value < 0 or not float(value).is_integer():
        raise UserError(f"{file}: '{key}' is {value!r} where a number from 0 is needed")
    return int(value)


def _tasks(row: Mapping[str, Any]) -> tuple[str, ...]:
    told = row.get("tasks") or ()
    return (told,) if isinstance(told, str) else tuple(str(task) for task in told)


def _video_keys(info: Info) -> list[str]:
    return [key for key, feature in info.features.items() if feature.dtype == "video"]
