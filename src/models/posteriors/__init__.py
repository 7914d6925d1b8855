"""Posteriors q(z | x): features (B, F) in, a distribution over z (B, D) out."""

from src.models.posteriors.gaussian import DeltaPosterior, DiagonalGaussian

__all__ = ["DeltaPosterior", "DiagonalGaussian"]
