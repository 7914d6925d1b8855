"""Fully connected networks, plain and residual, for data of any shape."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from src.utils.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """The activation called ``name``; ``ValueError`` names the choices."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation '{name}' is unknown; choices: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class MLPEncoder(nn.Module):
    """x (B, *shape) → features (B, out_features), through ``depth`` hidden layers."""

    kinds = ("image", "vector", "sequence")

    def __init__(
        self, shape: Sequence[int], out_features: int = 512, depth: int = 2, act: str = "relu"
    ) -> None:
        super().__init__()
        self.out_features = out_features
        widths = [prod(shape)] + [out_features] * depth
        layers = [
            m
            for i, o in zip(widths, widths[1:], strict=False)
            for m in (nn.Linear(i, o), activation(act))
        ]
        self.net = nn.Sequential(nn.Flatten(), *layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class MLPDecoder(nn.Module):
    """z (B, latent_dim) → likelihood parameters (B, parameters, *shape), through ``depth`` hidden layers."""

    kinds = MLPEncoder.kinds

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        parameters: int = 1,
        width: int = 512,
        depth: int = 2,
        act: str = "relu",
    ) -> None:
        super().__init__()
        widths = [latent_dim] + [width] * depth
        layers = [
            m
            for i, o in zip(widths, widths[1:], strict=False)
            for m in (nn.Linear(i, o), activation(act))
        ]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], parameters * prod(shape)))
        self.out_shape = (parameters, *shape)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z).view(-1, *self.out_shape)


class ResidualLinear(nn.Module):
    """h + W₂ act(W₁ norm(h)), started at the identity (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self, width: int, act: str, dropout: float = 0.0) -> None:
        super().__init__()
        first, last = nn.Linear(width, width), nn.Linear(width, width)
        dropped = [nn.Dropout(dropout)] if dropout else []
        self.body = nn.Sequential(nn.LayerNorm(width), first, activation(act), *dropped, last)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)


def residual_mlp(
    features_in: int, features_out: int, width: int, depth: int, act: str, dropout: float = 0.0
) -> nn.Sequential:
    """Linear → ``depth`` residual blocks, with dropout inside → norm, activation, linear."""
    blocks = [ResidualLinear(width, act, dropout) for _ in range(depth)]
    return nn.Sequential(
        nn.Linear(features_in, width),
        *blocks,
        nn.LayerNorm(width),
        activation(act),
        nn.Linear(width, features_out),
    )
