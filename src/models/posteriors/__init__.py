"""Posteriors q(z | x): features (B, F) in, a distribution over z (B, D) out."""

from src.models.posteriors.categorical import GumbelPosterior
from src.models.posteriors.flow import FlowPosterior
from src.models.posteriors.gaussian import DeltaPosterior, DiagonalGaussian
from src.models.posteriors.hyperbolic import PoincarePosterior
from src.models.posteriors.point import PointPosterior
from src.models.posteriors.product import ProductPosterior
from src.models.posteriors.quantised import (
    CodedPosterior,
    FiniteScalarQuantised,
    LookupFreeQuantised,
    VectorQuantised,
)
from src.models.posteriors.riemannian import RiemannianGaussian
from src.models.posteriors.spherical import PowerSphericalPosterior

__all__ = [
    "CodedPosterior",
    "DeltaPosterior",
    "DiagonalGaussian",
    "FiniteScalarQuantised",
    "FlowPosterior",
    "GumbelPosterior",
    "LookupFreeQuantised",
    "PoincarePosterior",
    "PointPosterior",
    "PowerSphericalPosterior",
    "ProductPosterior",
    "RiemannianGaussian",
    "VectorQuantised",
]
