"""A normalised density of rotations around those that the decoder predicts, a factor SO(3) a joint."""

from collections.abc import Sequence
from math import exp, log, pi
from typing import Literal

import torch
from torch import Tensor, nn

from src.models.distributions import bounded
from src.models.geometry import rotations
from src.models.likelihoods.poses import Correlation, OverJoints, PoseLikelihood
from src.models.networks.standardise import PoseStandardiser
from src.utils.errors import UserError, nearest

Scale = Literal["per_joint", "shared", "predicted"]
# Of log σ. The Gaussian's mass beyond the ball of radius π, which has no rotation, is 5e-6 at the upper bound.
LOWEST, HIGHEST = -4.6, log(0.6)
MIDDLE, HALF = (LOWEST + HIGHEST) / 2, (HIGHEST - LOWEST) / 2
# How much faster than a weight of a network log σ learns: an optimiser such as Adam moves either by its learning rate a
# step, and log σ has far to go.
GAIN = 10.0


class ConcentratedRotations(OverJoints):
    """R = loc · exp(φ), φ ~ N(0, diag σ²) in the tangent space of every joint, or with correlations between them all.

    The density of canonical rotation vectors x: with φ = log(locᵀ exp(x)), N(φ; 0, σ²)/J(‖φ‖) is the density of the
    rotation, and J(‖x‖) that of the vector for it (Falorsi et al. 2019, Reparameterizing Distributions on Lie
    Groups, arXiv:1903.02958). It integrates to 1 up to the mass of the Gaussian beyond ‖φ‖ = π.

    Args:
        loc: (…, J, 3, 3).
        sigma: radians, (J,) or (…, J) for one number a joint, which takes half the work; (…, J, 3) with ``axes``.
        axes: whether sigma has a number for each axis of a joint.
        correlation: of φ/σ; None for none. It takes ``axes``.
    """

    def __init__(
        self,
        loc: Tensor,
        sigma: Tensor,
        axes: bool = False,
        correlation: Correlation | None = None,
    ) -> None:
        self.loc, self.axes = loc, axes
        self.sigma = sigma.expand(loc.shape[:-1] if axes else loc.shape[:-2])
        super().__init__(loc.shape[:-3], loc.shape[-3], correlation)

    @property
    def mean(self) -> Tensor:
        """The rotation vectors of loc, (…, J, 3)."""
        return rotations.log(self.loc)

    @property
    def spread(self) -> Tensor:
        return self.widened(self.sigma).flatten(len(self.batch_shape)).mean(-1)

    def joint_log_prob(self, value: Tensor) -> Tensor:
        rotation = rotations.exp(value)
        score, volume = self._by_axis(rotation) if self.axes else self._by_angle(rotation)
        own_volume = rotations.log_volume(rotations.canonical_angle(value))
        return own_volume - volume - score - 1.5 * log(2 * pi)

    def _by_angle(self, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """−log N(φ; 0, σ²) without its constant, and ln J(‖φ‖)."""
        s = rotations.half_sine_squared(self.loc, rotation)
        square = rotations.squared_angle(s)
        return 0.5 * square / self.sigma.square() + 3 * self.sigma.log(), rotations.log_volume_of(s)

    def _by_axis(self, rotation: Tensor) -> tuple[Tensor, Tensor]:
        phi = rotations.log(rotations.between(self.loc, rotation))
        score = (0.5 * self.freed(phi / self.sigma).square() + self.sigma.log()).sum(-1)
        return score, rotations.log_volume(torch.linalg.vector_norm(phi, dim=-1))

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Canonical rotation vectors, (*sample_shape, …, J, 3)."""
        sigma = self.sigma if self.axes else self.sigma[..., None]
        phi = sigma * self.noise(self.loc[..., 0], sample_shape)
        return rotations.log(rotations.between(self.loc.mT, rotations.exp(phi)))


class RotationLikelihood(PoseLikelihood):
    """p(x | z): every joint's rotation around R(z), ``ConcentratedRotations``.

    R comes from two vectors a joint, which the decoder gives standardised by the training data's own (the first two
    columns of their rotations) and which are orthonormalised (Zhou et al. 2019, arXiv:1812.07035): a decoder that
    starts near 0 starts at the mean pose, and finds small joints as easily as large ones.

    ``scale`` says where σ comes from: ``predicted``, by the decoder for each axis, around the joint's learned one
    (needs ``parameters=3``); ``per_joint``, one learned number each; ``shared``, one for all. log σ is kept in
    [−4.6, log 0.6] by a smooth bound: with more, the Gaussian would reach once around the rotations and have to be
    normalised anew.

    Args:
        shape: (J, 3).
        scale: see above.
        sigma: the σ that learning starts from, radians.
        parameters: decoder outputs a number of the pose: 3 for ``predicted``, else 2.
        correlated: see ``PoseLikelihood``; it needs ``scale=predicted``.
    """

    undecayed = ("raw_log_sigma",)

    def __init__(
        self,
        shape: Sequence[int],
        scale: Scale = "per_joint",
        sigma: float = 0.223,
        parameters: int = 2,
        correlated: bool = False,
    ) -> None:
        needed = _needed(scale)
        super().__init__(shape, parameters, needed, correlated)
        if not exp(LOWEST) < sigma < exp(HIGHEST):
            raise UserError(
                f"model.likelihood.sigma={sigma} must lie between 0.0101 and 0.5999 radians"
            )
        if correlated and scale != "predicted":
            raise UserError(
                f"model.likelihood.correlated=true needs scale=predicted, a σ for each axis, not {scale}"
            )
        self.scale = scale
        self.standardise = PoseStandardiser(shape, "rotations")
        start = HALF * torch.atanh(torch.tensor((log(sigma) - MIDDLE) / HALF)) / GAIN
        self.raw_log_sigma = nn.Parameter(start.repeat(1 if scale == "shared" else shape[0]))

    def forward(self, features: Tensor, condition: Tensor | None = None) -> ConcentratedRotations:
        first, second, *predicted = self.parts(features)
        columns = self.standardise.inverse(torch.stack([first, second], -2))
        loc = rotations.from_6d(columns)
        if predicted:
            sigma = self.sigma(predicted[0])
            return ConcentratedRotations(loc, sigma, True, self.correlation)
        return ConcentratedRotations(loc, self.sigma())

    def sigma(self, offset: Tensor | None = None) -> Tensor:
        """σ in radians: (J,), (1,) where shared, or (…, J, 3) with the decoder's offset of the same shape."""
        raw = GAIN * self.raw_log_sigma
        raw = raw if offset is None else raw[:, None] + offset
        return (MIDDLE + bounded(raw, HALF)).exp()


def _needed(scale: str) -> int:
    choices = {"per_joint": 2, "shared": 2, "predicted": 3}
    if scale not in choices:
        raise UserError(f"model.likelihood.scale={scale} is unknown{nearest(scale, choices)}")
    return choices[scale]
