"""Distributions on the sphere and on the Poincaré ball."""

from math import lgamma, log, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Gamma,
    Normal,
    constraints,
    register_kl,
)

from src.models.geometry.manifolds import PoincareBall, log_sinh_ratio
from src.utils.errors import UserError

Shape = torch.Size | list[int] | tuple[int, ...]
# Of the grid that a radial density is integrated on: points, and how many σ it goes on beyond the maximum.
NODES, TAIL = 512, 8.0


def check_sphere(dim: int) -> None:
    """Refuse a sphere that is two points.

    Raises:
        UserError: R^``dim`` holds no sphere to move on.
    """
    if dim < 2:
        raise UserError(
            f"a sphere in R^{dim} is no space to move in; choose model.latent_dim=2 or more"
        )


def log_sphere_area(dim: int) -> float:
    """log of the area of S^{D−1} ⊂ R^D, 2 π^{D/2}/Γ(D/2)."""
    return log(2) + 0.5 * dim * log(pi) - lgamma(0.5 * dim)


class OnManifold(Distribution):
    """Base of the distributions over points of a manifold in R^D.

    Args:
        loc: their centre (…, D).
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The centre."""
        return self.loc

    def _noise(self, sample_shape: torch.Size, dim: int) -> Tensor:
        """Standard normal numbers (*sample_shape, …, dim)."""
        return self.loc.new_empty(*sample_shape, *self.batch_shape, dim).normal_()


class PowerSpherical(OnManifold):
    """p(x) = (1 + μᵀx)^κ / C on S^{D−1} ⊂ R^D, with respect to its area (De Cao & Aziz 2020, arXiv:2006.04437).

    With α = κ + β and β = (D − 1)/2, C = 2^{α+β} π^β Γ(α)/Γ(α + β), and (1 + μᵀx)/2 ~ Beta(α, β). Differences of log Γ
    lose all digits of fp32 at a large κ, so what depends on κ alone is computed in fp64.

    A sample takes D − 1 normal numbers ξ and one G ~ Gamma(α): (G − H, √(2G) ξ)/(G + H) with H = ‖ξ‖²/2 ~ Gamma(β) is
    power spherical around the first axis, and a Householder reflection turns that towards μ. The authors draw a Beta
    and a direction, and reflect along e₁ − μ, which has none at μ = e₁; here it is e₁ ± μ, whichever is longer.

    Args:
        loc: μ, unit vectors (…, D).
        concentration: κ ≥ 0, (…); 0 is the uniform distribution.
    """

    def __init__(self, loc: Tensor, concentration: Tensor) -> None:
        super().__init__(loc)
        self.concentration = concentration

    def expand(self, batch_shape: Shape, _instance: Any = None) -> "PowerSpherical":
        loc = self.loc.expand(*batch_shape, *self.event_shape)
        return PowerSpherical(loc, self.concentration.expand(*batch_shape))

    @property
    def mean(self) -> Tensor:
        """μ, the mean *direction*: a point of the sphere that can be decoded. The expectation is inside the sphere."""
        return self.loc

    @property
    def beta(self) -> float:
        return 0.5 * (self.event_shape[0] - 1)

    def _log_normaliser(self) -> Tensor:
        """log C in fp64."""
        alpha = self.concentration.double() + self.beta
        powers = (alpha + self.beta) * log(2) + self.beta * log(pi)
        return powers + alpha.lgamma() - (alpha + self.beta).lgamma()

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        noise = self._noise(torch.Size(sample_shape), self.event_shape[0] - 1)
        gamma = Gamma(self.concentration + self.beta, self.loc.new_ones(()), validate_args=False)
        g = gamma.rsample(torch.Size(sample_shape)).unsqueeze(-1)
        h = 0.5 * noise.square().sum(-1, keepdim=True)
        around_axis = torch.cat([g - h, (2 * g).sqrt() * noise], -1) / (g + h)
        return self._turned(around_axis)

    def _turned(self, y: Tensor) -> Tensor:
        """y reflected by I − 2wwᵀ/‖w‖², w = e₁ + sμ, s = sign μ₁, which takes e₁ to −sμ; times −s."""
        first = self.loc[..., :1]
        sign = torch.where(first < 0, -1.0, 1.0).to(first)
        w = torch.cat([sign * first + 1, sign * self.loc[..., 1:]], -1)
        along = (w * y).sum(-1, keepdim=True) / (1 + first.abs())
        return sign * (along * w - y)

    def log_prob(self, value: Tensor) -> Tensor:
        # 1 + μᵀx = 2 − ‖x − μ‖²/2 keeps its digits where x is close to μ.
        share = (value - self.loc).square().sum(-1) / 4
        cosine = log(2) + torch.log1p(-share.clamp(max=1 - 1e-6))
        return self.concentration * cosine - self._log_normaliser().to(cosine)

    def entropy(self) -> Tensor:
        """log C − κ (log 2 + ψ(α) − ψ(α + β)), nats."""
        kappa = self.concentration.double()
        alpha = kappa + self.beta
        mean_log = log(2) + alpha.digamma() - (alpha + self.beta).digamma()
        return (self._log_normaliser() - kappa * mean_log).to(self.concentration)


