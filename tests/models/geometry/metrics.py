"""Metrics that several tests look at."""

import torch
from torch import Tensor

from src.models.geometry import CentroidMetric


def random_metric(
    count: int = 7,
    dim: int = 4,
    temperature: float = 0.8,
    diagonal: bool = False,
    dtype: torch.dtype = torch.float64,
) -> CentroidMetric:
    """Overlapping centroids with matrices in all directions."""
    factors = torch.randn(count, dim, dim, dtype=dtype)
    matrices = factors @ factors.mT / dim
    if diagonal:
        matrices = matrices.diagonal(dim1=1, dim2=2)
    return CentroidMetric(torch.randn(count, dim, dtype=dtype), matrices, temperature, 0.01)


def scaled_metric(temperature: float, dtype: torch.dtype = torch.float32) -> CentroidMetric:
    """Like the reference's metric_T0.7_scaled.pt: 50 centroids of norm ≈ 4 in 16-D, diagonals of mean 1."""
    directions = torch.nn.functional.normalize(torch.randn(50, 16, dtype=dtype), dim=1)
    diagonals = 0.42 + 1.75 * torch.rand(50, 16, dtype=dtype)
    diagonals = diagonals / diagonals.mean(1, keepdim=True)
    return CentroidMetric(4 * directions, diagonals.diag_embed(), temperature, 0.01)


def arc_metric(
    count: int = 25, dtype: torch.dtype = torch.float64
) -> tuple[CentroidMetric, Tensor]:
    """Centroids on a half circle of radius 2, and their places: the short way from end to end is empty."""
    angle = torch.linspace(0.1, torch.pi - 0.1, count, dtype=dtype)
    places = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    matrices = torch.ones(count, 2, dtype=dtype)
    return CentroidMetric(places, matrices, 0.4, 0.01), places


def flat_metric(dim: int = 3, dtype: torch.dtype = torch.float64) -> CentroidMetric:
    """G = 4 I everywhere."""
    zeros = torch.zeros(1, dim, dtype=dtype)
    return CentroidMetric(zeros, zeros, 1.0, 0.25)
