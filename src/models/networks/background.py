"""Networks for frames around a still background, which learn what moves.

Most of a frame of a game or of a fixed camera never changes. These networks are taught the background, and the linear
code of the training frames with the smallest squared error, before the first step (``VAE.setup``): a model that has
them begins where principal components end, and its convolutions learn what those cannot say.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from src.models.networks.conv import picture_decoder, picture_encoder
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

# Training frames that the linear code is found from, spread over all of them.
FRAMES = 2048
# Spread of a dimension, below one grey level of one element, that is rounding: brought to 1 it would drown what is new.
FAINTEST = 1 / 255


def teach(model: nn.Module, data: Any, stage: str) -> None:
    """Before a training, let the parts of a model that have something to learn from the data do so.

    A checkpoint that is gone on from is read afterwards, and its weights win.
    """
    for part in model.modules() if stage == "fit" else ():
        learn: Any = getattr(part, "learn_from", None)
        if learn:
            learn(data)


def linear_code(frames: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The linear code of the smallest squared error (principal components), each dimension of mean 0 and variance 1.

    Args:
        frames: (N, D).
        size: L; dimensions beyond what the frames span, but for rounding, are 0.

    Returns:
        The mean frame (D,) and the directions, scaled by their standard deviations, (L, D).
    """
    mean = frames.mean(0)
    rank = min(len(frames) - 1, frames.shape[1], size)
    directions = frames.new_zeros(size, frames.shape[1])
    if rank > 0:
        with isolated_rng(0, frames.device):  # the encoder and the decoder find the same code
            _, s, v = torch.svd_lowrank(frames - mean, q=min(rank + 32, *frames.shape), niter=4)
        spread = s / len(frames) ** 0.5
        directions[:rank] = (v * spread * (spread > FAINTEST)).T[:rank]
    return mean, directions


class BackgroundPart(nn.Module):
    """What both networks share: the background, and whether it has been learned.

    The background is kept with the weights, so that a model without data knows it.
    """

    kinds = ("image",)
    needs_background = True
    background: Tensor
    learned: Tensor

    def __init__(self, shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("background", torch.zeros(tuple(shape)))
        self.register_buffer("learned", torch.zeros(()))

    @torch.no_grad()
    def learn_from(self, data: Any) -> None:
        """Take the background and the linear code from the training frames, once.

        What was copied in from a trained model (``model.pretrained``) stays as it was trained.
        """
        if self.learned:
            return
        self.background.copy_(data.background)
        self.learned.fill_(1)
        size = prod(self.background.shape)  # a sample may be a sequence of frames
        rows = data.spread("train", FRAMES * size // prod(data.shape))
        frames = data.rows("train", rows).to(self.background).reshape(-1, size)
        self.start_at(*linear_code(frames, self.latent_dim))

    def start_at(self, mean: Tensor, directions: Tensor) -> None:
        """Start the linear layer at a code, see ``linear_code``."""
        raise NotImplementedError


class BackgroundEncoder(BackgroundPart):
    """x (B, C, H, W) → features (B, out_features): a linear code, then what convolutions see of x ‖ x − background.

    The first ``latent_dim`` features are the code; a posterior with ``residual`` takes them for its first guess of μ.

    Args:
        shape: (C, H, W).
        latent_dim: length of the linear code.
        out_features: of both together.
        channels, max_channels, act, blocks: see ``ResNetEncoder``; ``blocks: 0`` is the plain convolutional network.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        out_features: int = 256,
        channels: int = 16,
        max_channels: int = 128,
        act: str = "silu",
        blocks: int = 0,
    ) -> None:
        if out_features <= latent_dim:
            raise UserError(
                f"model.encoder.out_features={out_features} must be more than the {latent_dim} of the linear code"
            )
        super().__init__(shape, latent_dim)
        self.out_features = out_features
        self.linear = nn.Linear(prod(shape), latent_dim)
        self.net = picture_encoder(
            (2 * shape[0], *shape[1:]),
            out_features - latent_dim,
            channels,
            max_channels,
            act,
            blocks,
            "BackgroundEncoder",
        )

    def start_at(self, mean: Tensor, directions: Tensor) -> None:
        variance = directions.square().sum(1, keepdim=True)
        weight = directions / torch.where(variance > 0, variance, 1)
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(-weight @ (mean - self.background.flatten()))

    def forward(self, x: Tensor) -> Tensor:
        residual = x - self.background
        seen = self.net(torch.cat([x, residual], 1))
        return torch.cat([self.linear(residual.flatten(1)), seen], 1)


class BackgroundDecoder(BackgroundPart):
    """z (B, latent_dim) → likelihood parameters (B, P, C, H, W), the first of which is a picture.

    The picture is the background, plus a linear function of z, plus what the convolutions of a decoder add, which is
    0 at first. The other parameters are the decoder's alone.

    Args:
        latent_dim, shape, parameters: of z, of x, and P.
        width, channels, max_channels, act, blocks: see ``ResNetDecoder``; ``blocks: 0`` is the plain convolutional one.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],
        parameters: int = 1,
        width: int = 256,
        channels: int = 16,
        max_channels: int = 128,
        act: str = "silu",
        blocks: int = 0,
    ) -> None:
        super().__init__(shape, latent_dim)
        self.split = (parameters, shape[0])
        self.net = picture_decoder(
            latent_dim,
            shape,
            parameters,
            width,
            channels,
            max_channels,
            act,
            blocks,
            "BackgroundDecoder",
        )
        self.linear = nn.Linear(latent_dim, prod(shape))
        for layer in (self.net[-1], self.linear):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def start_at(self, mean: Tensor, directions: Tensor) -> None:
        self.linear.weight.copy_(directions.T)
        self.linear.bias.copy_(mean - self.background.flatten())

    def forward(self, z: Tensor) -> Tensor:
        picture = self.background + self.linear(z).view(-1, *self.background.shape)
        first, *others = self.net(z).unflatten(1, self.split).split(1, 1)
        return (
            torch.cat([first + picture[:, None], *others], 1)
            if others
            else first + picture[:, None]
        )
