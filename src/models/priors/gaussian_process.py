"""A Gaussian process over the frames of a sequence."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints, register_kl

from src.utils.errors import UserError

Kernel = Literal["cauchy", "rbf", "periodic"]


class TimeCoupledNormal(Distribution):
    """N(0, K) over the T entries of z (T,), or over each of the D independent columns of z (T, D).

    Args:
        factor: the Cholesky factor of K, (T, T).
        dim: D; None for a z of one axis.
        batch_shape: of independent copies.
    """

    arg_constraints = {"factor": constraints.lower_cholesky}
    has_rsample = True

    def __init__(
        self, factor: Tensor, dim: int | None = None, batch_shape: tuple[int, ...] = ()
    ) -> None:
        self.factor, self.dim = factor, dim
        self.columns = (len(factor), 1 if dim is None else dim)
        event_shape = self.columns[:1] if dim is None else self.columns
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Any = None
    ) -> "TimeCoupledNormal":
        return TimeCoupledNormal(self.factor, self.dim, tuple(batch_shape))

    @property
    def mean(self) -> Tensor:
        return self.factor.new_zeros(self.batch_shape + self.event_shape)

    @property
    def half_logdet(self) -> Tensor:
        """½ log det of the covariance of all T·D numbers."""
        return self.columns[1] * self.factor.diagonal().log().sum()

    def as_columns(self, value: Tensor) -> Tensor:
        """(…, *event) as (…, T, D)."""
        return value.unsqueeze(-1) if self.dim is None else value

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = self.factor.new_empty(shape).normal_()
        with torch.autocast(noise.device.type, enabled=False):
            return (self.factor @ self.as_columns(noise)).view(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        columns = self.as_columns(value)
        flat = columns.movedim(-2, 0).flatten(1)
        white = torch.linalg.solve_triangular(self.factor, flat, upper=False)
        squares = white.square().sum(0).view(*columns.shape[:-2], columns.shape[-1]).sum(-1)
        normaliser = 0.5 * self.event_shape.numel() * torch.tensor(2 * torch.pi).log()
        return -0.5 * squares - self.half_logdet - normaliser


@register_kl(Independent, TimeCoupledNormal)
def _kl_from_factorised(q: Independent, p: TimeCoupledNormal) -> Tensor:
    """Between a Gaussian with a mean and a σ for every number, and the process."""
    base = q.base_dist
    while isinstance(base, Independent):
        base = base.base_dist
    if not isinstance(base, Normal) or q.event_shape != p.event_shape:
        raise NotImplementedError
    mean, variance = p.as_columns(base.loc), p.as_columns(base.scale.square())
    precision = torch.cholesky_inverse(p.factor)
    trace = (precision.diagonal()[:, None] * variance).sum((-2, -1))
    with torch.autocast(mean.device.type, enabled=False):
        quadratic = (mean * (precision @ mean)).sum((-2, -1))
    entropy_like = variance.log().sum((-2, -1))
    return 0.5 * (trace + quadratic - p.event_shape.numel() - entropy_like) + p.half_logdet


class GaussianProcessPrior(nn.Module):
    """p(z) = Π_d N(z_{·d}; 0, K), K_{tt'} = k(t − t') (Fortuin et al. 2020, GP-VAE, arXiv:1907.04155).

    ``cauchy`` is 1/(1 + (t − t')²/l²), the paper's; ``rbf`` exp(−(t − t')²/2l²); ``periodic``
    exp(−2 sin²(π(t − t')/p)/l²) with the period p = T − 1 of a sequence whose last frame is the first. The posterior
    here is factorised over time, where the authors' is a banded Gaussian. k is normalised to k(0) = 1.

    Args:
        dim: latent dimensions D.
        length: T.
        kernel: see above.
        lengthscale: l, in frames for cauchy and rbf, in radians for periodic.
        noise: added to the diagonal, a share of k(0) that is white: it also keeps K invertible.
    """

    factorised = False
    factor: Tensor

    def __init__(
        self,
        dim: int,
        length: int,
        kernel: Kernel = "cauchy",
        lengthscale: float = 2.0,
        noise: float = 1e-2,
    ) -> None:
        super().__init__()
        self.dim = dim
        if not lengthscale > 0 or not 0 < noise < 1:
            raise UserError(
                f"model.prior: lengthscale={lengthscale} must be positive and noise={noise} between 0 and 1"
            )
        lag = torch.arange(length, dtype=torch.float64)
        lag = (lag[:, None] - lag) / lengthscale
        if kernel == "cauchy":
            k = 1 / (1 + lag.square())
        elif kernel == "rbf":
            k = (-0.5 * lag.square()).exp()
        elif kernel == "periodic":
            turn = torch.pi * lag * lengthscale / (length - 1)
            k = (-2 * turn.sin().square() / lengthscale**2).exp()
        else:
            raise UserError(
                f"model.prior.kernel='{kernel}' is unknown; choices: cauchy, rbf, periodic"
            )
        k = (1 - noise) * k + noise * torch.eye(length, dtype=torch.float64)
        factor = torch.linalg.cholesky(k).to(torch.get_default_dtype())
        self.register_buffer("factor", factor, persistent=False)

    def forward(self, condition: Tensor | None = None) -> Distribution:
        return TimeCoupledNormal(self.factor, self.dim)
