"""A second VAE that learns the codes of the first."""

from typing import Any

import torch
from torch import Tensor

from src.models.samplers.base import WhitenedSampler
from src.utils.errors import UserError


class TwoStageSampler(WhitenedSampler):
    """A VAE of the codes (Dai & Wipf 2019, arXiv:1903.05789): u ~ N(0, I), then z ~ p(z | u), noise included.

    The second stage is a model like any other, composed of parts; its codes have the size of the first's, and its own σ
    is learned. ``log_prob`` is its importance-weighted bound.

    Args:
        dim: D.
        model: a model of vectors (D,).
        samples: of the bound.
        epochs: of Adam.
        settings: ``batch_size`` and ``lr``, see ``LearnedSampler``.
    """

    def __init__(
        self, dim: int, model: Any, samples: int = 64, epochs: int = 200, **settings: Any
    ) -> None:
        super().__init__(dim, epochs=epochs, **settings)
        if getattr(model.latent.likelihood, "scale", None) == "optimal":
            raise UserError(
                "sampler=two_stage is fitted by one process, and likelihood.scale=optimal asks all of them; use learned"
            )
        self.model, self.samples = model, samples

    def _fit(self, z: Tensor, x: Tensor) -> dict[str, float]:
        self.measure(z)
        bound = self.learn(self.model, self._loss, self.white(z))
        return {"nll_bound": bound + float(self.scale.log().sum())}

    def _loss(self, white: Tensor) -> Tensor:
        return self.model.step(white)[1].loss.expand(len(white))

    def log_prob(self, z: Tensor) -> Tensor:
        self._ask()
        return self.model.log_likelihood(self.white(z), self.samples) - self.scale.log().sum()

    def sample(self, n: int) -> Tensor:
        self._ask()
        u = self.model.prior().sample(torch.Size((n,)))
        return self.coloured(self.model.decode(u).sample())
