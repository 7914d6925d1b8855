"""Likelihoods p(x | z): decoder output (…, P, *shape) in, a distribution over x (*shape) out."""

from src.models.likelihoods.continuous import (
    BernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
)

__all__ = ["BernoulliLikelihood", "GaussianLikelihood", "LaplaceLikelihood"]
