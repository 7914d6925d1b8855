"""Latents that Hamiltonian dynamics move towards the posterior.

Letters: k samples, B batch, D latent dimensions; z and the momentum ρ are (k, B, D).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from src.models.draw import Draw
from src.models.geometry import CentroidMetric, MetricPoint
from src.models.latents.base import sample_with_density
from src.models.latents.flat import FlatLatent
from src.utils.errors import UserError

FIXED_POINT_ITERATIONS = 3


class HamiltonianLatent(FlatLatent):
    """z_0 ~ q(z | x), then ``steps`` tempered leapfrog steps on H(z, ρ) = −log p(x, z) + ½ logdet G + ½ ρᵀG⁻¹ρ.

    Without a metric G = I: HVAE (Caterini et al. 2018, arXiv:1805.11328). With one: RHVAE (Chadebec et al. 2020,
    arXiv:2010.11518), by the generalised leapfrog, whose implicit half-steps take three fixed-point iterations; the
    authors' code keeps the metric of the old z in the position's iterations, here it is that of the iterate, and the
    first momentum has the covariance G(z_0)/β_0 in training too.

    The ELBO is that of the augmented model: log p(x, z_K) + log N(ρ_K; 0, G(z_K)) − log q(z_0 | x)
    − log N(ρ_0; 0, G(z_0)/β_0) + log|det|, where leapfrog preserves volume and the tempering scales momenta by √β_0.

    ``encode``, and with it reconstructions and the energy, is that of z_0: where the dynamics start from.

    Args:
        steps: K.
        step_size: ε.
        beta_zero: β_0 in (0, 1], the first inverse temperature.
        parts: see ``Latent``; the metric is learned or none.
    """

    shardable = False

    def __init__(
        self, steps: int = 3, step_size: float = 1e-3, beta_zero: float = 0.3, **parts: Any
    ) -> None:
        super().__init__(**parts)
        if steps < 1 or not step_size > 0 or not 0 < beta_zero <= 1:
            raise UserError(
                f"model.latent: steps={steps} must be at least 1, step_size={step_size} positive and "
                f"beta_zero={beta_zero} in (0, 1]"
            )
        self.steps, self.step_size, self.beta_zero = steps, step_size, beta_zero

    def infer(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Draw:
        """k samples of z_K for every x."""
        q = self.encode(x, c)
        start, log_q = sample_with_density(q, k)
        log_q = q.log_prob(start) if log_q is None else log_q
        noise = torch.randn_like(start)
        wanted = torch.is_grad_enabled()
        # Lightning tests in inference mode, whose tensors have no gradients; copies made outside it have.
        with torch.inference_mode(False), torch.enable_grad(), self._evaluating_likelihood():
            space = _Space(self._batch_metric(x, q))
            x_, z, noise_ = (value if wanted else value.clone() for value in (x, start, noise))
            z, momentum = self._evolve(x_, z, noise_, space, c)
        if not wanted:
            z, momentum = z.detach(), momentum.detach()
        log_q = log_q + space.log_momentum_density(start, noise, self.beta_zero)
        log_det = 0.5 * z.shape[-1] * math.log(self.beta_zero)
        prior = self.prior_over_z(c)
        assert prior is not None  # src/models/compat.py refuses a model without
        log_p = prior.log_prob(z) + space.log_density(space.at(z), momentum)
        return Draw(
            x=x,
            z=z,
            q=q,
            p=prior,
            px=self.decode(z, c),
            own_log_qz=log_q - log_det,
            own_log_pz=log_p,
        )

    def _batch_metric(self, x: Tensor, q: Distribution) -> CentroidMetric | None:
        if self.metric is None:
            return None
        # In training the batch is its own set of centroids, so that the metric network learns.
        of_batch = getattr(self.metric, "of_batch", None)
        return of_batch(x, q.mean) if self.training and of_batch else self.metric()

    @contextmanager
    def _evaluating_likelihood(self) -> Iterator[None]:
        # The force on one sample must not depend on the batch, as the optimal σ of training would have it.
        was_training = self.likelihood.training
        self.likelihood.eval()
        try:
            yield
        finally:
            self.likelihood.train(was_training)

    def _evolve(
        self, x: Tensor, z: Tensor, noise: Tensor, space: "_Space", c: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        momentum = space.momentum(z, noise) / math.sqrt(self.beta_zero)
        previous = math.sqrt(self.beta_zero)
        slope = self._slope(x, z, c)
        for step in range(1, self.steps + 1):
            z, momentum, slope = self._leapfrog(x, z, momentum, slope, space, c)
            root = self._root_temperature(step)
            momentum, previous = momentum * (previous / root), root
        return z, momentum

    def _root_temperature(self, step: int) -> float:
        """√β_k = [(1 − 1/√β_0)(k/K)² + 1/√β_0]⁻¹, the quadratic scheme of the paper; 1 at the end."""
        start = 1 / math.sqrt(self.beta_zero)
        return 1 / ((1 - start) * (step / self.steps) ** 2 + start)

    def _leapfrog(
        self,
        x: Tensor,
        z: Tensor,
        momentum: Tensor,
        slope: Tensor,
        space: "_Space",
        c: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step from z, whose slope is known: the next z, momentum and slope."""
        half = 0.5 * self.step_size
        iterations = 1 if space.flat else FIXED_POINT_ITERATIONS
        kicked = momentum
        for _ in range(iterations):
            kicked = momentum - half * (slope + self._metric_force(z, kicked, space))
        velocity = space.velocity(z, kicked)
        moved = z
        for _ in range(iterations):
            moved = z + half * (velocity + space.velocity(moved, kicked))
        slope = self._slope(x, moved, c)
        force = slope + self._metric_force(moved, kicked, space)
        return moved, kicked - half * force, slope

    def _slope(self, x: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        """∂/∂z of −log p(x, z): the costly part of the force, which no momentum changes."""
        prior = self.prior_over_z(c)
        assert prior is not None
        return self._gradient(z, lambda at: -self.decode(at, c).log_prob(x) - prior.log_prob(at))

    def _metric_force(self, z: Tensor, momentum: Tensor, space: "_Space") -> Tensor | float:
        """∂/∂z of −log N(ρ; 0, G(z)) at a fixed momentum; none without a metric."""
        if space.flat:
            return 0.0
        return self._gradient(z, lambda at: -space.log_density(space.at(at), momentum))

    def _gradient(self, z: Tensor, energy: Callable[[Tensor], Tensor]) -> Tensor:
        # At a copy, because the momentum may itself depend on z, and that dependence is not to be differentiated here.
        at = z.clone() if z.requires_grad else z.detach().requires_grad_()
        # With the graph, so that training differentiates through the dynamics.
        (gradient,) = torch.autograd.grad(energy(at).sum(), at, create_graph=self.training)
        return gradient


class _Space:
    """Momenta under a metric, or under none (G = I)."""

    def __init__(self, metric: CentroidMetric | None) -> None:
        self.metric, self.flat = metric, metric is None

    def at(self, z: Tensor) -> MetricPoint | None:
        return None if self.metric is None else self.metric.at(z)

    def momentum(self, z: Tensor, noise: Tensor) -> Tensor:
        """ρ = C⁻ᵀ noise ~ N(0, G), with CCᵀ = G⁻¹."""
        point = self.at(z)
        if point is None:
            return noise
        return torch.linalg.solve_triangular(
            point.scale_tril.mT, noise.unsqueeze(-1), upper=True
        ).squeeze(-1)

    def velocity(self, z: Tensor, momentum: Tensor) -> Tensor:
        """∂H/∂ρ = G⁻¹ρ."""
        point = self.at(z)
        return momentum if point is None else point.raise_(momentum)

    def log_density(self, point: MetricPoint | None, momentum: Tensor) -> Tensor:
        """log N(ρ; 0, G) = −½ ρᵀG⁻¹ρ + ½ logdet G⁻¹ − D/2 log 2π."""
        constant = 0.5 * momentum.shape[-1] * math.log(2 * math.pi)
        if point is None:
            return -0.5 * momentum.square().sum(-1) - constant
        squares = (momentum * point.raise_(momentum)).sum(-1)
        return -0.5 * squares + point.half_logdet_inverse - constant

    def log_momentum_density(self, z: Tensor, noise: Tensor, beta: float) -> Tensor:
        """log N(ρ_0; 0, G(z_0)/β) of ρ_0 = C⁻ᵀ noise/√β."""
        dim = noise.shape[-1]
        log_density = -0.5 * noise.square().sum(-1) + 0.5 * dim * math.log(beta / (2 * math.pi))
        point = self.at(z)
        return log_density if point is None else log_density + point.half_logdet_inverse
