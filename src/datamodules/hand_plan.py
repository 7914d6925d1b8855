"""Which frames of which files make up train, val and test, and reading them into one array."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

import numpy as np

from src.datamodules.base import check_fractions
from src.datamodules.hand_files import CHUNK
from src.recordings.files import shown
from src.utils.errors import UserError
from src.utils.pictures import SPLITS


class Poses(Protocol):
    """What poses are read from: see ``PoseFile.read``."""

    def read(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]: ...


class DrawnPoses:
    """Poses in memory, (N, 30, 3) canonical float32, in the place of a file."""

    def __init__(self, poses: np.ndarray) -> None:
        self.poses = poses

    def read(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        yield from ((i, self.poses[rows[i : i + CHUNK]]) for i in range(0, len(rows), CHUNK))


@dataclass(frozen=True)
class Part:
    """Frames of one file in one split.

    Attributes:
        dataset: its name.
        poses: where they are.
        rows: (n,) the frames' numbers there.
        sequences: (n,) int64, the sequence of each, counted over all files.
    """

    dataset: str
    poses: Poses
    rows: np.ndarray
    sequences: np.ndarray


Plan = dict[str, list[Part]]


@dataclass(frozen=True)
class Gathered:
    """Poses in memory.

    Attributes:
        x: split → (N, 30, 3) float32, views of one array.
        sequences: split → (N,) int64.
        origins: split → data sets and rows there, in the order of ``x``.
    """

    x: dict[str, np.ndarray]
    sequences: dict[str, np.ndarray]
    origins: dict[str, list[tuple[str, np.ndarray]]]


def gather(plan: Plan) -> Gathered:
    """Read all parts of a plan, which is empty then: every file once, and no second copy of its poses."""
    origins = {split: [(part.dataset, part.rows) for part in plan[split]] for split in SPLITS}
    sequences = {split: _joined([part.sequences for part in plan[split]]) for split in SPLITS}
    ends = np.cumsum([len(sequences[split]) for split in SPLITS])
    waiting = _by_file(plan)
    store = np.empty((ends[-1], 30, 3), np.float32)
    for key in shown([*waiting], len(waiting), "reading poses"):
        _fill(store, waiting.pop(key))  # drawn poses are let go as soon as they have been copied
    x = dict(zip(SPLITS, np.split(store, ends[:-1]), strict=True))
    return Gathered(x, sequences, origins)


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *arrays])


def _by_file(plan: Plan) -> dict[int, list[tuple[Part, int]]]:
    """The parts of every file, each with the row at which it begins; empties the plan."""
    found: dict[int, list[tuple[Part, int]]] = {}
    start = 0
    for split in SPLITS:
        for part in plan[split]:
            found.setdefault(id(part.poses), []).append((part, start))
            start += len(part.rows)
        plan[split] = []
    return found


def _fill(store: np.ndarray, parts: Sequence[tuple[Part, int]]) -> None:
    """Read the parts of one file to where they belong."""
    rows = _joined([part.rows for part, _ in parts])
    targets = _joined([start + np.arange(len(part.rows)) for part, start in parts])
    order = np.argsort(rows, kind="stable")
    rows, targets = rows[order], targets[order]
    for first, poses in parts[0][0].poses.read(rows):
        store[targets[first : first + len(poses)]] = poses


# -- splitting by sequence


@dataclass(frozen=True)
class Source:
    """A file, the sequence (N,) of each of its frames from 0, and the sequences that are not used."""

    dataset: str
    poses: Poses
    sequences: np.ndarray
    left_out: Sequence[int] = ()


def by_sequence(sources: Sequence[Source], split: Sequence[float], seed: int, name: str) -> Plan:
    """Deal the sequences of each data set out to train, val and test.

    Data sets with too few sequences for that are dealt out together.

    Args:
        sources: the files; split: fractions; seed: of who gets what; name: of all, for messages.

    Raises:
        UserError: there are fewer sequences than splits.
    """
    check_fractions(split)
    starts = np.cumsum([0, *(int(source.sequences.max()) + 1 for source in sources)])
    groups: dict[str, list[np.ndarray]] = {}
    for source, start in zip(sources, starts, strict=False):
        used = np.setdiff1d(source.sequences, source.left_out)
        groups.setdefault(source.dataset, []).append(start + used)
    dealt = np.full(starts[-1], -1)
    for dataset, ids in _large_enough(groups, min(split)).items():
        dealt[ids] = _deal(len(ids), split, [seed, crc32(dataset.encode())], name)
    plan: Plan = {part: [] for part in SPLITS}
    for source, start in zip(sources, starts, strict=False):
        ids = start + source.sequences
        for number, part in enumerate(SPLITS):
            rows = np.flatnonzero(dealt[ids] == number)
            if len(rows):
                plan[part].append(Part(source.dataset, source.poses, rows, ids[rows]))
    return plan


def _large_enough(groups: Mapping[str, list[np.ndarray]], least: float) -> dict[str, np.ndarray]:
    """The sequences of each data set that has enough; those of the others together, or with the smallest."""
    joined = {dataset: np.concatenate(ids) for dataset, ids in groups.items()}
    large = {dataset: ids for dataset, ids in joined.items() if len(ids) * least >= 1}
    rest = _joined([ids for dataset, ids in joined.items() if dataset not in large])
    if not len(rest):
        return large
    if not large or len(rest) * least >= 1:
        return large | {"/": rest}  # which no data set is called
    smallest = min(large, key=lambda dataset: len(large[dataset]))
    return large | {smallest: np.concatenate([large[smallest], rest])}


def _deal(count: int, split: Sequence[float], seed: Sequence[int], name: str) -> np.ndarray:
    """Which split, 0 to 2, each of ``count`` sequences is in: at least one in each."""
    held_out = [max(1, round(share * count)) for share in split[1:]]
    if count <= sum(held_out):
        raise UserError(
            f"{name}: {count} sequences are too few to split by sequence as {list(split)}; give more frames, files "
            "with sequence_id, or a split of your own (data.source=splits or consolidated)"
        )
    numbers = np.repeat(np.arange(3), [count - sum(held_out), *held_out])
    return np.random.default_rng(seed).permutation(numbers)
