"""The standard normal prior."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from src.models.distributions import UnitNormal


class StandardNormal(nn.Module):
    """p(z) = N(0, I).

    Args:
        dim: latent dimensions.
    """

    factorised = True
    loc: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(dim), persistent=False)
        self.register_buffer("scale", torch.ones(dim), persistent=False)

    def forward(self, condition: Tensor | None = None) -> Distribution:
        return Independent(
            UnitNormal(self.loc, self.scale, validate_args=False), 1, validate_args=False
        )
