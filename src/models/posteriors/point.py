"""The posterior of a model whose code is the data itself."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.distributions import Delta, full_precision


class Point(Delta):
    """A point mass, its density taken relative to the point itself: 1, so that log q = 0 there.

    Args:
        point: (B, D).
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """0 for the point, which is all that is ever asked, (…, B)."""
        return value.new_zeros(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))

    def log_prob_at_mean(self) -> Tensor:
        """0, (B,)."""
        return self.point.new_zeros(self.batch_shape)


class PointPosterior(nn.Module):
    """q(z | x) = the encoder's z and nothing else; only for ``IdentityLatent``, whose encoder loses nothing."""

    factorised = False
    freezable = False
    density_elsewhere = False

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        return Point(full_precision(features))
