"""Data that fits in memory, stored as it came and turned into floats on the device."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from src.datamodules.loader import BatchLoader, EpochOrder, Rows
from src.utils.errors import UserError

Split = dict[str, Any]


class ArrayDataModule(LightningDataModule):
    """Base of the datamodules; a subclass says how its splits are read.

    Batches are dicts: ``x`` (B, *shape), on the device as float, pictures in [0, 1]; ``label`` (B,) int64 where
    there are labels.

    Attributes:
        background: (C, H, W), what most training frames show, where the data has one: see ``RecordingsDataModule``.
        baseline_components: sizes of the linear codes that a test is compared with, beside the model's own size.
        may_record: whether data that are recorded at their first use may be recorded; else missing ones are an error.

    Args:
        name: used in messages.
        shape: of one sample.
        kind: vector, image, sequence or transition.
        value_range: ``unit`` for [0, 1], ``rotation`` where rows of three numbers are rotation vectors, ``real`` for
            anything.
        batch_size: training samples a step and process.
        eval_batch_size: the same for validation and test.
        seed: of the training order.
        levels: grey levels of the stored pictures, published for likelihoods over them; None where nothing is said.
        classes: labels are 0 … classes − 1; None where the data has none, or nobody has counted them.
    """

    # What uint8 storage is divided by: 255 for pictures, 16 for scikit-learn's digits.
    divisor = 255.0
    baseline_components: tuple[int, ...] = ()
    may_record = True

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        kind: str,
        value_range: str = "unit",
        batch_size: int = 128,
        eval_batch_size: int = 512,
        seed: int = 0,
        levels: int | None = None,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.name, self.shape, self.kind, self.value_range = name, tuple(shape), kind, value_range
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.splits: dict[str, dict[str, Any]] = {}
        if levels not in (None, self.divisor + 1):
            raise UserError(
                f"data.levels={levels}: {name} is stored with {self.divisor + 1:.0f} grey levels; a likelihood may "
                "count fewer, data.levels may not"
            )

    def load(self) -> dict[str, Split]:
        """Read ``train``, ``val`` and ``test``, each a dict of arrays, or ``Rows``, with ``x`` as uint8 or float32."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Read and check the data, once."""
        if self.splits:
            return
        for split, arrays in self.load().items():
            self._check(split, arrays["x"])
            self._check_labels(split, arrays.get("label"))
            self.splits[split] = {
                name: array
                if isinstance(array, Rows)
                else torch.from_numpy(np.ascontiguousarray(array))
                for name, array in arrays.items()
            }
        if min(self.batch_size, self.eval_batch_size) < 1:
            raise UserError(
                f"data.batch_size={self.batch_size} and data.eval_batch_size={self.eval_batch_size} must be at least 1"
            )
        size = self.num_train
        if self.batch_size > size:
            raise UserError(
                f"data.batch_size={self.batch_size} is larger than the {size} training samples of "
                f"{self.name}; use at most {size}"
            )

    @property
    def num_train(self) -> int:
        """Samples of the training split."""
        return len(self.splits["train"]["x"])

    @property
    def background(self) -> Tensor | None:
        """None but for frames of recordings."""
        return None

    def _check(self, split: str, x: np.ndarray | Rows) -> None:
        if len(x) == 0:
            raise UserError(f"{self.name}: the {split} split is empty")
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(
                f"{self.name}: data.shape is {list(self.shape)} but the {split} samples are {list(x.shape[1:])}"
            )
        if isinstance(x, Rows):  # uint8
            return
        if x.dtype != np.uint8 and not np.isfinite(x).all():
            row = int(np.argmin(np.isfinite(x).reshape(len(x), prod(self.shape)).all(1)))
            raise UserError(
                f"{self.name}: sample {row} of the {split} split has NaN or infinite values"
            )

    def _check_labels(self, split: str, label: np.ndarray | None) -> None:
        if self.classes is None:
            return
        if label is None or label.min() < 0 or label.max() >= self.classes:
            found = "none" if label is None else f"{label.min()} to {label.max()}"
            raise UserError(
                f"{self.name}: data.classes={self.classes} asks for labels 0 to {self.classes - 1}, and those of "
                f"the {split} split are {found}"
            )

    def floats(self, split: str, limit: int | None = None) -> Tensor:
        """The first ``limit`` samples of a split as the model sees them, (N, *shape) float32."""
        return self._to_float(self.splits[split]["x"][:limit])

    def rows(self, split: str, rows: Tensor) -> Tensor:
        """Chosen samples of a split as the model sees them, (len(rows), *shape) float32."""
        return self._to_float(self.splits[split]["x"].index_select(0, rows))

    def spread(self, split: str, count: int) -> Tensor:
        """At most ``count`` rows, evenly spread over a split that may be sorted."""
        size = len(self.splits[split]["x"])
        return torch.linspace(0, size - 1, min(count, size)).round().long()

    def labels(self, split: str) -> Tensor | None:
        """(N,) int64, or None where the data has none."""
        return self.splits[split].get("label")

    def factors(self, split: str) -> Tensor | None:
        """(N, F) int64, what varies from sample to sample, or None where that is not known."""
        return self.splits[split].get("factors")

    def train_dataloader(self) -> BatchLoader:
        # debug=overfit learns the same batches in every epoch.
        whole = not (self.trainer and self.trainer.overfit_batches)  # type: ignore[attr-defined]
        return self._loader("train", self.batch_size, shuffle=whole)

    def val_dataloader(self) -> BatchLoader:
        return self._loader("val", self.eval_batch_size, shuffle=False)

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test", self.eval_batch_size, shuffle=False)

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        """A batch is a flat dict of tensors: Lightning's search for them in any nesting is left out."""
        cuda = device.type == "cuda"  # elsewhere the copy could be read before it is there
        return {name: tensor.to(device, non_blocking=cuda) for name, tensor in batch.items()}

    def on_after_batch_transfer(
        self, batch: dict[str, Tensor], dataloader_idx: int
    ) -> dict[str, Tensor]:
        """uint8 travels to the device; floats are made there."""
        pictures = {name for name, column in batch.items() if column.dtype == torch.uint8}
        return batch | {name: self._to_float(batch[name]) for name in {"x"} | pictures}

    def _to_float(self, x: Tensor) -> Tensor:
        dtype = (
            self.trainer.lightning_module.dtype if self.trainer else torch.float32
        )  # fp64 with trainer.precision=64-true
        return x.to(dtype).div_(self.divisor) if x.dtype == torch.uint8 else x.to(dtype)

    def _loader(self, split: str, batch_size: int, shuffle: bool) -> BatchLoader:
        tensors = self.splits[split]
        rank, world = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        size = len(tensors["x"])
        if size < 2 * world:
            raise UserError(
                f"{self.name}: {size} {split} samples are too few for {world} processes"
            )
        if batch_size < 2 and world > 1 and not shuffle:
            raise UserError(
                f"data.eval_batch_size={batch_size} must be at least 2 with {world} processes: "
                "batches are dealt out evenly, and one of them could be left with none"
            )
        return BatchLoader(
            tensors,
            EpochOrder(size, batch_size, shuffle, self.seed, rank, world),
        )


def seeded_split(size: int, fractions: Sequence[float], seed: int) -> dict[str, np.ndarray]:
    """Disjoint sorted rows for train, val and test.

    Args:
        size: number of units.
        fractions: of train, val and test, adding up to 1.
        seed: of the permutation, apart from the run's so that runs share their test data.
    """
    check_fractions(fractions)
    order = np.random.default_rng(seed).permutation(size)
    first, second = round(size * fractions[0]), round(size * (fractions[0] + fractions[1]))
    rows = np.split(order, [first, second])
    return {name: np.sort(part) for name, part in zip(("train", "val", "test"), rows, strict=True)}


def check_fractions(split: Sequence[float]) -> None:
    """Refuse what cannot be the fractions of train, val and test."""
    if len(split) != 3 or abs(sum(split) - 1) > 1e-6 or min(split) <= 0:
        raise UserError(
            f"data.split={list(split)} must be three positive fractions that add up to 1, such as [0.8, 0.1, 0.1]"
        )
