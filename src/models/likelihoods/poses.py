"""What the likelihoods of hand poses share: joints (…, J, 3) as rotation vectors in radians, one measure.

Densities are those of canonical rotation vectors, of an angle in [0, π], in rad³ a joint; so NLLs, bounds and energies
of all of them compare.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from src.models.distributions import full_precision
from src.models.geometry import rotations
from src.models.likelihoods.base import Likelihood
from src.models.networks.standardise import check_joints


class Correlation(nn.Module):
    """What is left of poses' errors when each is freed of what those before it foretell: u = (I + A) e.

    A is strictly lower triangular and learned, so that the volume stays and e has the correlations of (I + A)⁻¹.

    Args:
        shape: (J, 3).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        size = prod(shape)
        self.weight = nn.Parameter(torch.zeros(size, size))

    @property
    def matrix(self) -> Tensor:
        """I + A, in full precision."""
        below = full_precision(self.weight).tril(-1)
        return below + torch.eye(len(below), dtype=below.dtype, device=below.device)

    def forward(self, error: Tensor) -> Tensor:
        """e → u, both (…, J, 3)."""
        with torch.autocast(error.device.type, enabled=False):
            return (error.flatten(-2) @ self.matrix.T.to(error.dtype)).view(error.shape)

    def inverse(self, noise: Tensor) -> Tensor:
        """u → e."""
        flat = noise.flatten(-2)
        with torch.autocast(noise.device.type, enabled=False):
            found = torch.linalg.solve_triangular(
                self.matrix.to(flat.dtype), flat.reshape(-1, flat.shape[-1]).T, upper=False
            )
        return found.T.reshape(noise.shape)

    def stddev(self, joints: int) -> Tensor:
        """Standard deviations of e where u has 1, (J, 3)."""
        units = torch.eye(len(self.weight), dtype=self.weight.dtype, device=self.weight.device)
        return self.inverse(units.unflatten(-1, (joints, 3))).square().sum(0).sqrt()


class OverJoints(Distribution):
    """Base of the distributions over poses.

    Args:
        batch_shape: (…).
        joints: J.
        correlation: of the errors; None for joints that are independent given the decoder's output.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(
        self, batch_shape: torch.Size, joints: int, correlation: Correlation | None = None
    ) -> None:
        self.correlation = correlation
        super().__init__(batch_shape, torch.Size((joints, 3)), validate_args=False)

    def joint_log_prob(self, value: Tensor) -> Tensor:
        """log p of every joint of poses (…, J, 3), (…, J) nats; log p(x) is their sum.

        With correlated errors, of every joint given those before it.
        """
        raise NotImplementedError

    def freed(self, error: Tensor) -> Tensor:
        """Errors (…, J, 3) of standard deviation 1, freed of their correlations."""
        return error if self.correlation is None else self.correlation(error)

    def noise(self, like: Tensor, sample_shape: Sequence[int]) -> Tensor:
        """Errors drawn, (*sample_shape, *like)."""
        u = torch.randn(*sample_shape, *like.shape, dtype=like.dtype, device=like.device)
        return u if self.correlation is None else self.correlation.inverse(u)

    def widened(self, sigma: Tensor) -> Tensor:
        """Standard deviations (…, J, 3) of errors whose own, once freed, are sigma."""
        if self.correlation is None:
            return sigma
        return sigma * self.correlation.stddev(self.event_shape[0])

    def log_prob(self, value: Tensor) -> Tensor:
        return self.joint_log_prob(value).sum(-1)

    @property
    def spread(self) -> Tensor:
        """Mean over joints and axes of σ, radians, (…)."""
        raise NotImplementedError


class PoseLikelihood(Likelihood):
    """Base of the likelihoods of poses.

    Args:
        shape: (J, 3).
        parameters: decoder outputs a number of the pose.
        needed: how many that must be.
        correlated: whether errors are correlated, in the same way for every z.
    """

    support = "rotation"
    kinds = ("vector",)

    def __init__(
        self, shape: Sequence[int], parameters: int, needed: int, correlated: bool = False
    ) -> None:
        check_joints(shape, type(self).__name__)
        super().__init__(shape, parameters, needed)
        self.correlation = Correlation(shape) if correlated else None

    def errors(self, x: Tensor, decoded: Distribution) -> dict[str, Tensor]:
        found = super().errors(x, decoded)
        angles = rotations.distance(rotations.exp(x), rotations.exp(decoded.mean)).mean(-1)
        spread: Any = decoded.spread  # type: ignore[attr-defined]
        found["mpjre"] = torch.rad2deg(angles)
        found["recon_sigma"] = torch.rad2deg(spread).expand(angles.shape)
        return found
