"""A mixture of Gaussians as a prior."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from src.models.distributions import bounded
from src.utils.errors import UserError

# Of log σ, as in the diagonal Gaussian posterior.
LIMIT = 8.0


class MixturePrior(nn.Module):
    """p(z) = Σ_k π_k N(z; μ_k, diag σ_k²), all learned with the rest; the KL is a Monte-Carlo estimate.

    This is the bound of VaDE (Jiang et al. 2017, arXiv:1611.05148) with its optimal q(c | x) = p(c | z), which sums the
    clusters out; the authors start from an autoencoder and a mixture fitted to its codes, here the means start as
    draws of N(0, I) and all σ at 1.

    Args:
        dim: latent dimensions.
        components: how many.
    """

    factorised = False

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        if components < 1:
            raise UserError(f"model.prior.components={components} must be at least 1")
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, dim))
        self.raw_log_sigmas = nn.Parameter(torch.zeros(components, dim))

    @torch.no_grad()
    def set(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        """Become a mixture that has been fitted elsewhere.

        Args:
            weights: (K,), positive.
            means, variances: (K, D).

        Raises:
            UserError: another K or D than this prior's, or a σ outside exp(±8).
        """
        log_sigmas = 0.5 * variances.log()
        if means.shape != self.means.shape or not bool((log_sigmas.abs() < LIMIT).all()):
            raise UserError(
                f"a mixture of {tuple(self.means.shape)} means takes as many, not {tuple(means.shape)}, and "
                f"standard deviations within exp(±{LIMIT:g})"
            )
        self.logits.copy_(weights.log())
        self.means.copy_(means)
        self.raw_log_sigmas.copy_(LIMIT * torch.atanh(log_sigmas / LIMIT))

    def forward(self, condition: Tensor | None = None) -> Distribution:
        sigmas = bounded(self.raw_log_sigmas, LIMIT).exp()
        components = Normal(self.means, sigmas, validate_args=False)
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False),
            Independent(components, 1, validate_args=False),
            validate_args=False,
        )
