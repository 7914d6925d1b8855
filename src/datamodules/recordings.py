"""Frames, transitions and windows of recordings, from one mapped file."""

import logging
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.datamodules.base import ArrayDataModule, Split, check_fractions
from src.datamodules.loader import Rows
from src.recordings import Recording, find_recordings
from src.recordings.collection import key
from src.recordings.events import action_key
from src.recordings.pack import Pack, pack
from src.recordings.windows import transitions, windows
from src.utils.errors import UserError, nearest
from src.utils.pictures import SPLITS, pair

log = logging.getLogger(__name__)
SAMPLES = ("frames", "transitions", "windows")
# Training frames that the background is taken from: the median of more is the same picture and takes seconds.
BACKGROUND_FRAMES = 2048
# Frames summed at once.
CHUNK = 1024
# Keys of a recording's metadata that name an episode that was collected or converted.
EPISODE = ("collection", "episode_index")
# What decides, with an episode's number, which episode it is; all else that a collection tells is how it is shown.
ORIGIN = ("dataset", "env", "env_args", "policy", "seed")


class RecordingsDataModule(ArrayDataModule):
    """What some recordings hold, split by recording.

    ``sample`` says what a batch has:

    - ``frames``: ``x`` (B, C, H, W),
    - ``transitions``: ``x`` and ``next`` (B, C, H, W), the ``action`` (B,) int64 between them, and with ``next`` the
      ``reward`` (B,) float32, NaN where none was recorded, and whether the episode ``ends`` there, (B,) bool,
    - ``windows``: ``x`` (B, T, C, H, W) and the actions between its frames, ``action`` (B, T − 1).

    Frames are stored as uint8, whole, in one mapped file that is made at the first use: a training never decodes a
    picture, and holds in memory what the system keeps of the file.

    Attributes:
        action_set: the actions that the numbers of ``action`` stand for, of all recordings together.
        mean_frame: the mean of the training frames, (C, H, W) in [0, 1].

    Args:
        path: a recording, or a folder with recordings in or below it.
        size: H or [H, W] to scale frames to; without it they must all be of one size.
        sample: see above.
        window: T, frames of a window.
        split: fractions of train, val and test.
        split_by: ``episode``, whole episodes; ``time``, the beginning, middle and end of each recording.
        split_seed: of the split by episode.
        components: see ``baseline_components`` of ``ArrayDataModule``.
        background: whether the frames' median is published.
        kwargs: see ``ArrayDataModule``.
    """

    def __init__(
        self,
        path: str | None = None,
        size: Sequence[int] | int | None = None,
        sample: str = "frames",
        window: int = 8,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        split_by: str = "episode",
        split_seed: int = 0,
        components: Sequence[int] = (8, 32),
        background: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sample not in SAMPLES:
            raise UserError(f"data.sample='{sample}' is unknown{nearest(sample, SAMPLES)}")
        if split_by not in ("episode", "time"):
            raise UserError(f"data.split_by='{split_by}' is unknown; choices: episode, time")
        if window < 2:
            raise UserError(f"data.window={window} must be at least 2 frames")
        self.path, self.sample, self.window = path, sample, window
        self.size = pair(size) if size else None
        check_fractions(split)
        self.split, self.split_by, self.split_seed = split, split_by, split_seed
        self.has_background = background
        self.baseline_components = tuple(components) if sample == "frames" else ()
        self.action_set: list[dict[str, Any]] = []

    def recordings(self) -> list[Recording]:
        """The recordings to learn from, opened.

        Raises:
            UserError: there is none.
        """
        if not self.path:
            raise UserError("data=recordings needs data.path=<a recording, or a folder of some>")
        found = find_recordings(Path(self.path))
        if not found:
            raise UserError(
                f"data.path={self.path} holds no recordings; scripts/record.py makes some"
            )
        return _once([Recording.open(path) for path in found])

    def load(self) -> dict[str, Split]:
        recordings = self.recordings()
        packed = pack(recordings, self.size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # nobody writes there
            store = torch.from_numpy(packed.frames)
        codes = self._unite(recordings)
        parts = self._parts(recordings)
        return {
            split: self._samples(recordings, packed, store, codes, parts[split]) for split in SPLITS
        }

    def _unite(self, recordings: Sequence[Recording]) -> list[np.ndarray]:
        """One set of actions for all recordings, and what the numbers of each become in it."""
        known: dict[tuple[Any, ...], int] = {}
        united = []
        for recording in recordings:
            codes = []
            for action in recording.action_set:
                codes.append(known.setdefault(action_key(action), len(known)))
                if codes[-1] == len(self.action_set):
                    self.action_set.append(action)
            united.append(np.array(codes, dtype=np.int64))
        return united

    # -- which observations belong to which split: (recording, first, end)

    def _parts(self, recordings: Sequence[Recording]) -> dict[str, list[tuple[int, int, int]]]:
        lengths = [len(recording.observations) for recording in recordings]
        if self.split_by == "time":
            return self._by_time(lengths)
        episodes: dict[str, list[int]] = {}
        for number, recording in enumerate(recordings):
            episodes.setdefault(_origin(recording), []).append(number)
        groups = [*episodes.values()]
        order = np.random.default_rng(self.split_seed).permutation(len(groups))
        chosen = np.split(order, np.cumsum(self._counts(len(groups)))[:-1])
        return {
            split: [
                (number, 0, lengths[number]) for group in sorted(part) for number in groups[group]
            ]
            for split, part in zip(SPLITS, chosen, strict=True)
        }

    def _counts(self, episodes: int) -> list[int]:
        """How many episodes train, val and test get: at least one each."""
        held_out = [max(1, round(share * episodes)) for share in self.split[1:]]
        if episodes <= sum(held_out):
            raise UserError(
                f"{self.name}: {episodes} episodes are too few to split by episode as {list(self.split)}; "
                "record more, or choose data.split_by=time"
            )
        return [episodes - sum(held_out), *held_out]

    def _by_time(self, lengths: Sequence[int]) -> dict[str, list[tuple[int, int, int]]]:
        ends = np.cumsum([0.0, *self.split])
        ends[-1] = 1.0
        return {
            split: [
                (number, round(ends[i] * length), round(ends[i + 1] * length))
                for number, length in enumerate(lengths)
            ]
            for i, split in enumerate(SPLITS)
        }

    # -- what a sample is made of

    def _samples(
        self,
        recordings: Sequence[Recording],
        packed: Pack,
        store: Tensor,
        codes: Sequence[np.ndarray],
        part: Sequence[tuple[int, int, int]],
    ) -> Split:
        pieces = [
            self._of_recording(recordings[number], codes[number], first, end)
            | {"start": int(packed.starts[number])}
            for number, first, end in part
        ]
        index = np.concatenate([piece["frames"] + piece["start"] for piece in pieces])
        self._check_length(index)
        rows = torch.from_numpy(index)
        columns = {
            name: np.concatenate([piece[name] for piece in pieces])
            for name in pieces[0]
            if name not in ("frames", "start")
        }
        if self.sample == "transitions":
            return {"x": Rows(store, rows[:, 0]), "next": Rows(store, rows[:, 1]), **columns}
        return {"x": Rows(store, rows), **columns}

    def _of_recording(
        self, recording: Recording, codes: np.ndarray, first: int, end: int
    ) -> dict[str, Any]:
        """The observations that each sample shows, as ``frames`` (N,) or (N, T), and its other columns."""
        if self.sample == "frames":
            return {"frames": np.arange(first, end)}
        if self.sample == "windows":
            shown, between = windows(recording, self.window)
            kept = (shown[:, 0] >= first) & (shown[:, -1] < end)
            return {"frames": shown[kept], "action": codes[between[kept]]}
        before, taken, after = transitions(recording)
        kept = (before >= first) & (after < end)
        before, taken, after = before[kept], taken[kept], after[kept]
        return {
            "frames": np.stack([before, after], 1),
            "action": codes[taken],
            "reward": recording.rewards[after],
            "ends": recording.terminated[after],
        }

    def _check_length(self, index: np.ndarray) -> None:
        if not len(index):
            what = f"windows of {self.window} frames" if self.sample == "windows" else self.sample
            raise UserError(f"{self.name}: the recordings are too short for {what} in every split")

    # -- statistics of the training frames

    @property
    def _training_rows(self) -> tuple[Tensor, Tensor]:
        """The frames' store and the rows of it that belong to the training split, each once."""
        x: Rows = self.splits["train"]["x"]
        return x.store, x.index.unique()

    @cached_property
    def background(self) -> Tensor | None:
        """The median of (at most 2048, evenly spread) training frames, (C, H, W) in [0, 1]; None if not wanted."""
        if not self.has_background:
            return None
        store, rows = self._training_rows
        chosen = rows[
            torch.linspace(0, len(rows) - 1, min(BACKGROUND_FRAMES, len(rows))).round().long()
        ]
        return store.index_select(0, chosen).median(0).values.float() / self.divisor

    @cached_property
    def mean_frame(self) -> Tensor:
        """The mean of all training frames, (C, H, W) in [0, 1]."""
        store, rows = self._training_rows
        sums = [store.index_select(0, part).sum(0, dtype=torch.int64) for part in rows.split(CHUNK)]
        return (torch.stack(sums).sum(0).double() / len(rows) / self.divisor).float()


def _once(recordings: Sequence[Recording]) -> list[Recording]:
    """Of an episode that was recorded again after an interruption the longer recording alone.

    Both would hold the same frames, and might come to lie in two splits.
    """
    kept: dict[str, Recording] = {}
    for one in recordings:
        # Of converted episodes the fingerprint tells datasets of one name apart.
        told = {name: one.meta.get(name) for name in (*EPISODE, "source_fingerprint")}
        name = key(told) if told["collection"] else str(one.path)
        other = kept.setdefault(name, one)
        if len(one.observations) > len(other.observations):
            kept[name] = one
    if len(kept) < len(recordings):
        log.warning(
            "%d recordings are the beginnings of others, and are left out",
            len(recordings) - len(kept),
        )
    return [*kept.values()]


def _origin(recording: Recording) -> str:
    """Which episode a recording shows, whole or in part, in whatever size or from whichever side.

    Recordings of one episode may not come to lie in two splits.
    """
    collection, number = map(recording.meta.get, EPISODE)
    if not isinstance(collection, dict):
        return str(recording.path)
    return key({"of": [collection.get(name) for name in ORIGIN], "number": number})
