"""Posteriors over one-hot codes.

Letters: B batch, T tokens, K categories, D = T·K.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    OneHotCategorical,
    constraints,
    register_kl,
)
from torch.nn.functional import gumbel_softmax

from src.models.posteriors.quantised import CodedPosterior, perplexity
from src.utils.errors import UserError


class TokenCategorical(Distribution):
    """T independent categorical tokens; z is their one-hot vectors one after another.

    With a temperature τ, samples are relaxed: softmax((logits + Gumbel noise)/τ) (Jang et al. 2017, arXiv:1611.01144;
    Maddison et al. 2017, arXiv:1611.00712). Such a z is no code and has no log-probability here, so that asking for
    one raises; the KL is that of the discrete distribution all the same.

    Args:
        logits: (B, T, K).
        temperature: τ; None for exact samples.
        hard: round relaxed samples to one-hot, with the gradient straight through.
        terms: further terms of the loss, each (B,).
    """

    arg_constraints = {"logits": constraints.real}
    has_rsample = True

    def __init__(
        self,
        logits: Tensor,
        temperature: Tensor | None = None,
        hard: bool = False,
        terms: dict[str, Tensor] | None = None,
    ) -> None:
        self.logits = logits.log_softmax(-1)
        self.temperature, self.hard, self.terms = temperature, hard, terms or {}
        event = torch.Size((logits.shape[-2] * logits.shape[-1],))
        super().__init__(logits.shape[:-2], event, validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Any = None
    ) -> "TokenCategorical":
        logits = self.logits.expand(*batch_shape, *self.logits.shape[-2:])
        return TokenCategorical(logits, self.temperature, self.hard)

    @property
    def mean(self) -> Tensor:
        """The probabilities: E[z], and no code."""
        return self.logits.exp().flatten(-2)

    @property
    def codes(self) -> Tensor:
        """The likeliest category of each token, (B, T)."""
        return self.logits.argmax(-1)

    def sample_codes(self) -> Tensor:
        """A category of each token, drawn, (B, T)."""
        return Categorical(logits=self.logits, validate_args=False).sample()

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        if self.temperature is None:
            return (
                OneHotCategorical(logits=self.logits, validate_args=False).sample(shape).flatten(-2)
            )
        logits: Any = self.logits.expand(*shape, *self.logits.shape)
        temperature: Any = self.temperature
        return gumbel_softmax(logits, temperature, self.hard).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.temperature is not None:
            raise NotImplementedError(
                "a relaxed sample is no code and has no log-probability: in training only the closed-form KL of the "
                "discrete distribution is there"
            )
        return (value.unflatten(-1, self.logits.shape[-2:]) * self.logits).sum((-2, -1))


@register_kl(TokenCategorical, TokenCategorical)
def _kl_of_tokens(q: TokenCategorical, p: TokenCategorical) -> Tensor:
    """Σ_t Σ_k q_tk (log q_tk − log p_tk)."""
    return (q.logits.exp() * (q.logits - p.logits)).sum((-2, -1))


class GumbelPosterior(CodedPosterior):
    """q(z | x) = Π_t Cat(z_t; softmax(logits_t(x))), with relaxed samples in training (see ``TokenCategorical``).

    The first stage of DALL-E (Ramesh et al. 2021, dVAE, arXiv:2102.12092); there the tokens lie on a grid and the KL
    is weighted by 6.6, here they are a list, and the weight is the objective's. Evaluation samples exactly, so that its
    bounds are those of the discrete model. The temperature is a buffer, which ``callbacks=temperature`` lowers.

    Args:
        in_features: width of the encoder's output.
        dim: D.
        categories: K.
        temperature: τ until a callback changes it.
        hard: relaxed samples are rounded, with the gradient straight through.
    """

    support = "one_hot"
    # Samples in training are relaxed, and then an objective may take the closed-form KL only.
    relaxed = True
    temperature: Tensor
    entries: Tensor

    def __init__(
        self,
        in_features: int,
        dim: int,
        categories: int = 4,
        temperature: float = 1.0,
        hard: bool = False,
    ) -> None:
        super().__init__(in_features, dim, categories)
        if categories < 2 or not temperature > 0:
            raise UserError(
                f"model.posterior: categories={categories} must be at least 2 and temperature={temperature} positive"
            )
        self.hard = hard
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("entries", torch.eye(categories).unsqueeze(0), persistent=False)

    @property
    def codebooks(self) -> Tensor:
        return self.entries

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        logits = self.project(features)
        used = perplexity(logits.argmax(-1).view(-1, 1), self.token_dim)
        return TokenCategorical(
            logits,
            self.temperature if self.training else None,
            self.hard,
            {"codebook_perplexity": used.expand(logits.shape[:-2])},
        )
