"""Priors p(z): an optional condition in, a distribution over z (D,) out."""

from src.models.priors.gaussian_process import GaussianProcessPrior
from src.models.priors.normal import StandardNormal
from src.models.priors.riemannian import RiemannianPrior
from src.models.priors.vamp import VampPrior

__all__ = ["GaussianProcessPrior", "RiemannianPrior", "StandardNormal", "VampPrior"]
