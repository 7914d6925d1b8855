"""An autoregressive density of discrete codes.

Letters: N data points, L codes of one of them, K entries of a codebook, Q quantisers, W width, D latent dimensions.
"""

from math import log, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from src.models.posteriors import CodedPosterior
from src.models.samplers.base import LearnedSampler
from src.utils.errors import UserError

BATCH = 512


class AutoregressiveSampler(LearnedSampler):
    """p(code) = Π_i p(code_i | code_1 … code_{i−1}), by a recurrent network over the codes of the training data.

    The prior that van den Oord et al. (2017, arXiv:1711.00937) fit after the autoencoder. Theirs is a PixelCNN, since
    their codes lie on a grid; here they are a list, token by token and in each from coarse to fine, and a GRU reads it.

    Args:
        dim: D.
        width: W.
        epochs, batch_size, lr: of Adam; the epoch that is best on held-out codes is kept.
        dropout: of what the network reads and of its state.
    """

    support = None

    def __init__(
        self,
        dim: int,
        width: int = 128,
        epochs: int = 60,
        batch_size: int = 128,
        lr: float = 3e-3,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(epochs, batch_size, lr)
        self.dim, self.width, self.dropout = dim, width, nn.Dropout(dropout)
        self._latent: tuple[Any, ...] = ()

    def borrow_latent(self, latent: nn.Module) -> None:
        """Use the codes of ``latent``, which the model owns, and make a network for as many of them.

        Raises:
            UserError: its z is no code.
        """
        super().borrow_latent(latent)
        posterior: Any = latent.posterior
        if not isinstance(posterior, CodedPosterior):
            raise UserError(
                "sampler=autoregressive needs discrete codes; choose model=vq_vae, fsq_vae, lfq_vae or gumbel_vae"
            )
        self._latent = (latent,)  # a module in a tuple is not registered a second time
        size, length = posterior.codebook_size, prod(posterior.code_shape)
        self.entries = nn.Embedding(posterior.quantisers * size, self.width)
        self.places = nn.Parameter(0.02 * torch.randn(length, self.width))
        self.network = nn.GRU(self.width, self.width, batch_first=True)
        self.head = nn.Linear(self.width, size)

    @property
    def posterior(self) -> CodedPosterior:
        """Whose codes they are."""
        return self._latent[0].posterior

    def logits(self, codes: Tensor) -> Tensor:
        """Of every code given those before it: (N, L) → (N, L, K)."""
        # The entry of each place is told to the place after it.
        read = pad(self.entries(self._rows(codes[:, :-1], 0)), (0, 0, 1, 0)) + self.places
        return self.head(self.dropout(self.network(self.dropout(read))[0]))

    def _rows(self, codes: Tensor, start: int) -> Tensor:
        # Equal codes of different quantisers are different entries.
        levels = torch.arange(start, start + codes.shape[-1], device=codes.device)
        return codes + self.posterior.codebook_size * (levels % self.posterior.quantisers)

    def log_mass(self, codes: Tensor) -> Tensor:
        """log p(code) of codes (N, L), (N,) nats."""
        return -cross_entropy(self.logits(codes).mT, codes, reduction="none").sum(-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p of the codes whose z (n, D) it is."""
        self._ask()
        if self.posterior.quantisers > 1:
            raise NotImplementedError(
                "the z of several quantisers is a sum that does not tell its codes; log_mass takes the codes"
            )
        tokens = z.unflatten(-1, (self.posterior.tokens, self.posterior.token_dim))
        return self.log_mass(torch.cdist(tokens, self.posterior.codebooks[0]).argmin(-1))

    def _fit(self, z: Tensor, x: Tensor) -> dict[str, float]:
        codes = self._encode(x)
        nll = self.learn(self, lambda rows: -self.log_mass(rows), codes)
        return {"nll": nll, "nll_uniform": codes.shape[1] * log(self.posterior.codebook_size)}

    @torch.no_grad()
    def _encode(self, x: Tensor) -> Tensor:
        latent = self._latent[0]
        was_training = latent.training
        latent.eval()  # in training the codebooks would follow
        device = self.places.device
        codes = [
            latent.encode(rows.to(device)).sample_codes().flatten(1) for rows in x.split(BATCH)
        ]
        latent.train(was_training)
        return torch.cat(codes)

    @torch.no_grad()
    def sample_codes(self, n: int) -> Tensor:
        """n codes, (n, L)."""
        self._ask()
        codes = self.places.new_zeros((n, 0), dtype=torch.long)
        read, state = self.places.new_zeros(n, self.width), None
        for place, shift in enumerate(self.places):
            out, state = self.network((read + shift).unsqueeze(1), state)
            code = torch.multinomial(self.head(out[:, 0]).softmax(-1), 1)
            codes = torch.cat([codes, code], 1)
            read = self.entries(self._rows(code, place))[:, 0]
        return codes

    def sample(self, n: int) -> Tensor:
        return self.posterior.embed(self.sample_codes(n).view(n, *self.posterior.code_shape))
