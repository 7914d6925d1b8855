"""Hamiltonian Monte Carlo with exact gradients, all chains at once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from src.models.geometry.metric import CentroidMetric

# (…, D) → (…) nats, known up to a constant; and its gradient, (…, D) → (…, D).
LogDensity = Callable[[Tensor], Tensor]
Gradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class HMCResult:
    """What chains have visited; S samples of C chains.

    Attributes:
        samples: (S, C, D).
        log_density: of the samples, (S, C) nats.
        acceptance: the share of proposals that each chain has accepted, (C,).
    """

    samples: Tensor
    log_density: Tensor
    acceptance: Tensor


def leapfrog(
    gradient: Gradient, z: Tensor, momentum: Tensor, step_size: Tensor | float, steps: int
) -> tuple[Tensor, Tensor]:
    """Follow H(z, p) = −log π(z) + ½‖p‖² for ``steps`` steps; reversible, volume preserving, energy error O(ε²).

    With −momentum it leads back. Differentiable, where ``gradient`` is.

    Args:
        gradient: ∇ log π.
        z, momentum: (…, D).
        step_size: ε, one number or (…, 1).

    Returns:
        z and the momentum at the end.
    """
    momentum = momentum + 0.5 * step_size * gradient(z)
    for step in range(steps):
        z = z + step_size * momentum
        # Two half steps of the momentum between two steps of z are one.
        share = 1.0 if step + 1 < steps else 0.5
        momentum = momentum + share * step_size * gradient(z)
    return z, momentum


@torch.no_grad()
def hmc(
    log_density: LogDensity,
    gradient: Gradient,
    start: Tensor,
    steps: int,
    leapfrog_steps: int = 15,
    step_size: Tensor | float = 0.03,
    burn_in: int = 0,
    thin: int = 1,
    jitter: float = 0.0,
) -> HMCResult:
    """Chains that leave π(z) invariant, with unit masses; random numbers are torch's global ones.

    Acceptance is decided in log space, log u < H₀ − H, with nothing clamped; what is not finite is rejected.

    Args:
        log_density: log π, up to a constant.
        gradient: ∇ log π, called without autograd, which a function that needs it turns on itself.
        start: (C, D), where the C chains begin.
        steps: proposals to each chain.
        step_size: ε of the leapfrog.
        burn_in: so many states at the beginning are not kept.
        thin: of the others, every so many-th is kept.
        jitter: ε is multiplied with 1 ± up to this for each proposal, so that no orbit closes.

    References:
        Neal 2011, MCMC Using Hamiltonian Dynamics, arXiv:1206.1901.
    """
    z, value = start, log_density(start)
    samples, values = [], []
    accepted = torch.zeros_like(value)
    for step in range(steps):
        momentum = torch.randn_like(z)
        stretch = 1 + jitter * (2 * torch.rand_like(z[..., :1]) - 1)
        proposal, final = leapfrog(gradient, z, momentum, step_size * stretch, leapfrog_steps)
        proposed = log_density(proposal)
        kinetic = 0.5 * (momentum.square() - final.square()).sum(-1)
        accept = torch.rand_like(value).log() < proposed - value + kinetic
        z = torch.where(accept[..., None], proposal, z)
        value = torch.where(accept, proposed, value)
        accepted += accept
        if step >= burn_in and (step - burn_in + 1) % thin == 0:
            samples.append(z)
            values.append(value)
    return HMCResult(torch.stack(samples), torch.stack(values), accepted / steps)


def riemannian_target(metric: CentroidMetric) -> tuple[LogDensity, Gradient]:
    """log π(z) = ½ log det G⁻¹(z) − ½‖z‖², and its exact gradient: where data were, within a normal's reach.

    √det G⁻¹ alone is no density, because G⁻¹ → λI far from the centroids.
    """

    def log_density(z: Tensor) -> Tensor:
        return metric.half_logdet_inverse(z) - 0.5 * z.square().sum(-1)

    def gradient(z: Tensor) -> Tensor:
        return metric.half_logdet_inverse_gradient(z) - z

    return log_density, gradient
