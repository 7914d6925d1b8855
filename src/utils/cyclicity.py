"""How exactly sequences close: the first frame against the last; NumPy only."""

from dataclasses import dataclass

import numpy as np

CHUNK = 256  # sequences compared at once


def first_last_mse(x: np.ndarray, one: float = 1.0) -> np.ndarray:
    """Mean squared difference between the first and the last frame of every sequence.

    Args:
        x: (N, T, …) of any type; may be memory-mapped, only two frames of each sequence are read.
        one: the number in ``x`` that stands for full intensity, such as 255 in uint8.

    Returns:
        (N,) float64 in intensity²; exactly 0 where the two frames are equal.
    """
    mse = np.empty(len(x))
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        difference = part[:, 0].astype(np.float64) - part[:, -1]
        mse[start : start + CHUNK] = np.square(difference).reshape(len(part), -1).mean(1)
    return mse / one**2


def closes(mse: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) bool: which sequences close within ``threshold``, in intensity²; 0 asks for equal frames."""
    return (mse < threshold) | (mse == 0)


@dataclass(frozen=True)
class CyclicityReport:
    """First–last MSE of a set of sequences, in intensity².

    Attributes:
        count: sequences; cyclic: those that close within ``threshold``.
        mean, std, min, max: of the MSE; worst: the row of the largest.
    """

    count: int
    cyclic: int
    mean: float
    std: float
    min: float
    max: float
    worst: int
    threshold: float

    @classmethod
    def of(cls, mse: np.ndarray, threshold: float) -> "CyclicityReport":
        """Summarise (N,) values, at least one."""
        return cls(
            count=len(mse),
            cyclic=int(closes(mse, threshold).sum()),
            mean=float(mse.mean()),
            std=float(mse.std()),
            min=float(mse.min()),
            max=float(mse.max()),
            worst=int(mse.argmax()),
            threshold=threshold,
        )

    @property
    def rate(self) -> float:
        """Share of the sequences that close, in [0, 1]."""
        return self.cyclic / self.count

    def sentence(self) -> str:
        """All of it in one line."""
        goal = f"within {self.threshold:g}" if self.threshold else "exactly"
        return (
            f"{self.cyclic} of {self.count} sequences ({self.rate:.1%}) close {goal}; first–last MSE "
            f"{self.mean:.3g} ± {self.std:.3g}, from {self.min:.3g} to {self.max:.3g}"
        )
