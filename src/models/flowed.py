"""The distribution of what a flow gives."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from src.models.networks.flows import Flow


class FlowedDistribution(Distribution):
    """The distribution of flow(u), u ~ base.

    Sampling, and the density at own samples, take one pass of the flow; a density elsewhere takes its inverse.

    Args:
        base: over u, batch shape (B,) of a posterior, () of a prior.
        flow: u (…, D), context → z and log|det ∂z/∂u|.
        context: (B, C), or None for a flow without.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, base: Distribution, flow: Flow, context: Tensor | None = None) -> None:
        self.base, self.flow, self.context = base, flow, context
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Any = None
    ) -> "FlowedDistribution":
        context = self.context
        if context is not None:
            context = context.expand(*batch_shape, context.shape[-1])
        return FlowedDistribution(self.base.expand(torch.Size(batch_shape)), self.flow, context)

    @property
    def mean(self) -> Tensor:
        """flow(E[u]): where the base's centre goes. The expectation itself has no closed form."""
        return self.flow(self.base.mean, self.context)[0]

    def log_prob_at_mean(self) -> Tensor:
        """log q at ``mean``, (B,) nats, with one pass of the flow: there is an answer where it has no inverse."""
        centre = self.base.mean
        return self.base.log_prob(centre) - self.flow(centre, self.context)[1]

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        """z (*sample_shape, B, D) and log q(z), with one pass of the flow."""
        u = self.base.rsample(sample_shape)
        z, log_det = self.flow(u, self.context)
        return z, self.base.log_prob(u) - log_det

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.flow(self.base.rsample(torch.Size(sample_shape)), self.context)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        u, log_det = self.flow.inverse(value, self.context)
        return self.base.log_prob(u) + log_det
