"""Priors over codes."""

from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from src.models.posteriors.categorical import TokenCategorical
from src.models.posteriors.quantised import CodedPosterior
from src.utils.errors import UserError


class UniformOverCodes(Distribution):
    """Every code with probability K^(−T·Q), as its z.

    That a value is the z of a code is not checked: the log-probability is −T·Q log K everywhere.

    Args:
        posterior: whose codes they are.
        batch_shape: of the distribution.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, posterior: CodedPosterior, batch_shape: torch.Size | tuple[int, ...] = ()
    ) -> None:
        self.posterior = posterior
        super().__init__(torch.Size(batch_shape), torch.Size((posterior.dim,)), validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Any = None
    ) -> "UniformOverCodes":
        return UniformOverCodes(self.posterior, torch.Size(batch_shape))

    @property
    def mean(self) -> Tensor:
        """The mean of all codes' z, which is the z of none."""
        token = self.posterior.codebooks.mean(1).sum(0)
        return token.repeat(self.posterior.tokens).expand(*self.batch_shape, -1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        books, shape = self.posterior.codebooks, (*sample_shape, *self.batch_shape)
        codes = torch.randint(
            books.shape[1], (*shape, *self.posterior.code_shape), device=books.device
        )
        return self.posterior.embed(codes)

    def log_prob(self, value: Tensor) -> Tensor:
        count = self.posterior.tokens * self.posterior.quantisers
        return value.new_full(value.shape[:-1], -count * log(self.posterior.codebook_size))


class UniformCodes(nn.Module):
    """p(code) = K^(−T·Q) for the codes of the posterior (van den Oord et al. 2017, arXiv:1711.00937).

    The posterior being one code, KL(q ‖ p) = T·Q log K nats whatever x is: a constant that is reported, not trained.
    Codes that look like data take a prior that is fitted to them afterwards: ``sampler=autoregressive``.
    """

    factorised = False
    support = "codes"

    def __init__(self) -> None:
        super().__init__()
        self._posterior: tuple[CodedPosterior, ...] = ()

    def borrow_codes(self, posterior: nn.Module) -> None:
        """Use the codes of ``posterior``, which the latent owns."""
        if isinstance(posterior, CodedPosterior):
            self._posterior = (posterior,)  # a module in a tuple is not registered a second time

    def forward(self, condition: Tensor | None = None) -> Distribution:
        if not self._posterior:
            raise UserError(
                "model/prior=uniform_codes needs a posterior over codes; choose model/posterior=vq, rq, fsq or lfq"
            )
        return UniformOverCodes(self._posterior[0])


class UniformCategorical(nn.Module):
    """p(z) = K^(−T) for one-hot tokens (Jang et al. 2017, arXiv:1611.01144).

    Args:
        dim: T·K.
        categories: K.
    """

    factorised = False
    support = "one_hot"
    logits: Tensor

    def __init__(self, dim: int, categories: int) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(dim // categories, categories), persistent=False)

    def forward(self, condition: Tensor | None = None) -> Distribution:
        return TokenCategorical(self.logits)
