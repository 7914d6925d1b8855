"""Likelihoods p(x | z): decoder output (…, P, *shape) in, a distribution over x (*shape) out."""

from src.models.likelihoods.base import Likelihood
from src.models.likelihoods.continuous import (
    BernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
)
from src.models.likelihoods.continuous_bernoulli import ContinuousBernoulliLikelihood
from src.models.likelihoods.discrete import CategoricalLikelihood, DiscretisedLogisticLikelihood
from src.models.likelihoods.exact import ExactLikelihood
from src.models.likelihoods.msssim import MSSSIMLikelihood
from src.models.likelihoods.rotations import RotationLikelihood
from src.models.likelihoods.standardised import StandardisedGaussian
from src.models.likelihoods.student_t import StudentTLikelihood

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ContinuousBernoulliLikelihood",
    "DiscretisedLogisticLikelihood",
    "ExactLikelihood",
    "GaussianLikelihood",
    "LaplaceLikelihood",
    "Likelihood",
    "MSSSIMLikelihood",
    "RotationLikelihood",
    "StandardisedGaussian",
    "StudentTLikelihood",
]
