"""Poses to test with, and a stand-in for their datamodule."""

from math import pi

import torch
from torch import Tensor

SHAPE = (30, 3)


def poses(n: int, spread: float = 0.5) -> Tensor:
    return spread * torch.randn(n, *SHAPE, dtype=torch.float64)


def longer_way(x: Tensor) -> Tensor:
    """The same rotations by the vectors around the other way, of angles 2π − θ."""
    return x * (1 - 2 * pi / x.norm(dim=-1, keepdim=True))


class Poses:
    """A datamodule, as far as ``learn_from`` is concerned; one number of its poses may never change."""

    def __init__(self, still: bool = False) -> None:
        torch.manual_seed(3)
        self.x = 0.2 + (0.1 + 0.4 * torch.rand(30, 3)) * torch.randn(500, *SHAPE)
        if still:
            self.x[:, 4, 1] = 0.25

    def floats(self, split: str) -> Tensor:
        return {"train": self.x}[split]
