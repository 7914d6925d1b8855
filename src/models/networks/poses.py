"""Residual networks of poses: joints (…, J, 3) as rotation vectors in radians."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from src.models.networks.mlp import residual_mlp
from src.models.networks.standardise import PoseStandardiser, See, check_joints


class PoseEncoder(nn.Module):
    """x (B, J, 3) → features (B, out_features), equal for equal rotations whatever vectors stand for them.

    Args:
        shape: (J, 3).
        out_features: of the last layer.
        width, depth: of the hidden layers, and the number of residual blocks.
        act: relu, gelu, silu, elu or tanh.
        dropout: share of hidden units that are dropped in training.
        see: standardised or rotations, see ``PoseStandardiser``.
    """

    kinds = ("vector",)
    support = "rotation"

    def __init__(
        self,
        shape: Sequence[int],
        out_features: int = 512,
        width: int = 512,
        depth: int = 4,
        act: str = "gelu",
        dropout: float = 0.0,
        see: See = "standardised",
    ) -> None:
        check_joints(shape, type(self).__name__)
        super().__init__()
        self.out_features = out_features
        self.standardise = PoseStandardiser(shape, see)
        seen = self.standardise.mean.numel()
        self.net = residual_mlp(seen, out_features, width, depth, act, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.standardise(x).flatten(1))


class ResidualMLPDecoder(nn.Module):
    """z (B, latent_dim) → likelihood parameters (B, parameters, *shape), near 0 at the start.

    Args:
        latent_dim, shape, parameters: of z, of x, and outputs a number of it.
        width, depth, act, dropout: see ``PoseEncoder``.
    """

    kinds = ("image", "vector", "sequence")

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        parameters: int = 1,
        width: int = 512,
        depth: int = 4,
        act: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_shape = (parameters, *shape)
        self.net = residual_mlp(latent_dim, prod(self.out_shape), width, depth, act, dropout)
        last: nn.Linear = self.net[-1]  # type: ignore[assignment]
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z).view(-1, *self.out_shape)
