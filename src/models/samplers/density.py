"""Samplers made of a prior part, fitted to the codes by maximum likelihood."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.samplers.base import WhitenedSampler
from src.utils.errors import UserError


class DensitySampler(WhitenedSampler):
    """Any prior p(z), fitted to the aggregate posterior by maximum likelihood; one without parameters as it is.

    A masked autoregressive flow (Papamakarios et al. 2017, arXiv:1705.07057) gives the density estimate of choice, a
    VampPrior learns pseudo-inputs for an encoder that stays as it is, a uniform density on the sphere learns nothing.

    Args:
        dim: D.
        prior: the part.
        standardise: fit (z − mean)/σ of every dimension instead of z; not for spheres, balls and posteriors.
        epochs, batch_size, lr: of Adam; the epoch that is best on held-out codes is kept.
    """

    def __init__(
        self,
        dim: int,
        prior: nn.Module,
        standardise: bool = True,
        epochs: int = 200,
        batch_size: int = 256,
        lr: float = 1e-3,
    ) -> None:
        super().__init__(dim, epochs=epochs, batch_size=batch_size, lr=lr)
        self.prior, self.standardise = prior, standardise
        self.support = getattr(prior, "support", "euclidean")

    def borrow_latent(self, latent: Any) -> None:
        """A prior made of posteriors uses the latent's, which must have a density wherever z goes."""
        super().borrow_latent(latent)
        borrow: Any = getattr(self.prior, "borrow_posterior", None)
        if not borrow:
            return
        for flag in ("density", "density_elsewhere"):
            if not getattr(latent.posterior, flag, True):
                raise UserError(
                    "sampler=vamp is made of posteriors with a density everywhere, which neither a point mass nor "
                    "codes nor a flow without an inverse has; choose sampler=gmm"
                )
        borrow(latent.encode_point)

    def _fit(self, z: Tensor, x: Tensor) -> dict[str, float]:
        if self.standardise:
            self.measure(z)
        return {"nll": self.learn(self.prior, self._nll, z)}

    def _density(self) -> Distribution:
        return self.prior()

    def _nll(self, z: Tensor) -> Tensor:
        return self.scale.log().sum() - self._density().log_prob(self.white(z))

    def log_prob(self, z: Tensor) -> Tensor:
        self._ask()
        return -self._nll(z)

    def sample(self, n: int) -> Tensor:
        self._ask()
        return self.coloured(self._density().sample(torch.Size((n,))))
