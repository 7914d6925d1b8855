"""The evidence lower bound of frames, trained with more weight on what moves."""

from collections.abc import Mapping, Sequence
from math import log, pi
from typing import Any, Literal

import torch
from torch import Tensor

from src.models.draw import Draw
from src.models.objectives.base import Terms
from src.models.objectives.elbo import ELBO
from src.utils.errors import UserError

SMALLEST = 1e-6  # a mean squared error, as in the Gaussian likelihood


class ForegroundELBO(ELBO):
    r"""The ELBO with a reconstruction term that looks harder where a frame differs from the background.

    A ball of a few pixels is nothing in a mean over a frame. What is minimised in the place of −log p(x | z) is

        D/2 (log(Σ w e² / Σ w) + log 2π + 1),   w = 1 + weight · [|x − background| > threshold],

    sums over a batch (each process its own; in evaluation too, as the authors do), e² the squared error and D the
    elements of a frame: the Gaussian log-likelihood at its optimal σ (Rybkin et al. 2021, arXiv:2006.13202) of a
    weighted error. What is reported as ``recon_nll``, and with it every bound, is the likelihood's own. The background
    is that of the training frames, whatever is evaluated.

    Args:
        shape: of one frame.
        weight: of the foreground, on top of the 1 that everything has.
        threshold: of |x − background| in the data's units, above which an element is foreground.
        beta, free_bits, free_bits_mode, capacity, num_samples, terms: see ``ELBO``.
    """

    needs_background = True
    background: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        weight: float = 4.0,
        threshold: float = 0.1,
        beta: float = 1.0,
        free_bits: float = 0.0,
        free_bits_mode: Literal["per_sample", "batch_mean"] = "batch_mean",
        capacity: float | None = None,
        num_samples: int = 1,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        if weight < 0 or threshold < 0:
            raise UserError(
                f"model.objective.weight={weight} and model.objective.threshold={threshold} cannot be negative"
            )
        super().__init__(beta, free_bits, free_bits_mode, capacity, num_samples, terms)
        self.extra, self.threshold = weight, threshold
        self.register_buffer("background", torch.zeros(tuple(shape)))

    def learn_from(self, data: Any) -> None:
        """Take the background of the training frames."""
        self.background.copy_(data.background)

    def forward(self, draw: Draw) -> Terms:
        terms = super().forward(draw)
        terms.penalties["recon_nll"] = self.weighted_nll(draw.x, draw.px.mean).expand(len(draw.x))
        return terms

    def weighted_nll(self, x: Tensor, mean: Tensor) -> Tensor:
        """The weighted term, () nats a frame, of x (B, *shape) and the decoded mean (k, B, *shape)."""
        moving = (x - self.background).abs() > self.threshold
        weights = moving * self.extra + 1
        error = (weights * (mean - x).square()).sum() / (weights.sum() * len(mean))
        return x[0].numel() / 2 * (error.clamp_min(SMALLEST).log() + log(2 * pi) + 1)
