"""Priors p(z): an optional condition in, a distribution over z (D,) out."""

from src.models.priors.autoregressive_normal import AutoregressiveNormal
from src.models.priors.codes import UniformCategorical, UniformCodes
from src.models.priors.conditional import ConditionalNormal
from src.models.priors.flow import FlowPrior
from src.models.priors.gaussian_mixture import GaussianMixturePrior
from src.models.priors.gaussian_process import GaussianProcessPrior
from src.models.priors.hyperbolic import PoincarePrior
from src.models.priors.mixture import MixturePrior
from src.models.priors.normal import StandardNormal
from src.models.priors.product import ProductPrior
from src.models.priors.riemannian import RiemannianPrior
from src.models.priors.spherical import HypersphericalUniformPrior
from src.models.priors.vamp import VampPrior

__all__ = [
    "AutoregressiveNormal",
    "ConditionalNormal",
    "FlowPrior",
    "GaussianMixturePrior",
    "GaussianProcessPrior",
    "HypersphericalUniformPrior",
    "MixturePrior",
    "PoincarePrior",
    "ProductPrior",
    "RiemannianPrior",
    "StandardNormal",
    "UniformCategorical",
    "UniformCodes",
    "VampPrior",
]
