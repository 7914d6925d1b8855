"""The uniform prior on the unit sphere."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.geometry.curved import HypersphericalUniform, check_sphere
from src.models.paths import slerp


class HypersphericalUniformPrior(nn.Module):
    """p(z) = 1/area on S^{D−1} ⊂ R^D (Davidson et al. 2018, arXiv:1804.00891).

    Args:
        dim: D, the dimensions around the sphere.
    """

    factorised = False
    support = "sphere"
    centre: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        check_sphere(dim)
        self.register_buffer("centre", torch.zeros(dim), persistent=False)

    def forward(self, condition: Tensor | None = None) -> Distribution:
        return HypersphericalUniform(self.centre)

    def geodesic(self, z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
        """The point a share t of the way along the great circle."""
        return slerp(z_a, z_b, t)

    def distance(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """The angle between two points of the sphere in radians, (…)."""
        return 2 * ((z_a - z_b).norm(dim=-1) / 2).clamp(max=1).asin()
