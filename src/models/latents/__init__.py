"""Latents: how z is inferred and turned back into a distribution over x."""

from src.models.latents.base import Latent
from src.models.latents.flat import FlatLatent
from src.models.latents.hamiltonian import HamiltonianLatent
from src.models.latents.sequence import (
    FrameSequence,
    FramesLatent,
    LongitudinalLatent,
    SequenceLatent,
)

__all__ = [
    "FlatLatent",
    "FrameSequence",
    "FramesLatent",
    "HamiltonianLatent",
    "Latent",
    "LongitudinalLatent",
    "SequenceLatent",
]
