"""A posterior on a product of spaces."""

from torch import Tensor
from torch.distributions import Distribution

from src.models.geometry.product import ProductDistribution, ProductPart


class ProductPosterior(ProductPart):
    """q(z | x) = Π_i q_i(z_i | x) (Skopek et al. 2020, arXiv:1911.08411); arguments: see ``ProductPart``.

    Curvatures are settings here, where the authors can learn them.
    """

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        return ProductDistribution([part(features, condition) for part in self.factors.values()])
