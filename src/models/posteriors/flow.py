"""A posterior that a flow bends."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from src.models.networks.flows import AutoregressiveFlow
from src.models.posteriors.gaussian import DiagonalGaussian


class FlowedDistribution(Distribution):
    """The distribution of flow(u), u ~ base.

    Sampling, and the density at own samples, take one pass of the flow; a density elsewhere takes its inverse.

    Args:
        base: over u, batch shape (B,).
        flow: u (…, D), context → z and log|det ∂z/∂u|.
        context: (B, C).
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, base: Distribution, flow: AutoregressiveFlow, context: Tensor) -> None:
        self.base, self.flow, self.context = base, flow, context
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Any = None
    ) -> "FlowedDistribution":
        context = self.context.expand(*batch_shape, self.context.shape[-1])
        return FlowedDistribution(self.base.expand(torch.Size(batch_shape)), self.flow, context)

    @property
    def mean(self) -> Tensor:
        """flow(E[u]): where the base's centre goes. The expectation itself has no closed form."""
        return self.flow(self.base.mean, self.context)[0]

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        """z (*sample_shape, B, D) and log q(z), with one pass of the flow."""
        u = self.base.rsample(sample_shape)
        z, log_det = self.flow(u, self.context)
        return z, self.base.log_prob(u) - log_det

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.rsample_and_log_prob(torch.Size(sample_shape))[0]

    def log_prob(self, value: Tensor) -> Tensor:
        u, log_det = self.flow.inverse(value, self.context)
        return self.base.log_prob(u) + log_det


class IAFPosterior(nn.Module):
    """q(z | x): a diagonal Gaussian through an inverse autoregressive flow that sees the encoder's features.

    Kingma et al. 2016, arXiv:1606.04934. The flow starts close to the identity; the authors gate theirs with a sigmoid.

    Args:
        in_features: width of the encoder's output.
        dim: latent dimensions.
        context: width of what the flow sees of the features.
        blocks, width, depth: of the flow.
    """

    factorised = False

    def __init__(
        self,
        in_features: int,
        dim: int,
        context: int = 32,
        blocks: int = 3,
        width: int = 128,
        depth: int = 2,
    ) -> None:
        super().__init__()
        self.gaussian = DiagonalGaussian(in_features, dim)
        self.context = nn.Linear(in_features, context)
        self.flow = AutoregressiveFlow(dim, blocks, width, depth, context)

    @property
    def head(self) -> nn.Linear:
        """The layer that gives the mean and log σ of the Gaussian."""
        return self.gaussian.head

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        base = self.gaussian(features, condition)
        return FlowedDistribution(base, self.flow, self.context(features))
