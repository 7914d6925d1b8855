"""The density that a metric gives to its latent space, p_R(z) = √det G⁻¹(z) N(z; 0, I) / Z, and its normaliser Z."""

from math import log, pi
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from src.models.geometry.hmc import hmc, riemannian_target
from src.models.geometry.metric import CentroidMetric
from src.utils.seeding import isolated_rng

# Points looked at together.
CHUNK = 4096
# The shares of a proposal's parts: N(0, I), which bounds all importance weights, then per kind of bump.
NORMAL_SHARE, BUMP_SHARE, WIDE_SHARE = 0.3, 0.5, 0.2
# What adapting it adds, and keeps of the first.
MOMENT_SHARE, LOCAL_SHARE = 0.3, 0.2
# The pilot that a proposal is adapted with: points to choose chains from, chains, and their lengths.
PILOT, CHAINS, PILOT_STEPS, PILOT_LEAPFROGS = 8192, 512, 30, 10


class Normaliser(NamedTuple):
    """log Z in nats with its standard error, and how many independent draws of p_R the estimate is worth; 0-dim."""

    log_z: Tensor
    standard_error: Tensor
    effective_samples: Tensor


class Proposal:
    """A mixture of C isotropic Gaussians and possibly one with a full covariance.

    Args:
        means: (C, D).
        precisions: 1/variance, (C,).
        log_shares: of the isotropic ones, (C,), adding up to 1.
        moments: mean (D,) and lower Cholesky factor (D, D) of the other one, whose share is ``MOMENT_SHARE``.
        direct: as of the metric: distances from differences.
    """

    def __init__(
        self,
        means: Tensor,
        precisions: Tensor,
        log_shares: Tensor,
        moments: tuple[Tensor, Tensor] | None = None,
        direct: bool = False,
    ) -> None:
        self.means, self.precisions = means, precisions
        self.moments, self.direct = moments, direct
        self.log_shares = log_shares if moments is None else log_shares + log(1 - MOMENT_SHARE)

    @classmethod
    def of(cls, metric: CentroidMetric) -> "Proposal":
        """N(0, I), and per centroid the bump that √det G⁻¹ · N(0, I) has there, in two widths.

        Near c_k, det^½ (w_k M_k + λI) falls like exp(−D ‖z − c_k‖²/(2τ²)) as long as w_k M_k outweighs λ: with the
        normal, a Gaussian of precision a + 1, mean a c_k / (a + 1) and a known mass, a = D/τ². Where λ takes part it
        falls more slowly, which is what the wide ones, a = D/(4τ²), are for.
        """
        centroids = metric.centroids
        means, log_shares = [torch.zeros_like(centroids[:1])], [centroids.new_zeros(1)]
        precisions = [centroids.new_ones(1)]
        log_shares[0] += log(NORMAL_SHARE)
        height = metric.half_logdet_inverse(centroids)
        for narrowing, share in ((1.0, BUMP_SHARE), (0.25, WIDE_SHARE)):
            a = torch.as_tensor(narrowing * metric.dim / metric.temperature**2).to(centroids)
            log_mass = height - 0.5 * centroids.square().sum(-1) * a / (a + 1)
            means.append(centroids * a / (a + 1))
            precisions.append((a + 1).expand(len(centroids)))
            log_shares.append(log_mass.log_softmax(0) + log(share))
        return cls(
            torch.cat(means), torch.cat(precisions), torch.cat(log_shares), direct=metric.direct
        )

    def adapted(self, metric: CentroidMetric) -> "Proposal":
        """A second proposal from a pilot: Gaussians around chains that have run in p_R, and one with their moments.

        The bumps of ``of`` lie at centroids; where bumps overlap, p_R also lies between them.
        """
        start = _resample(metric, self, CHAINS, PILOT)
        chains = _run(metric, start, PILOT_STEPS, PILOT_LEAPFROGS, thin=PILOT_STEPS // 2)
        visited = chains.flatten(0, 1)
        local = _precision(metric).expand(CHAINS)
        shares = (
            self.log_shares + log(1 - LOCAL_SHARE),
            self.log_shares.new_full((CHAINS,), log(LOCAL_SHARE / CHAINS)),
        )
        return Proposal(
            torch.cat([self.means, chains[-1]]),
            torch.cat([self.precisions, local]),
            torch.cat(shares),
            moments=_moments(visited, 1e-3 / local[0]),
            direct=self.direct,
        )

    def sample(self, n: int) -> Tensor:
        """(n, D)."""
        noise = torch.randn(
            n, self.means.shape[1], dtype=self.means.dtype, device=self.means.device
        )
        chosen = torch.multinomial(self.log_shares.exp(), n, replacement=True)
        z = self.means[chosen] + noise * self.precisions[chosen].rsqrt()[:, None]
        if self.moments is None:
            return z
        mean, factor = self.moments
        other = torch.rand(n, 1, device=z.device) < MOMENT_SHARE
        return torch.where(other, mean + noise @ factor.T, z)

    def log_prob(self, z: Tensor) -> Tensor:
        """z (N, D) → (N,) nats."""
        mode = "donot_use_mm_for_euclid_dist" if self.direct else "use_mm_for_euclid_dist"
        squared = torch.cdist(z, self.means, compute_mode=mode).square()
        log_scale = 0.5 * z.shape[1] * (self.precisions / (2 * pi)).log()
        value = (self.log_shares + log_scale - 0.5 * self.precisions * squared).logsumexp(-1)
        if self.moments is None:
            return value
        normal = torch.distributions.MultivariateNormal(
            self.moments[0], scale_tril=self.moments[1], validate_args=False
        )
        return torch.logaddexp(value, normal.log_prob(z) + log(MOMENT_SHARE))


@torch.no_grad()
def log_normaliser(metric: CentroidMetric, samples: int = 2**15, seed: int = 0) -> Normaliser:
    """Z = ∫ √det G⁻¹(z) N(z; 0, I) dz = E_N(0,I)[√det G⁻¹] by importance sampling.

    The proposal is a defensive mixture (``Proposal``), adapted by a pilot and then held fixed; what the pilot
    has drawn does not enter the estimate. Torch's global random numbers are left alone.

    Args:
        samples: of the estimate, without the pilot.
        seed: of all that is random here.
    """
    if not metric.matrices.any():  # a constant metric
        regularization = torch.as_tensor(metric.regularization).to(metric.centroids)
        exact = 0.5 * metric.dim * regularization.log()
        return Normaliser(exact, torch.zeros_like(exact), torch.full_like(exact, samples))
    with isolated_rng(seed, metric.centroids.device):
        proposal = Proposal.of(metric).adapted(metric)
        _, log_weights = _weighted(metric, proposal, samples)
    log_total = log_weights.logsumexp(0)
    effective = (2 * log_total - (2 * log_weights).logsumexp(0)).exp()
    # The delta method: the relative error of the weights' mean.
    error = ((1 / effective - 1 / samples).clamp_min(0) * samples / (samples - 1)).sqrt()
    return Normaliser(log_total - log(samples), error, effective)


@torch.no_grad()
def draw_resampled(metric: CentroidMetric, n: int, oversample: int = 16) -> Tensor:
    """About n draws of p_R, (n, D), by sampling-importance-resampling; where chains should start.

    Args:
        oversample: proposals a draw; 4096 proposals at least.
    """
    return _resample(metric, Proposal.of(metric), n, max(CHUNK, oversample * n))


class RiemannianDensity(Distribution):
    """p_R(z) = √det G⁻¹(z) N(z; 0, I) / Z, event (D,): a normal that avoids what the metric makes expensive.

    Samples are the ends of short Hamiltonian chains that start from importance-resampled points. They carry no
    gradient; ``log_prob`` does, to z and to the metric's tensors.

    Args:
        metric: G.
        log_normaliser: log Z, as of ``log_normaliser``; 0 leaves the density unnormalised.
        steps: of a chain.
        leapfrog_steps: of each proposal.
        step_size: ε; by default a quarter of the width of the density's narrowest bumps, 1/√(D/τ² + 1).
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = False

    def __init__(
        self,
        metric: CentroidMetric,
        log_normaliser: Tensor | float,
        steps: int = 30,
        leapfrog_steps: int = 10,
        step_size: float | None = None,
    ) -> None:
        self.metric, self.log_normaliser = metric, log_normaliser
        self.steps, self.leapfrog_steps, self.step_size = steps, leapfrog_steps, step_size
        super().__init__(torch.Size(), torch.Size((metric.dim,)), validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Any = None
    ) -> "RiemannianDensity":
        new = self._get_checked_instance(RiemannianDensity, _instance)
        new.__dict__.update(self.__dict__)
        Distribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        return new

    @property
    def mean(self) -> Tensor:
        raise NotImplementedError("the mean of a Riemannian density is not closed; average samples")

    def log_prob(self, value: Tensor) -> Tensor:
        log_density = _log_target(self.metric, value) - self.log_normaliser
        shape = torch.broadcast_shapes(log_density.shape, self.batch_shape)
        return log_density.expand(shape)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        start = draw_resampled(self.metric, shape[:-1].numel())
        chains = _run(
            self.metric, start, self.steps, self.leapfrog_steps, self.steps, self.step_size
        )
        return chains[-1].reshape(shape)


def _run(
    metric: CentroidMetric,
    start: Tensor,
    steps: int,
    leapfrog_steps: int,
    thin: int,
    step_size: float | None = None,
) -> Tensor:
    """Chains (C, D) in p_R → their states, (S, C, D)."""
    size = 0.25 * _precision(metric).rsqrt() if step_size is None else step_size
    log_density, gradient = riemannian_target(metric)
    return hmc(
        log_density, gradient, start, steps, leapfrog_steps, size, thin=thin, jitter=0.3
    ).samples


def _precision(metric: CentroidMetric) -> Tensor:
    """Of the narrowest bumps of p_R: D/τ² + 1, 0-dim."""
    return torch.as_tensor(1 + metric.dim / metric.temperature**2).to(metric.centroids)


def _log_target(metric: CentroidMetric, z: Tensor) -> Tensor:
    """log(√det G⁻¹(z) N(z; 0, I)), (…)."""
    half_logdet = metric.half_logdet_inverse(z)
    return half_logdet - 0.5 * (z.square().sum(-1) + metric.dim * log(2 * pi))


def _weighted(metric: CentroidMetric, proposal: Proposal, n: int) -> tuple[Tensor, Tensor]:
    """n points of a proposal, (n, D), and their log importance weights, (n,)."""
    z = proposal.sample(n)
    chunks = z.split(CHUNK)
    return z, torch.cat([_log_target(metric, part) - proposal.log_prob(part) for part in chunks])


def _resample(metric: CentroidMetric, proposal: Proposal, n: int, pool: int) -> Tensor:
    z, log_weights = _weighted(metric, proposal, pool)
    return z[torch.multinomial(log_weights.softmax(0), n, replacement=True)]


def _moments(points: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and Cholesky factor of the covariance of points (N, D), made a little wider."""
    dim = points.shape[1]
    covariance = torch.atleast_2d(points.T.cov()) * (1 + 2 / dim)
    ridge = floor * torch.eye(dim, dtype=points.dtype, device=points.device)
    return points.mean(0), torch.linalg.cholesky(covariance + ridge)
