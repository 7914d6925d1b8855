"""Convolutional networks for pictures of any size, plain and residual (the residual ones take vectors too).

A picture is halved until its longer side is at most 4, its channels doubled on the way; the decoder walks
the same sizes back. Letters: B batch, C channels, H height, W width, P likelihood parameters.
"""

from collections.abc import Sequence
from math import gcd, prod

import torch
from torch import Tensor, nn

from src.models.networks.mlp import activation, residual_mlp
from src.utils.errors import UserError
from src.utils.pictures import conv_features, pyramid


def _picture(shape: Sequence[int], network: str) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape[1:]) < 8:
        raise UserError(
            f"{network} takes pictures of shape [C, H, W] with H and W at least 8, not {list(shape)}"
        )
    channels, height, width = shape
    return channels, height, width


def _widths(channels: int, stages: int, largest: int) -> list[int]:
    return [min(channels * 2**i, largest) for i in range(stages)]


def _bias_apart() -> bool:
    # The compiler joins an addition, and the sum that is its gradient, to their neighbours, where a convolution that is
    # given the bias sums once more: 4 % of a whole step on a CPU (on a GPU inductor takes them apart by itself).
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def _add(h: Tensor, bias: Tensor) -> Tensor:
    # Autocast gave h its dtype; a float32 bias would widen it again.
    return h + bias[:, None, None].to(h.dtype)


class Conv(nn.Conv2d):
    """``nn.Conv2d`` with a bias, (B, C, H, W) → (B, C', H', W'), faster when compiled."""

    bias: nn.Parameter

    def forward(self, h: Tensor) -> Tensor:
        if not _bias_apart():
            return super().forward(h)
        return _add(self._conv_forward(h, self.weight, None), self.bias)


