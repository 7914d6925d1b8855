"""Densities of the data themselves, as models of the same class as every other."""

from typing import Any

import torch

from src.models.latents.flat import FlatLatent
from src.models.networks.standardise import ROWS


class IdentityLatent(FlatLatent):
    """z is x, standardised: the prior is the density that learns, and nothing is lost on the way.

    log q(z | x) is taken as 0 and log p(x | z) is the change of volume, so that the ELBO, ``log_likelihood`` with any
    k and minus the energy are one and the same number: log p(x) = log p(z) − ln |det ∂x/∂z|. ``reconstruct`` gives x
    back.

    Args:
        encoder: a ``StandardiseEncoder``.
        posterior, decoder, likelihood: ``PointPosterior``, ``StandardiseDecoder``, ``ExactLikelihood``.
        prior: p(z), any density of R^D.
        metric: none.
    """

    exact = True
    shardable = False  # encoder and prior are asked for more than their output

    @torch.no_grad()
    def learn_from(self, data: Any) -> None:
        """Let a prior that starts at a fit see the codes of the training data, which the encoder learns first."""
        encoder: Any = self.encoder
        start: Any = getattr(self.prior, "start_at", None)
        encoder.learn_from(data)
        if start:
            parts = data.floats("train").split(ROWS)
            start(lambda: torch.cat([encoder(part.to(encoder.mean)) for part in parts]))
