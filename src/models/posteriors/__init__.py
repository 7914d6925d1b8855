"""Posteriors q(z | x): features (B, F) in, a distribution over z (B, D) out."""

from src.models.posteriors.flow import IAFPosterior
from src.models.posteriors.gaussian import DeltaPosterior, DiagonalGaussian
from src.models.posteriors.riemannian import RiemannianGaussian

__all__ = ["DeltaPosterior", "DiagonalGaussian", "IAFPosterior", "RiemannianGaussian"]
