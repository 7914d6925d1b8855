"""Gaussians with full covariance, one or several, started at their maximum-likelihood fit."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    MixtureSameFamily,
    MultivariateNormal,
)

from src.models.distributions import bounded
from src.models.networks.standardise import moments
from src.utils.errors import UserError, nearest

Covariance = Literal["full", "diagonal"]
# Of the logarithms of the factors' diagonals.
LIMIT = 8.0
# Rows that the EM algorithm sees, spread over all of them, and its iterations at most.
ROWS, ITERATIONS = 20_000, 40


class GaussianMixturePrior(nn.Module):
    """p(z) = Σ_k π_k N(z; μ_k, L_k L_kᵀ), started at a fit of the training codes and learned on with the rest.

    One Gaussian starts at its maximum in closed form, a mixture at what expectation maximisation finds (Dempster et al.
    1977; scikit-learn's, from k-means). The factors are triangular with a positive diagonal, so that a density takes
    triangular solves and no determinant. Only a latent whose codes are fixed has such a start to offer
    (``IdentityLatent``); elsewhere the means start as draws of N(0, I) and the covariances at I.

    Args:
        dim: D.
        components: K.
        covariance: ``full`` or ``diagonal``.
        ridge: added to the variances of the mixture's start, in the units of z²: 20 000 rows do not tell a component of
            90 dimensions all of its covariance.
    """

    factorised = False
    places: Tensor
    started: Tensor

    def __init__(
        self, dim: int, components: int = 1, covariance: Covariance = "full", ridge: float = 1e-3
    ) -> None:
        super().__init__()
        if components < 1 or not ridge > 0:
            raise UserError(
                f"model.prior: components={components} must be at least 1 and ridge={ridge} positive"
            )
        if covariance not in ("full", "diagonal"):
            raise UserError(
                f"model.prior.covariance='{covariance}' is unknown{nearest(covariance, ('full', 'diagonal'))}"
            )
        self.ridge = ridge
        spread = 1.0 if components > 1 else 0.0
        self.means = nn.Parameter(spread * torch.randn(components, dim))
        self.raw_log_diagonals = nn.Parameter(torch.zeros(components, dim))
        self.logits = nn.Parameter(torch.zeros(components)) if components > 1 else None
        self.full = covariance == "full"
        if self.full:
            self.below = nn.Parameter(torch.zeros(components, dim * (dim - 1) // 2))
            self.register_buffer("places", torch.tril_indices(dim, dim, -1), persistent=False)
        self.register_buffer("started", torch.zeros(()))

    @torch.no_grad()
    def start_at(self, codes: Callable[[], Tensor]) -> None:
        """Start at the fit of the codes (N, D), once: what was copied in or read from a file stays as it is."""
        if self.started:
            return
        weights, means, covariances = self._fit(codes())
        if self.logits is not None:
            self.logits.copy_(weights.log())
        self.means.copy_(means)
        factors = torch.linalg.cholesky(covariances)
        log_diagonals = factors.diagonal(dim1=-2, dim2=-1).log().clamp(1 - LIMIT, LIMIT - 1)
        self.raw_log_diagonals.copy_(LIMIT * torch.atanh(log_diagonals / LIMIT))
        if self.full:
            self.below.copy_(factors[:, self.places[0], self.places[1]])
        self.started.fill_(1)

    def _fit(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (K,), means (K, D) and covariances (K, D, D), in fp64."""
        if self.logits is not None:
            return _expectation_maximisation(codes, len(self.means), self.ridge, self.full)
        mean, covariance = moments(codes)
        if not self.full:
            covariance = covariance.diagonal().diag()
        covariance.diagonal().add_(1e-7)  # for codes that lie in a plane
        return mean.new_ones(1), mean[None], covariance[None]

    def factors(self) -> Tensor:
        """The triangular L_k, (K, D, D)."""
        factors = torch.diag_embed(bounded(self.raw_log_diagonals, LIMIT).exp())
        if self.full:
            factors[:, self.places[0], self.places[1]] = self.below
        return factors

    def forward(self, condition: Tensor | None = None) -> Distribution:
        factors = self.factors()
        if self.logits is None:
            return MultivariateNormal(self.means[0], scale_tril=factors[0], validate_args=False)
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False),
            MultivariateNormal(self.means, scale_tril=factors, validate_args=False),
            validate_args=False,
        )


def _expectation_maximisation(
    codes: Tensor, components: int, ridge: float, full: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from sklearn.mixture import GaussianMixture

    if len(codes) < components:
        raise UserError(
            f"model.prior.components={components} are more than the {len(codes)} training samples"
        )
    rows = torch.linspace(0, len(codes) - 1, min(ROWS, len(codes))).round().long()
    found = GaussianMixture(
        components,
        covariance_type="full" if full else "diag",
        reg_covar=ridge,
        max_iter=ITERATIONS,
        tol=1e-2,
        random_state=0,
    ).fit(codes[rows.to(codes.device)].double().cpu().numpy())
    covariances = torch.from_numpy(found.covariances_)
    return (
        torch.from_numpy(found.weights_).clamp_min(1e-6),
        torch.from_numpy(found.means_),
        covariances if full else torch.diag_embed(covariances),
    )
