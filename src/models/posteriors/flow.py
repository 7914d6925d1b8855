"""A posterior that a flow bends."""

from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.flowed import FlowedDistribution
from src.models.networks.flows import Flow
from src.models.posteriors.gaussian import DiagonalGaussian


class FlowPosterior(nn.Module):
    """q(z | x): a diagonal Gaussian through a flow that sees the encoder's features (Rezende & Mohamed 2015,
    arXiv:1505.05770).

    With an ``AutoregressiveFlow`` this is the inverse autoregressive flow of Kingma et al. 2016, arXiv:1606.04934,
    whose scales the authors gate with a sigmoid. All our flows start close to the identity.

    Args:
        in_features: width of the encoder's output.
        dim: latent dimensions.
        context: width of what the flow sees of the features.
        flow: u (…, D), context (…, C) → z and its log-determinant.
    """

    factorised = False
    freezable = False

    def __init__(self, in_features: int, dim: int, context: int, flow: Flow) -> None:
        super().__init__()
        self.gaussian = DiagonalGaussian(in_features, dim)
        self.context = nn.Linear(in_features, context)
        self.flow = flow

    @property
    def density_elsewhere(self) -> bool:
        """Whether log q is known at other points than own samples: where the flow has an inverse."""
        return self.flow.invertible

    @property
    def head(self) -> nn.Linear:
        """The layer that gives the mean and log σ of the Gaussian."""
        return self.gaussian.head

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        base = self.gaussian(features, condition)
        return FlowedDistribution(base, self.flow, self.context(features))
