"""Priors p(z): an optional condition in, a distribution over z (D,) out."""

from src.models.priors.normal import StandardNormal

__all__ = ["StandardNormal"]