class ConvTranspose(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with a bias, (B, C, H, W) → (B, C', H', W'), faster when compiled."""

    bias: nn.Parameter
    padding: tuple[int, ...]

    def forward(self, h: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not _bias_apart():
            return super().forward(h, output_size)
        h = nn.functional.conv_transpose2d(
            h,
            self.weight,
            None,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )
        return _add(h, self.bias)


def _down(c_in: int, c_out: int) -> Conv:
    # Kernel 4 is a multiple of stride 2: no checkerboard (Odena et al. 2016), and 2h or 2h+1 halve to h.
    return Conv(c_in, c_out, kernel_size=4, stride=2, padding=1)


def _up(c_in: int, c_out: int, source: tuple[int, int], goal: tuple[int, int]) -> ConvTranspose:
    odd = (goal[0] - 2 * source[0], goal[1] - 2 * source[1])
    return ConvTranspose(c_in, c_out, kernel_size=4, stride=2, padding=1, output_padding=odd)


class ResidualConv(nn.Module):
    """h + conv act norm conv act norm h, started at the identity (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self, channels: int, act: str) -> None:
        super().__init__()
        first, last = (
            Conv(channels, channels, 3, padding=1),
            Conv(channels, channels, 3, padding=1),
        )
        self.body = nn.Sequential(
            nn.GroupNorm(gcd(8, channels), channels),
            activation(act),
            first,
            nn.GroupNorm(gcd(8, channels), channels),
            activation(act),
            last,
        )
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)


def picture_encoder(
    shape: Sequence[int],
    out_features: int | None,
    channels: int,
    largest: int,
    act: str,
    blocks: int,
    name: str,
) -> nn.Sequential:
    """Strided convolutions, ``blocks`` residual blocks a size, one linear layer; without it for None."""
    c_in, height, width = _picture(shape, name)
    sizes = pyramid(height, width)
    layers: list[nn.Module] = []
    for c_out in _widths(channels, len(sizes) - 1, largest):
        layers += [
            _down(c_in, c_out),
            *(ResidualConv(c_out, act) for _ in range(blocks)),
            activation(act),
        ]
        c_in = c_out
    layers.append(nn.Flatten())
    if out_features is not None:
        layers += [nn.Linear(c_in * prod(sizes[-1]), out_features), activation(act)]
    return nn.Sequential(*layers)


def picture_decoder(
    latent_dim: int,
    shape: Sequence[int],
    parameters: int,
    width: int | None,
    channels: int,
    largest: int,
    act: str,
    blocks: int,
    name: str,
) -> nn.Sequential:
    """Two linear layers, one for a width of None, then ``picture_encoder`` walked back: (B, P·C, H, W)."""
    c_image, *picture = _picture(shape, name)
    sizes = pyramid(*picture)[::-1]
    widths = [*_widths(channels, len(sizes) - 1, largest)[::-1], parameters * c_image]
    start = (widths[0], *sizes[0])
    layers: list[nn.Module] = []
    if width is not None:
        layers += [nn.Linear(latent_dim, width), activation(act)]
    layers += [nn.Linear(width or latent_dim, prod(start)), nn.Unflatten(-1, start)]
    for i, (source, goal) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layers += [*(ResidualConv(widths[i], act) for _ in range(blocks)), activation(act)]
        layers += [_up(widths[i], widths[i + 1], source, goal)]
    return nn.Sequential(*layers)


class ConvEncoder(nn.Module):
    """x (B, C, H, W) → features (B, out_features).

    Args:
        linear: end in a linear layer; without it the features are the last convolution's, ``conv_features`` of them.
    """

    kinds = ("image",)

    def __init__(
        self,
        shape: Sequence[int],
        out_features: int = 256,
        channels: int = 32,
        max_channels: int = 256,
        act: str = "relu",
        linear: bool = True,
    ) -> None:
        super().__init__()
        width = out_features if linear else None
        self.net = picture_encoder(shape, width, channels, max_channels, act, 0, "ConvEncoder")
        own = conv_features(shape, channels, max_channels)
        if not linear and out_features != own:
            raise UserError(
                f"model.encoder.out_features={out_features}: without a linear layer there are the {own} of the last "
                f"convolution; give {own}, or model.encoder.linear=true"
            )
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class ConvDecoder(nn.Module):
    """z (B, latent_dim) → likelihood parameters (B, P, C, H, W).

    Args:
        width: of a hidden layer before the convolutions; None for none.
        sigmoid: squash what comes out into [0, 1].
    """

    kinds = ("image",)

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        parameters: int = 1,
        width: int | None = 256,
        channels: int = 32,
        max_channels: int = 256,
        act: str = "relu",
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        self.split, self.sigmoid = (parameters, shape[0]), sigmoid
        self.net = picture_decoder(
            latent_dim, shape, parameters, width, channels, max_channels, act, 0, "ConvDecoder"
        )

    def forward(self, z: Tensor) -> Tensor:
        out = self.net(z).unflatten(1, self.split)
        return out.sigmoid() if self.sigmoid else out


class ResNetEncoder(nn.Module):
    """x → features (B, out_features): ``blocks`` residual blocks a picture size; a residual MLP for vectors."""

    kinds = ("image", "vector")

    def __init__(
        self,
        shape: Sequence[int],
        out_features: int = 256,
        channels: int = 32,
        max_channels: int = 256,
        act: str = "silu",
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.net = (
            residual_mlp(shape[0], out_features, out_features, 2 * blocks, act)
            if len(shape) == 1
            else picture_encoder(
                shape, out_features, channels, max_channels, act, blocks, "ResNetEncoder"
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class ResNetDecoder(nn.Module):
    """z (B, latent_dim) → likelihood parameters (B, P, *shape); the mirror of ``ResNetEncoder``."""

    kinds = ("image", "vector")

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        parameters: int = 1,
        width: int = 256,
        channels: int = 32,
        max_channels: int = 256,
        act: str = "silu",
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.split = (parameters, shape[0])
        self.net = (
            residual_mlp(latent_dim, parameters * shape[0], width, 2 * blocks, act)
            if len(shape) == 1
            else picture_decoder(
                latent_dim,
                shape,
                parameters,
                width,
                channels,
                max_channels,
                act,
                blocks,
                "ResNetDecoder",
            )
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z).unflatten(1, self.split)
