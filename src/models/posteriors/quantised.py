"""Posteriors whose z is a code: what the encoder gives is rounded to entries of a codebook.

Letters: B batch, T tokens, C dimensions of a token, D = T·C of z, Q quantisers, K entries of a codebook.
"""

from collections.abc import Sequence
from math import log, prod
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributions import Distribution
from torch.nn.functional import embedding

from src.models.distributions import Delta, full_precision
from src.utils.errors import UserError


def straight_through(value: Tensor, target: Tensor) -> Tensor:
    """``target``, with the gradient of ``value`` (Bengio et al. 2013, arXiv:1308.3432)."""
    return value + (target - value).detach()


def perplexity(codes: Tensor, size: int) -> Tensor:
    """exp of the entropy of how often each of ``size`` entries is used: 1 where only one is, ``size`` where all are.

    Args:
        codes: (N, Q); the mean over the Q codebooks is taken.
    """
    counts = torch.zeros(codes.shape[1], size, device=codes.device)
    counts.scatter_add_(1, codes.mT, torch.ones_like(codes.mT, dtype=counts.dtype))
    return torch.special.entr(counts / len(codes)).sum(1).exp().mean()


class CodePoint(Delta):
    """All mass on one code: log q is 0 at its z and −∞ elsewhere, a log-probability and no log-density.

    Args:
        point: z, (B, D).
        codes: (B, T) or (B, T, Q), integers.
        terms: further terms of the loss, each (B,).
    """

    def __init__(self, point: Tensor, codes: Tensor, terms: dict[str, Tensor]) -> None:
        super().__init__(point)
        self.codes, self.terms = codes, terms

    def sample_codes(self) -> Tensor:
        """The one code that there is."""
        return self.codes

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        """z (*sample_shape, B, D) and log q(z) = 0."""
        z = self.rsample(sample_shape)
        return z, z.new_zeros(z.shape[:-1])

    def log_prob(self, value: Tensor) -> Tensor:
        own = (value == self.point).all(-1)
        return torch.zeros_like(own, dtype=self.point.dtype).masked_fill(~own, -torch.inf)


