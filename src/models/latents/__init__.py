"""Latents: how z is inferred and turned back into a distribution over x."""

from src.models.latents.base import Latent
from src.models.latents.conditional import ConditionalLatent
from src.models.latents.flat import FlatLatent
from src.models.latents.hamiltonian import HamiltonianLatent
from src.models.latents.hierarchical import LadderLatent
from src.models.latents.identity import IdentityLatent
from src.models.latents.sequence import (
    FrameSequence,
    FramesLatent,
    LongitudinalLatent,
    SequenceLatent,
)

__all__ = [
    "ConditionalLatent",
    "FlatLatent",
    "FrameSequence",
    "FramesLatent",
    "HamiltonianLatent",
    "IdentityLatent",
    "LadderLatent",
    "Latent",
    "LongitudinalLatent",
    "SequenceLatent",
]
