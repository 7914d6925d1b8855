"""A Gaussian shaped by the latent metric."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal
from torch.distributions.kl import register_kl

from src.models.distributions import UnitNormal
from src.models.posteriors.gaussian import DiagonalGaussian
from src.utils.errors import UserError


class FullPrecisionNormal(MultivariateNormal):
    """A multivariate normal whose products autocast leaves alone."""

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        with torch.autocast(self.loc.device.type, enabled=False):
            return super().rsample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        with torch.autocast(self.loc.device.type, enabled=False):
            return super().log_prob(value)


class RiemannianGaussian(DiagonalGaussian):
    """q(z | x) = N(μ, S A S), A = G⁻¹(μ), S = diag σ: wide along the data, narrow across it.

    A is the inverse of the latent metric at the mean, σ comes from the encoder as in the diagonal Gaussian, which
    this is while the metric is Euclidean.

    Args:
        in_features: width of the encoder's output.
        dim: latent dimensions.
    """

    factorised = False

    def __init__(self, in_features: int, dim: int) -> None:
        super().__init__(in_features, dim)
        self._metric: tuple[nn.Module, ...] = ()

    def borrow_metric(self, metric: nn.Module) -> None:
        """Use ``metric``, which the latent owns."""
        self._metric = (metric,)  # a module in a tuple is not registered a second time

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        if not self._metric:
            raise UserError(
                "model/posterior=riemannian needs a latent metric; choose model/metric=fitted"
            )
        mean, sigma = self.moments(features)
        point = self._metric[0]().at(mean)
        return FullPrecisionNormal(
            mean, scale_tril=sigma.unsqueeze(-1) * point.scale_tril, validate_args=False
        )


@register_kl(MultivariateNormal, Independent)
def _kl_to_standard_normal(q: MultivariateNormal, p: Independent) -> Tensor:
    """½ (tr Σ + ‖μ‖² − D − logdet Σ)."""
    if not isinstance(p.base_dist, UnitNormal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    factor = q._unbroadcasted_scale_tril
    trace = factor.square().flatten(-2).sum(-1)
    half_logdet = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (trace + q.loc.square().sum(-1) - q.event_shape[0]) - half_logdet
