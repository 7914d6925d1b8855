"""scikit-learn's handwritten digits."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from src.datamodules.base import ArrayDataModule, Split, seeded_split


class DigitsDataModule(ArrayDataModule):
    """1797 real handwritten digits of 8×8 pixels with 17 grey levels, with labels (Alpaydin & Kaynak 1998, UCI).

    Args:
        split: fractions of train, val and test.
        split_seed: of the split.
        kwargs: see ``ArrayDataModule``.
    """

    divisor = 16.0

    def __init__(
        self, split: Sequence[float] = (0.7, 0.1, 0.2), split_seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.split, self.split_seed = split, split_seed

    def load(self) -> dict[str, Split]:
        from sklearn.datasets import load_digits  # slow to import, and only this class needs it

        digits = load_digits()
        x, label = digits.images[:, None].astype(np.uint8), digits.target.astype(np.int64)
        rows = seeded_split(len(x), self.split, self.split_seed)
        return {name: {"x": x[part], "label": label[part]} for name, part in rows.items()}