class HypersphericalUniform(OnManifold):
    """The uniform distribution on S^{D−1} ⊂ R^D.

    Args:
        loc: zeros (…, D), the expectation, which is no point of the sphere; samples have its type and device.
    """

    def expand(self, batch_shape: Shape, _instance: Any = None) -> "HypersphericalUniform":
        return HypersphericalUniform(self.loc.expand(*batch_shape, *self.event_shape))

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        noise = self._noise(torch.Size(sample_shape), self.event_shape[0])
        return nn.functional.normalize(noise, dim=-1)

    @property
    def log_area(self) -> float:
        """The entropy, nats."""
        return log_sphere_area(self.event_shape[0])

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_full(value.shape[:-1], -self.log_area)


@register_kl(PowerSpherical, HypersphericalUniform)
def _kl_to_uniform(q: PowerSpherical, p: HypersphericalUniform) -> Tensor:
    return p.log_area - q.entropy()


class BallNormal(OnManifold):
    """Base of the distributions around a point of the Poincaré ball.

    Samples beyond ``ball.reach`` are drawn in to it, and their density is then not theirs: an encoder that may lay most
    of its samples there finds a KL of −∞. ``largest_scale`` is what keeps it from that.

    Args:
        loc: μ, points of the ball (…, D), the mean in the sense of squared distances.
        scale: σ, a length of the manifold; its shape is the subclass's.
        ball: the manifold.
    """

    def __init__(self, loc: Tensor, scale: Tensor, ball: PoincareBall) -> None:
        super().__init__(loc)
        self.scale, self.ball = scale, ball

    def expand(self, batch_shape: Shape, _instance: Any = None) -> "BallNormal":
        loc = self.loc.expand(*batch_shape, *self.event_shape)
        return type(self)(loc, self.scale.expand(*batch_shape, self.scale.shape[-1]), self.ball)

    @staticmethod
    def scales(dim: int) -> int:
        """How many σ a point has in ``dim`` dimensions."""
        raise NotImplementedError

    @staticmethod
    def largest_scale(dim: int, ball: PoincareBall, reach: float) -> float:
        """The σ up to which nearly all samples lie within ``reach`` of μ."""
        raise NotImplementedError

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        """z (*sample_shape, B, D) and log p(z), without a way back through the logarithm."""
        raise NotImplementedError

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return self.rsample_and_log_prob(torch.Size(sample_shape))[0]

    def _at(self, v: Tensor) -> Tensor:
        return self.ball.project(self.ball.exp(self.loc, v))


class WrappedNormal(BallNormal):
    """exp_μ(v), v ~ N(0, diag σ²), on the Poincaré ball (Nagano et al. 2019, arXiv:1902.02992; Mathieu et al. 2019).

    log p(z) = log N(log_μ z; 0, diag σ²) − (D − 1) log(sinh(√c r)/(√c r)), r = d(μ, z), with respect to the ball's
    volume; σ is (…, D).
    """

    @staticmethod
    def scales(dim: int) -> int:
        return dim

    @staticmethod
    def largest_scale(dim: int, ball: PoincareBall, reach: float) -> float:
        return reach / (dim**0.5 + 2)

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        v = self.scale * self._noise(sample_shape, self.event_shape[0])
        return self._at(v), self._log_density(v)

    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_density(self.ball.log(self.loc, value))

    def _log_density(self, v: Tensor) -> Tensor:
        normal = Normal(torch.zeros_like(v), self.scale, validate_args=False)
        return normal.log_prob(v).sum(-1) - self.ball.log_volume(v)


