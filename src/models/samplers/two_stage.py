"""A second VAE that learns the codes of the first."""

from typing import Any

import torch
from torch import Tensor

from src.models.samplers.base import Sampler, fit_by_gradient


class TwoStageSampler(Sampler):
    """A VAE of the codes (Dai & Wipf 2019, arXiv:1903.05789): u ~ N(0, I), then z ~ p(z | u), noise included.

    The second stage is a model like any other, composed of parts; its codes have the size of the first's, and its own σ
    is learned. ``log_prob`` is its importance-weighted bound.

    Args:
        dim: D.
        model: a model of vectors (D,).
        samples: of the bound.
        epochs, batch_size, lr: of Adam; the epoch that is best on held-out codes is kept.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        dim: int,
        model: Any,
        samples: int = 64,
        epochs: int = 200,
        batch_size: int = 128,
        lr: float = 1e-3,
    ) -> None:
        super().__init__()
        self.model, self.samples = model, samples
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def _fit(self, z: Tensor, x: Tensor) -> dict[str, float]:
        self.mean.copy_(z.mean(0))
        self.scale.copy_(z.std(0).clamp_min(1e-6))
        white = (z - self.mean) / self.scale
        bound = fit_by_gradient(
            self.model, self._loss, (white,), self.epochs, self.batch_size, self.lr
        )
        return {"nll_bound": bound + float(self.scale.log().sum())}

    def _loss(self, white: Tensor) -> Tensor:
        return self.model.step(white)[1].loss.expand(len(white))

    def log_prob(self, z: Tensor) -> Tensor:
        self._ask()
        white = (z - self.mean) / self.scale
        return self.model.log_likelihood(white, self.samples) - self.scale.log().sum()

    def sample(self, n: int) -> Tensor:
        self._ask()
        u = self.model.prior().sample(torch.Size((n,)))
        return self.model.decode(u).sample() * self.scale + self.mean
