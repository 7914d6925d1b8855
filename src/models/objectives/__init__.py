"""Objectives: a Draw in, named per-sample terms in nats and their weights out."""

from src.models.objectives.base import Objective, Terms
from src.models.objectives.critics import VAEGAN, AdversarialAutoencoder, FactorVAE
from src.models.objectives.elbo import ELBO, Reconstruction
from src.models.objectives.foreground import ForegroundELBO
from src.models.objectives.importance import (
    DoublyReparametrised,
    ImportanceWeighted,
    PartiallyImportanceWeighted,
)
from src.models.objectives.matching import MMDRegularised
from src.models.objectives.moments import MomentMatching
from src.models.objectives.mutual_information import MutualInformationMachine
from src.models.objectives.regularised import Regularised
from src.models.objectives.total_correlation import TotalCorrelation

__all__ = [
    "AdversarialAutoencoder",
    "DoublyReparametrised",
    "ELBO",
    "FactorVAE",
    "ForegroundELBO",
    "ImportanceWeighted",
    "MMDRegularised",
    "MomentMatching",
    "MutualInformationMachine",
    "Objective",
    "PartiallyImportanceWeighted",
    "Reconstruction",
    "Regularised",
    "Terms",
    "TotalCorrelation",
    "VAEGAN",
]
