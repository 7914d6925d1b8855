"""The Gaussian AR(1) process over the latent dimensions."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.priors.gaussian_process import TimeCoupledNormal
from src.utils.errors import UserError


class AutoregressiveNormal(nn.Module):
    """The prior of the δ-VAE (Razavi et al. 2019, arXiv:1901.03416): z_t = α z_{t−1} + √(1 − α²) ε, z_t ~ N(0, 1).

    The D dimensions are read as T steps of C channels, z_{tC+c} being step t of channel c. Each channel has an α of
    its own, evenly spread from ``alpha_min`` to ``alpha_max``, and fixed. A posterior that is independent over time
    cannot follow these correlations: whatever its mean and σ, the KL is at least the committed rate

        δ = ½ Σ_c [(T − 2) log(1 + α_c²) − log(1 − α_c²)],

    reached by μ = 0 and σ_t² = 1/(K⁻¹)_tt. The mismatch alone keeps the posterior from collapsing (section 2.2), so
    the posterior is an ordinary diagonal Gaussian. The authors' sequence is one of places in a picture, whose encoder
    sees them in order, and their decoder is autoregressive; here it is the code of the picture itself.

    Args:
        dim: D.
        steps: T, at least 2, a divisor of D.
        alpha_min, alpha_max: in (0, 1); a single channel has ``alpha_min``.
    """

    factorised = False
    factor: Tensor
    alpha: Tensor

    def __init__(
        self, dim: int, steps: int, alpha_min: float = 0.3, alpha_max: float = 0.9
    ) -> None:
        super().__init__()
        if steps < 2 or dim % steps:
            raise UserError(
                f"model.prior.steps={steps} must be at least 2 and divide the {dim} latent dimensions"
            )
        if not 0 < alpha_min <= alpha_max < 1:
            raise UserError(
                f"model.prior: alpha_min={alpha_min} and alpha_max={alpha_max} must be in (0, 1), in this order"
            )
        self.steps = steps
        alpha = torch.linspace(alpha_min, alpha_max, dim // steps, dtype=torch.float64)
        time = torch.arange(steps, dtype=torch.float64)
        lag = (time[:, None] - time).abs()
        # Step after step, and in each step the channels, which know nothing of each other.
        covariance = torch.diag_embed(alpha ** lag[..., None]).transpose(1, 2).reshape(dim, dim)
        factor = torch.linalg.cholesky(covariance).to(torch.get_default_dtype())
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("alpha", alpha, persistent=False)

    @property
    def committed_rate(self) -> Tensor:
        """δ in nats: the least KL of a factorised Gaussian posterior from this prior."""
        squares = self.alpha.square()
        return 0.5 * ((self.steps - 2) * squares.log1p() - (-squares).log1p()).sum()

    def forward(self, condition: Tensor | None = None) -> Distribution:
        return TimeCoupledNormal(self.factor)