class RiemannianNormal(BallNormal):
    """p(z) = exp(−d(μ, z)²/2σ²)/Z with respect to the Poincaré ball's volume (Mathieu et al. 2019, arXiv:1901.06033).

    Of all densities with a given mean squared distance from μ the one of the largest entropy; σ is (…, 1). The
    direction from μ is uniform, the distance has a density ∝ exp(−r²/2σ²) sinh(√c r)^{D−1}. The authors sample it by
    rejection and write Z as an alternating sum; here both come from one grid in fp64, where no digits cancel in any
    number of dimensions, and a sample is differentiable as the inverse of the distribution function.
    """

    @staticmethod
    def scales(dim: int) -> int:
        return 1

    @staticmethod
    def largest_scale(dim: int, ball: PoincareBall, reach: float) -> float:
        # The root of (D − 1) √c σ² + (√D + 2) σ = reach: curvature drives the mass outwards.
        drift, spread = (dim - 1) * ball.curvature**0.5, dim**0.5 + 2
        return 2 * reach / (spread + (spread**2 + 4 * drift * reach) ** 0.5)

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        r, shares, log_z = self._integrated()
        drawn = _inverse(r, shares, sample_shape.numel()).to(self.loc)
        distance = drawn.view(*sample_shape, *self.batch_shape, 1)
        direction = nn.functional.normalize(self._noise(sample_shape, self.event_shape[0]), dim=-1)
        return self._at(distance * direction), self._log_density(distance, log_z)

    def log_prob(self, value: Tensor) -> Tensor:
        distance = self.ball.log(self.loc, value).norm(dim=-1, keepdim=True)
        return self._log_density(distance, self._integrated()[2])

    def _log_density(self, distance: Tensor, log_z: Tensor) -> Tensor:
        return -0.5 * (distance / self.scale).square().squeeze(-1) - log_z.to(distance)

    def _grid(self) -> Tensor:
        """Distances between which all mass lies, (…, NODES) in fp64.

        The log-density falls from its maximum at least as fast as a Gaussian's of the same σ. The maximum is where
        r = (D − 1) σ² √c coth(√c r), and max(1, 1/x) ≤ coth x ≤ 1 + 1/x.
        """
        sigma = self.scale.detach().double()
        pull = (self.event_shape[0] - 1) * sigma.square()
        half = 0.5 * pull * self.ball.curvature**0.5
        first = torch.maximum(pull.sqrt(), 2 * half) - TAIL * sigma
        last = half + (half.square() + pull).sqrt() + TAIL * sigma
        share = torch.linspace(0, 1, NODES, dtype=sigma.dtype, device=sigma.device)
        return torch.lerp(first.clamp_min(1e-12), last, share)

    def _integrated(self) -> tuple[Tensor, Tensor, Tensor]:
        """The grid, the share of the mass below each of its points, both (…, NODES), and log Z (…), by trapezoids."""
        r = self._grid()
        sphere = r.log() + log_sinh_ratio(self.ball.curvature * r.square())
        log_density = (self.event_shape[0] - 1) * sphere - 0.5 * (r / self.scale.double()).square()
        highest = log_density.detach().amax(-1, keepdim=True)
        below = torch.cumulative_trapezoid((log_density - highest).exp(), r)
        mass = below[..., -1:]
        log_z = (highest + mass.log()).squeeze(-1) + log_sphere_area(self.event_shape[0])
        return r, nn.functional.pad(below / mass, (1, 0)), log_z


def _inverse(r: Tensor, shares: Tensor, n: int) -> Tensor:
    """n draws (n, …) of the distribution function that is ``shares`` at ``r`` (…, NODES) and linear in between."""
    u = torch.rand(*r.shape[:-1], n, dtype=r.dtype, device=r.device)
    above = torch.searchsorted(shares.detach(), u).clamp(1, NODES - 1)
    low, high = shares.gather(-1, above - 1), shares.gather(-1, above)
    way = (u - low) / (high - low).clamp_min(torch.finfo(r.dtype).tiny)
    return torch.lerp(r.gather(-1, above - 1), r.gather(-1, above), way).movedim(-1, 0)


def ball_normal(name: str) -> type[WrappedNormal] | type[RiemannianNormal]:
    """The distribution that a config calls ``name``.

    Raises:
        UserError: there is none.
    """
    kinds: dict[str, type[WrappedNormal] | type[RiemannianNormal]] = {
        "wrapped": WrappedNormal,
        "riemannian": RiemannianNormal,
    }
    if name not in kinds:
        raise UserError(
            f"normal='{name}' of model.posterior or model.prior is unknown; choices: {', '.join(kinds)}"
        )
    return kinds[name]
