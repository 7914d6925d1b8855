"""A prior that a flow bends."""

from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.flowed import FlowedDistribution
from src.models.networks.flows import Flow
from src.models.priors.normal import StandardNormal
from src.utils.errors import UserError


class FlowPrior(nn.Module):
    """p(z): the standard normal through a flow that is learned with the rest (Papamakarios et al. 2017,
    arXiv:1705.07057, for its default, a masked autoregressive flow).

    A training step needs the density, which takes the flow's inverse, so that the flow should be one whose inverse is
    its cheap direction: ``Inverted(AutoregressiveFlow)``, whose samples take D passes, or ``SplineFlow``.

    Args:
        dim: latent dimensions.
        flow: u (…, D) → z and its log-determinant; one that has an inverse.
    """

    factorised = False

    def __init__(self, dim: int, flow: Flow) -> None:
        super().__init__()
        if not flow.invertible:
            raise UserError(
                f"model.prior.flow {type(flow).__name__} has no inverse, and with it no density at a posterior's "
                "samples; choose AutoregressiveFlow, SplineFlow or one of them Inverted"
            )
        self.base = StandardNormal(dim)
        self.flow = flow

    def forward(self, condition: Tensor | None = None) -> Distribution:
        return FlowedDistribution(self.base(), self.flow)
