"""Samplers: densities of the codes that are fitted after a training."""

from src.models.samplers.autoregressive import AutoregressiveSampler
from src.models.samplers.base import Sampler, fit_by_gradient
from src.models.samplers.density import DensitySampler
from src.models.samplers.mixture import MixtureSampler
from src.models.samplers.two_stage import TwoStageSampler

__all__ = [
    "AutoregressiveSampler",
    "DensitySampler",
    "MixtureSampler",
    "Sampler",
    "TwoStageSampler",
    "fit_by_gradient",
]
