"""Objectives: a Draw in, named per-sample terms in nats and their weights out."""

from src.models.objectives.base import Objective, Terms
from src.models.objectives.elbo import ELBO, Reconstruction

__all__ = ["ELBO", "Objective", "Reconstruction", "Terms"]
