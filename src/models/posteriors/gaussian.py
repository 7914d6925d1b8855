"""Posteriors with a mean: the diagonal Gaussian and its limit, the point."""

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from src.models.distributions import Delta, bounded, full_precision
from src.utils.errors import UserError


class DiagonalGaussian(nn.Module):
    """q(z | x) = N(μ(x), diag σ²(x)) (Kingma & Welling 2014, arXiv:1312.6114).

    log σ is kept within ±8 by a smooth bound, so that an early outlier overflows nothing and
    still has a gradient.

    Args:
        in_features: width of the encoder's output.
        dim: latent dimensions.
        residual: the first ``dim`` features are a first guess of μ, which the head corrects: it starts at 0, with a σ
            of about e⁻³, in which the guess is not lost.
    """

    factorised = True

    def __init__(self, in_features: int, dim: int, residual: bool = False) -> None:
        super().__init__()
        if residual and in_features < dim:
            raise UserError(
                f"model.posterior.residual=true needs a first guess of each of {dim} latent dimensions, and the "
                f"encoder has {in_features} features"
            )
        self.dim, self.residual = dim, residual
        self.head = nn.Linear(in_features, 2 * dim)
        if residual:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
            nn.init.constant_(self.head.bias[dim:], -3.0)

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """μ and σ, each (…, dim)."""
        mean, raw = full_precision(self.head(features)).chunk(2, dim=-1)
        if self.residual:
            mean = mean + features[..., : self.dim]
        return mean, bounded(raw, 8.0).exp()

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        mean, sigma = self.moments(features)
        return Independent(Normal(mean, sigma, validate_args=False), 1, validate_args=False)


class DeltaPosterior(nn.Module):
    """z = μ(x): the deterministic encoder of an autoencoder.

    Args:
        in_features: width of the encoder's output.
        dim: latent dimensions.
    """

    factorised = True
    density = False

    def __init__(self, in_features: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.head = nn.Linear(in_features, dim)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        return Delta(full_precision(self.head(features)))
