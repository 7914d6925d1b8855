"""A prior made of posteriors."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from src.utils.errors import UserError


class VampPrior(nn.Module):
    """p(z) = Σ_k π_k q(z | u_k) with learned pseudo-inputs u_k (Tomczak & Welling 2018, arXiv:1705.07120).

    The pseudo-inputs lie in [0, 1] by a sigmoid for data that does, the authors' hard tanh has no gradient outside.

    Args:
        shape: of what the encoder sees.
        components: how many pseudo-inputs.
        value_range: ``unit`` for data in [0, 1], else ``real``.
        learned_weights: learn π too; uniform as in the paper if not.
    """

    factorised = False
    support = None  # that of the posterior, whichever it is
    logits: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        components: int = 500,
        value_range: str = "unit",
        learned_weights: bool = False,
    ) -> None:
        super().__init__()
        if components < 1:
            raise UserError(f"model.prior.components={components} must be at least 1")
        self.unit = value_range == "unit"
        self.inputs = nn.Parameter(torch.randn(components, *shape))
        logits = torch.zeros(components)
        if learned_weights:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits, persistent=False)
        self._posterior: Callable[[Tensor], Any] | None = None

    def borrow_posterior(self, posterior: Callable[[Tensor], Distribution]) -> None:
        """Use the latent's own x → q(z | x)."""
        self._posterior = posterior

    def forward(self, condition: Tensor | None = None) -> Distribution:
        if self._posterior is None:
            raise UserError("model/prior=vamp needs a latent with a posterior to borrow")
        inputs = self.inputs.sigmoid() if self.unit else self.inputs
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False),
            self._posterior(inputs),
            validate_args=False,
        )
