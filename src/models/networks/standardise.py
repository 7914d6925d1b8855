"""An affine map of the data to mean 0 and variance 1, and back: what a density of the data itself is learned behind."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from src.models.distributions import full_precision
from src.models.geometry.rotations import canonical, exp, to_6d
from src.utils.errors import UserError, nearest

# Below it a coordinate counts as constant, in the data's units.
SMALLEST = 1e-6
# Rows turned into fp64 at once.
ROWS = 2**16
See = Literal["standardised", "rotations"]
# Of what a network sees of a pose: a thousandth of a radian, or of a column of a rotation, is rounding.
LEAST_SEEN = 1e-3


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of rows (N, D), the maximum-likelihood ones, in fp64."""
    mean = sum((part.sum(0) for part in _parts(x)), x.new_zeros((), dtype=torch.float64)) / len(x)
    squares = x.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for part in _parts(x):
        centred = part - mean
        squares += centred.T @ centred
    return mean, squares / len(x)


def _parts(x: Tensor) -> Iterator[Tensor]:
    return (part.double() for part in x.split(ROWS))


def standardising_factor(covariance: Tensor, whiten: bool) -> Tensor:
    """The lower-triangular L of x = mean + L z, (D, D): the standard deviations, or a Cholesky factor of all.

    Coordinates that never change have a standard deviation of 1e-6 and no correlation.
    """
    std = covariance.diagonal().sqrt().clamp_min(SMALLEST)
    if not whiten:
        return std.diag()
    correlation = covariance / std.outer(std)
    correlation.diagonal().clamp_min_(1).add_(1e-6)  # the room that rounding needs
    return std[:, None] * torch.linalg.cholesky(correlation)


class StandardiseEncoder(nn.Module):
    """x (B, *shape) → L⁻¹(x − mean), (B, D), with the training data's mean and L, learned before the first step.

    L is diagonal, or a Cholesky factor of the covariance, after which the coordinates are uncorrelated too.

    Args:
        shape: of the data.
        value_range: ``rotation`` for rows of rotation vectors, which are brought to angles in [0, π] first.
        whiten: see above.
        out_features: D, the size of the data, where a config has to tell it.
    """

    kinds = ("vector",)
    mean: Tensor
    factor: Tensor
    learned: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        value_range: str = "real",
        whiten: bool = False,
        out_features: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.out_features = tuple(shape), prod(shape)
        if out_features not in (None, self.out_features):
            raise UserError(
                f"model.encoder.out_features={out_features}: this encoder gives the {self.out_features} numbers of "
                "the data"
            )
        self.rotations, self.whiten = value_range == "rotation", whiten
        if self.rotations and self.shape[-1] != 3:
            raise UserError(f"data.shape={list(shape)}: rotation vectors come in rows of 3")
        self.register_buffer("mean", torch.zeros(self.out_features))
        self.register_buffer("factor", torch.eye(self.out_features))
        self.register_buffer("learned", torch.zeros(()))

    @torch.no_grad()
    def learn_from(self, data: Any) -> None:
        """Take mean and L from the training data, once."""
        if self.learned:
            return
        mean, covariance = moments(self._flat(data.floats("train")))
        self.mean.copy_(mean)
        self.factor.copy_(standardising_factor(covariance, self.whiten))
        self.learned.fill_(1)

    def _flat(self, x: Tensor) -> Tensor:
        x = full_precision(x)
        return (canonical(x) if self.rotations else x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        centred = self._flat(x) - self.mean
        if not self.whiten:
            return centred / self.factor.diagonal()
        return torch.linalg.solve_triangular(self.factor, centred.T, upper=False).T

    def inverse(self, z: Tensor) -> Tensor:
        """z (…, D) → x (…, *shape)."""
        z = full_precision(z)
        with torch.autocast(z.device.type, enabled=False):
            x = z @ self.factor.T if self.whiten else z * self.factor.diagonal()
        return (x + self.mean).unflatten(-1, self.shape)

    def log_volume(self) -> Tensor:
        """ln |det ∂x/∂z|, (): what the density of x is smaller by than that of z, in nats."""
        return self.factor.diagonal().log().sum()


class StandardiseDecoder(nn.Module):
    """z (N, D) → x (N, 1, *shape): the inverse of a ``StandardiseEncoder``, which the latent lends.

    Args:
        latent_dim: D, which must be the size of the data.
        shape: of the data.
    """

    kinds = ("vector",)

    def __init__(self, latent_dim: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.latent_dim, self.size = latent_dim, prod(shape)
        self._encoder: tuple[Any, ...] = ()  # not a part of this one

    def borrow_encoder(self, encoder: nn.Module) -> None:
        """Undo what this encoder does.

        Raises:
            UserError: z has another size than x.
        """
        if self.latent_dim != self.size:
            raise UserError(
                f"model.latent_dim={self.latent_dim}: the code of this model is the data itself, of {self.size} numbers"
            )
        self._encoder = (encoder,)

    def forward(self, z: Tensor) -> Tensor:
        return self._encoder[0].inverse(z)[:, None]


def check_joints(shape: Sequence[int], part: str) -> None:
    """Refuse data that are no joints.

    Raises:
        UserError: the shape is not (J, 3).
    """
    if len(shape) != 2 or shape[-1] != 3:
        raise UserError(
            f"{part} takes joints as rotation vectors, data.shape=[joints, 3], not {list(shape)}; data that fits: "
            "hand_poses"
        )


class PoseStandardiser(nn.Module):
    """What networks see of poses (…, J, 3), brought to mean 0 and variance 1 by the training data's own, and back.

    Both are kept with the weights, and learned before the first step; until then mean is the flat hand and std 1.

    Args:
        shape: (J, 3).
        see: ``standardised``, canonical rotation vectors (…, J, 3), which jump at θ = π; ``rotations``, the first two
            columns of every rotation, (…, J, 2, 3), which jump nowhere (Zhou et al. 2019, arXiv:1812.07035).
    """

    mean: Tensor
    std: Tensor
    learned: Tensor

    def __init__(self, shape: Sequence[int], see: See = "standardised") -> None:
        if see not in get_args(See):
            raise UserError(f"model.encoder.see={see} is unknown{nearest(see, get_args(See))}")
        super().__init__()
        self.see = see
        flat = self.seen(torch.zeros(tuple(shape)))
        self.register_buffer("mean", flat)
        self.register_buffer("std", torch.ones_like(flat))
        self.register_buffer("learned", torch.zeros(()))

    def seen(self, x: Tensor) -> Tensor:
        """Poses (…, J, 3) as numbers, before they are standardised."""
        return canonical(x) if self.see == "standardised" else to_6d(exp(x))

    @torch.no_grad()
    def learn_from(self, data: Any) -> None:
        """Take mean and standard deviation from the training split, once; what was copied in stays."""
        if self.learned:
            return
        x = data.floats("train")
        mean, squares = torch.zeros(2, *self.mean.shape, dtype=torch.float64)
        for part in _parts(x):
            mean += self.seen(part).sum(0) / len(x)
        for part in _parts(x):
            squares += (self.seen(part) - mean).square().sum(0) / len(x)
        self.mean.copy_(mean)
        self.std.copy_(squares.sqrt().clamp_min(LEAST_SEEN))
        self.learned.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.seen(x) - self.mean) / self.std

    def inverse(self, standardised: Tensor) -> Tensor:
        """Numbers as they are before they are standardised."""
        return self.mean + self.std * standardised
