"""Whole batches from tensors in memory: one gather a batch, no per-sample collate."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class EpochOrder:
    """The order in which one process of ``world`` visits ``size`` samples in an epoch.

    A training order is a permutation drawn from (seed, epoch), dealt out to the processes; up to ``world - 1``
    samples, others in every epoch, are left out so that every process takes the same number of steps. An
    evaluation order visits every sample exactly once over all processes, in equally many batches.

    Args:
        size: number of samples.
        batch_size: samples a batch and process.
        shuffle: training if true.
        seed: of the permutations.
        rank, world: this process and how many there are.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.size, self.batch_size, self.shuffle, self.seed, self.rank, self.world = (
            size,
            batch_size,
            shuffle,
            seed,
            rank,
            world,
        )
        self.epoch = 0
        self.steps = -(-(size // world if shuffle else -(-size // world)) // batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def batches(self) -> list[Tensor]:
        """The sample indices of every batch of this process."""
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            mine = torch.randperm(self.size, generator=generator)[
                : self.size - self.size % self.world
            ]
            return list(mine[self.rank :: self.world].split(self.batch_size))
        return list(
            torch.arange(self.size).tensor_split(self.steps * self.world)[self.rank :: self.world]
        )


class Rows:
    """Samples made of rows of a larger tensor, in the place of a tensor (N, *sample) that would hold them all.

    The store may be a mapped file, of which only what is picked is read.

    Args:
        store: (F, …), such as all frames of some recordings.
        index: (N,) or (N, T) int64: the row, or the T rows, that a sample is made of.
    """

    def __init__(self, store: Tensor, index: Tensor) -> None:
        self.store, self.index = store, index
        self.shape, self.dtype = torch.Size((*index.shape, *store.shape[1:])), store.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice) -> Tensor:
        return self._pick(self.index[part])

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Samples ``rows`` (B,), as (B, *sample); like a tensor's, for ``dim`` 0."""
        return self._pick(self.index.index_select(dim, rows))

    def _pick(self, index: Tensor) -> Tensor:
        if index.dim() == 1:
            return self.store.index_select(0, index)
        return self.store.index_select(0, index.flatten()).unflatten(0, index.shape)


class BatchLoader:
    """Iterates over dicts of gathered rows; can be stopped after any batch and resumed there.

    Args:
        tensors: name → (N, …), all of the same N.
        order: which rows come when.
    """

    def __init__(self, tensors: Mapping[str, Tensor | Rows], order: EpochOrder) -> None:
        self.tensors = tensors
        self.sampler = order  # the name under which Lightning looks for set_epoch …
        self.batch_sampler = None  # … and where there is one, it looks here too
        self.position = 0
        self._start = 0

    def __len__(self) -> int:
        return self.sampler.steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        start, self._start = self._start % len(self), 0
        for number, rows in enumerate(self.sampler.batches()):
            if number >= start:
                self.position = number + 1
                yield {name: tensor.index_select(0, rows) for name, tensor in self.tensors.items()}

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch have been handed out."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration begin after the batches already seen."""
        self._start = self.position = state["position"]
