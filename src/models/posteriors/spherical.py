"""A posterior on the unit sphere."""

from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.distributions import full_precision
from src.models.geometry.curved import PowerSpherical, check_sphere


class PowerSphericalPosterior(nn.Module):
    """q(z | x) = PowerSpherical(μ(x), κ(x)) on S^{D−1} ⊂ R^D (De Cao & Aziz 2020, arXiv:2006.04437).

    It takes the place of the von Mises–Fisher distribution of the S-VAE (Davidson et al. 2018, arXiv:1804.00891): as
    concentrated, but sampled without rejection and with a KL free of Bessel functions.

    Args:
        in_features: width of the encoder's output.
        dim: D, the dimensions around the sphere; its own are one fewer.
        floor: the least κ.
    """

    factorised = False
    support = "sphere"

    def __init__(self, in_features: int, dim: int, floor: float = 1.0) -> None:
        super().__init__()
        check_sphere(dim)
        self.dim, self.floor = dim, floor
        self.head = nn.Linear(in_features, dim + 1)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        raw = full_precision(self.head(features))
        concentration = nn.functional.softplus(raw[..., -1]) + self.floor
        return PowerSpherical(nn.functional.normalize(raw[..., :-1], dim=-1), concentration)
