"""A prior on a product of spaces."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from src.models.geometry.product import ProductDistribution, ProductPart


class ProductPrior(ProductPart):
    """p(z) = Π_i p_i(z_i) (Skopek et al. 2020, arXiv:1911.08411); arguments: see ``ProductPart``."""

    def forward(self, condition: Tensor | None = None) -> Distribution:
        return ProductDistribution([part(condition) for part in self.factors.values()])

    def geodesic(self, z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
        """The point a share t of the way, in every factor along its own geodesic."""
        pieces = self._pairs(z_a, z_b)
        walks: list[Any] = [getattr(p, "geodesic", torch.lerp) for p in self.factors.values()]
        return torch.cat([walk(a, b, t) for walk, (a, b) in zip(walks, pieces, strict=True)], -1)

    def distance(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """The length of that geodesic, √(Σ_i d_i²), (…)."""
        ways: list[Any] = [getattr(p, "distance", _straight) for p in self.factors.values()]
        pieces = self._pairs(z_a, z_b)
        found = [way(a, b) for way, (a, b) in zip(ways, pieces, strict=True)]
        return torch.stack(found).norm(dim=0)

    def _pairs(self, z_a: Tensor, z_b: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [*zip(z_a.split(self.dims, -1), z_b.split(self.dims, -1), strict=True)]


def _straight(z_a: Tensor, z_b: Tensor) -> Tensor:
    return (z_a - z_b).norm(dim=-1)