class CodedPosterior(nn.Module):
    """What posteriors over codes share: features → T tokens, and codes → z.

    A token is the sum of one entry from each of Q codebooks, z all tokens one after another.

    Args:
        in_features: width of the encoder's output.
        dim: D.
        token_dim: C.
        quantisers: Q.

    Raises:
        UserError: D is not a multiple of C.
    """

    factorised = False
    density = True
    # log q(z) is a log-probability, −∞ off the codes, and has no gradient that a moving z could carry.
    density_elsewhere = False
    freezable = False
    support = "codes"

    def __init__(self, in_features: int, dim: int, token_dim: int, quantisers: int = 1) -> None:
        super().__init__()
        if token_dim < 1 or dim % token_dim or quantisers < 1:
            raise UserError(
                f"model.latent_dim={dim} must be a multiple of the {token_dim} dimensions that model.posterior gives "
                f"each token, and quantisers={quantisers} at least 1"
            )
        self.dim, self.tokens, self.token_dim, self.quantisers = (
            dim,
            dim // token_dim,
            token_dim,
            quantisers,
        )
        self.head = nn.Linear(in_features, dim)

    @property
    def codebooks(self) -> Tensor:
        """The entries, (Q, K, C)."""
        raise NotImplementedError

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.codebooks.shape[1]

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(T,), or (T, Q) with more than one quantiser."""
        return (self.tokens,) if self.quantisers == 1 else (self.tokens, self.quantisers)

    def project(self, features: Tensor) -> Tensor:
        """What is rounded, (…, T, C)."""
        return full_precision(self.head(features)).unflatten(-1, (self.tokens, self.token_dim))

    def embed(self, codes: Tensor) -> Tensor:
        """z (…, D) of codes (…, *code_shape)."""
        books = self.codebooks
        levels = codes if self.quantisers > 1 else codes.unsqueeze(-1)
        rows = levels + books.shape[1] * torch.arange(self.quantisers, device=codes.device)
        return embedding(rows, books.flatten(0, 1)).sum(-2).flatten(-2)


class QuantisedPosterior(CodedPosterior):
    """Base of the deterministic ones: q(z | x) is all mass on one code, and gradients go straight through the rounding.

    The term ``codebook_perplexity`` is how many entries the batch uses; see ``perplexity``.
    """

    def quantise(self, h: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """h (N, T, C) → tokens (N, T, C) with a gradient, codes (N, *code_shape), terms (N,)."""
        raise NotImplementedError

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        h = self.project(features)
        with torch.autocast(h.device.type, enabled=False):
            tokens, codes, terms = self.quantise(h.flatten(0, -3))
            used = perplexity(codes.view(-1, self.quantisers), self.codebook_size)
            terms["codebook_perplexity"] = used.expand(len(codes))
        batch = features.shape[:-1]
        shaped = {name: term.view(batch) for name, term in terms.items()}
        return CodePoint(
            tokens.view(*batch, self.dim), codes.view(*batch, *self.code_shape), shaped
        )


def _summed_over_processes(value: Tensor) -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)


class VectorQuantised(QuantisedPosterior):
    """Every token becomes the nearest of K learned vectors (van den Oord et al. 2017, VQ-VAE, arXiv:1711.00937).

    With Q > 1 quantisers each rounds what those before it have left (Lee et al. 2022, RQ-VAE, arXiv:2203.01941). The
    codebooks are moving averages of what is rounded to them (appendix A.1 of the first paper), not parameters, and
    entries that hardly any token uses start again at tokens of the batch. The term ``commitment`` is Σ_q ‖h − sg[e_1 +
    … + e_q]‖², summed over the tokens as the other terms are over their dimensions.

    ``vector_quantize_pytorch``, which keeps the codebooks, has the loss as a mean over all numbers and in training
    only, and adds up one straight-through gradient a quantiser; here there is one. Its k-means initialisation is not
    used: it would run in evaluation too, and the first restart of unused entries does the same work.

    Args:
        in_features, dim: see ``CodedPosterior``.
        token_dim: C.
        codebook_size: K.
        quantisers: Q.
        decay: of the moving averages, a step.
        least_use: tokens a step, on average, below which an entry starts again; 0 leaves it alone.
    """

    def __init__(
        self,
        in_features: int,
        dim: int,
        token_dim: int = 4,
        codebook_size: int = 256,
        quantisers: int = 1,
        decay: float = 0.9,
        least_use: float = 0.5,
    ) -> None:
        super().__init__(in_features, dim, token_dim, quantisers)
        if codebook_size < 2 or not 0 <= decay < 1 or least_use < 0:
            raise UserError(
                f"model.posterior: codebook_size={codebook_size} must be at least 2, decay={decay} in [0, 1) and "
                f"least_use={least_use} not negative"
            )
        from vector_quantize_pytorch import VectorQuantize  # takes two seconds: only where needed

        layers = [
            VectorQuantize(
                dim=token_dim,
                codebook_size=codebook_size,
                decay=decay,
                threshold_ema_dead_code=least_use,
                rotation_trick=False,
                commitment_weight=0.0,
            )
            for _ in range(quantisers)
        ]
        for layer in layers:
            # The library asks for other processes now, and Lightning starts them later.
            layer._codebook.all_reduce_fn = _summed_over_processes
        self.layers = nn.ModuleList(layers)

    @property
    def codebooks(self) -> Tensor:
        layers: Any = self.layers
        return torch.stack([layer.codebook for layer in layers])

    def quantise(self, h: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        total, codes, commitment = torch.zeros_like(h), [], h.new_zeros(len(h))
        for layer in self.layers:
            entry, code, _ = layer((h - total).detach())
            total = total + entry
            codes.append(code)
            commitment = commitment + (h - total).square().sum((-2, -1))
        return straight_through(h, total), torch.stack(codes, -1), {"commitment": commitment}


class FiniteScalarQuantised(QuantisedPosterior):
    """Every dimension is bounded and rounded to a few levels (Mentzer et al. 2023, FSQ, arXiv:2309.15505).

    A token has one dimension a level count, so that K = Π levels, and nothing to learn or to commit to. With Q > 1 each
    quantiser rounds what those before it have left, at a scale that shrinks by the number of levels; the gradient is
    that of the soft bound, where the library adds up one a quantiser.

    Args:
        in_features, dim: see ``CodedPosterior``.
        levels: of each dimension of a token, at least 3; with more than one quantiser at least 2.
        quantisers: Q.
    """

    quantiser: Any

    def __init__(
        self, in_features: int, dim: int, levels: Sequence[int] = (8, 5, 5, 5), quantisers: int = 1
    ) -> None:
        least = 3 if quantisers == 1 else 2
        if not levels or min(levels) < least:
            raise UserError(
                f"model.posterior.levels={list(levels)} must be a list of at least one number, each {least} or more"
            )
        super().__init__(in_features, dim, len(levels), quantisers)
        from vector_quantize_pytorch import FSQ, ResidualFSQ  # two seconds, see VectorQuantised

        self.quantiser = (
            FSQ(list(levels))
            if quantisers == 1
            else ResidualFSQ(levels=list(levels), num_quantizers=quantisers)
        )
        self._size = prod(levels)

    @property
    def codebook_size(self) -> int:
        return self._size

    @property
    def codebooks(self) -> Tensor:
        if self.quantisers == 1:
            return self.quantiser.implicit_codebook.unsqueeze(0)
        return self.quantiser.codebooks * self.quantiser.scales.unsqueeze(1)

    def quantise(self, h: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        tokens, codes = self.quantiser(h)
        if self.quantisers > 1:
            limit = self.quantiser.soft_clamp_input_value
            tokens = straight_through(limit * torch.tanh(h / limit), tokens)
        return tokens, codes.long(), {}


class LookupFreeQuantised(QuantisedPosterior):
    """Every dimension becomes its sign: a token of C bits, K = 2^C (Yu et al. 2023, MAGVIT-v2, arXiv:2310.05737).

    The term ``entropy`` is E[H(p(code | h))] − H(E[p(code | h)]) in nats, summed over the tokens, where p is a softmax
    of −‖h − entry‖²/``temperature``: certain of each code, all codes used. The first part is that of each sample, the
    second that of the batch, of this process. ``commitment`` is ‖h − sg[z]‖². The library has both in training only,
    and divides the mean over processes without having added it up.

    Args:
        in_features, dim: see ``CodedPosterior``.
        token_dim: C.
        temperature: see above.
    """

    quantiser: Any

    def __init__(
        self, in_features: int, dim: int, token_dim: int = 4, temperature: float = 0.3
    ) -> None:
        super().__init__(in_features, dim, token_dim)
        if not temperature > 0 or token_dim > 16:
            raise UserError(
                f"model.posterior: temperature={temperature} must be positive and token_dim={token_dim} at most 16 bits"
            )
        from vector_quantize_pytorch import LFQ  # two seconds, see VectorQuantised

        self.quantiser, self.temperature = LFQ(dim=token_dim).eval(), temperature

    def train(self, mode: bool = True) -> "LookupFreeQuantised":
        """The library's module has no state, and computes its entropies in training."""
        super().train(mode)
        self.quantiser.eval()
        return self

    @property
    def codebooks(self) -> Tensor:
        return self.quantiser.codebook.unsqueeze(0)

    def quantise(self, h: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        tokens, codes, _ = self.quantiser(h)
        commitment = (h - tokens).square().sum((-2, -1))
        return (
            straight_through(h, tokens),
            codes.long(),
            {"commitment": commitment, "entropy": self._entropy(h)},
        )

    def _entropy(self, h: Tensor) -> Tensor:
        # ‖h‖² and the norm of the entries are the same for all.
        log_p = (2 * h @ self.codebooks[0].mT / self.temperature).log_softmax(-1)
        log_mean = log_p.flatten(0, 1).logsumexp(0) - log(log_p[..., 0].numel())
        # Not entr(p), whose gradient is none where p is 0.
        certainty = -(log_p.exp() * log_p).sum((-2, -1))
        return certainty + self.tokens * (log_mean.exp() * log_mean).sum()
