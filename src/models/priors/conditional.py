"""A prior for every class."""

from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.posteriors.gaussian import DiagonalGaussian
from src.utils.errors import UserError


class ConditionalNormal(nn.Module):
    """p(z | c) = N(μ(c), diag σ²(c)), linear in the vector of the condition (Sohn et al. 2015, NeurIPS).

    It starts as N(0, I) for every condition; the authors' network, with hidden layers, starts anywhere.

    Args:
        dim: latent dimensions.
        width: of the condition's vector.
    """

    factorised = True
    conditional = True

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.gaussian = DiagonalGaussian(width, dim)
        for parameter in self.gaussian.parameters():
            nn.init.zeros_(parameter)

    def forward(self, condition: Tensor | None = None) -> Distribution:
        if condition is None:
            raise UserError(
                "model/prior=conditional_normal needs a condition; choose model/latent=conditional"
            )
        return self.gaussian(condition)
