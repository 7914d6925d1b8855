"""Latents: how z is inferred and turned back into a distribution over x."""

from src.models.latents.flat import FlatLatent

__all__ = ["FlatLatent"]
