"""A Gaussian over poses whose mean and variance the decoder predicts in standardised space."""

from collections.abc import Sequence
from math import atanh, log, pi

import torch
from torch import Tensor

from src.models.distributions import bounded
from src.models.likelihoods.poses import Correlation, OverJoints, PoseLikelihood
from src.models.networks.standardise import PoseStandardiser

# Of the log-variance in standardised space, as the decoder predicts it, and where it starts.
LOWEST, HIGHEST, START = -8.0, 4.0, -1.5
MIDDLE, HALF = (LOWEST + HIGHEST) / 2, (HIGHEST - LOWEST) / 2


class StandardisedNormal(OverJoints):
    """x = mean + std·(m + e^{s/2} ε), ε ~ N(0, I) or correlated, over canonical rotation vectors in radians.

    Args:
        location: m (…, J, 3).
        log_variance: s (…, J, 3).
        standardise: knows mean and std.
        correlation: of ε; None for none.
    """

    def __init__(
        self,
        location: Tensor,
        log_variance: Tensor,
        standardise: PoseStandardiser,
        correlation: Correlation | None = None,
    ) -> None:
        self.location, self.log_variance = location, log_variance
        self.standardise = standardise
        super().__init__(location.shape[:-2], location.shape[-2], correlation)

    @property
    def mean(self) -> Tensor:
        return self.standardise.inverse(self.location)

    @property
    def stddev(self) -> Tensor:
        """Radians, (…, J, 3)."""
        return self.widened(self._scale)

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()

    @property
    def spread(self) -> Tensor:
        return self.stddev.mean((-2, -1))

    @property
    def _scale(self) -> Tensor:
        return self.standardise.std * (0.5 * self.log_variance).exp()

    def joint_log_prob(self, value: Tensor) -> Tensor:
        s = self.log_variance
        error = self.freed((self.standardise(value) - self.location) * (-0.5 * s).exp())
        volume = self.standardise.std.log().sum(-1)  # of a standardised joint, in rad³
        return -0.5 * (error.square() + s + log(2 * pi)).sum(-1) - volume

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Rotation vectors, (*sample_shape, …, J, 3)."""
        return self.mean + self._scale * self.noise(self.location, sample_shape)


class StandardisedGaussian(PoseLikelihood):
    """p(x | z) = N(x; mean + std·m(z), std²·e^{s(z)}), the second a variance for every number of the pose.

    mean and std are the training data's, learned before the first step; s is kept in [−8, 4] by a smooth bound and
    starts at −1.5. The density is that of radians, so it holds −Σ ln std.

    Args:
        shape: (J, 3).
        parameters: decoder outputs a number of the pose, 2: m and s.
        correlated: see ``PoseLikelihood``.
    """

    def __init__(self, shape: Sequence[int], parameters: int = 2, correlated: bool = False) -> None:
        super().__init__(shape, parameters, 2, correlated)
        self.standardise = PoseStandardiser(shape)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> StandardisedNormal:
        location, raw = self.parts(features)
        start = HALF * atanh((START - MIDDLE) / HALF)
        return StandardisedNormal(
            location, MIDDLE + bounded(raw + start, HALF), self.standardise, self.correlation
        )
