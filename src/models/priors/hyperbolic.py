"""Priors on the Poincaré ball."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.geometry.curved import ball_normal
from src.models.geometry.manifolds import PoincareBall
from src.utils.errors import UserError


class PoincarePrior(nn.Module):
    """p(z): a wrapped or a Riemannian normal at the origin of the Poincaré ball, the same σ in all directions.

    Mathieu et al. 2019, arXiv:1901.06033; Nagano et al. 2019, arXiv:1902.02992.

    Args:
        dim: latent dimensions.
        curvature: c of the ball.
        scale: σ, a length of the manifold.
        learned: learn σ, from ``scale``.
        normal: ``wrapped`` or ``riemannian``.
    """

    factorised = False
    origin: Tensor
    log_scale: Tensor

    def __init__(
        self,
        dim: int,
        curvature: float = 1.0,
        scale: float = 1.0,
        learned: bool = False,
        normal: Literal["wrapped", "riemannian"] = "wrapped",
    ) -> None:
        super().__init__()
        self.ball = PoincareBall(curvature)
        self.support = str(self.ball)
        self.normal = ball_normal(normal)
        largest = self.normal.largest_scale(dim, self.ball, self.ball.reach)
        if not 0 < scale <= largest:
            raise UserError(
                f"model.prior.scale={scale} must be positive and at most {largest:.2g}, as far as fp32 reaches with a "
                f"{normal} normal in {dim} dimensions; a smaller model.posterior.curvature allows more"
            )
        self.register_buffer("origin", torch.zeros(dim), persistent=False)
        self.largest = largest
        log_scale = torch.tensor(scale).log()
        if learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale, persistent=False)

    def forward(self, condition: Tensor | None = None) -> Distribution:
        scale = (
            self.log_scale.exp()
            .clamp(max=self.largest)
            .expand(self.normal.scales(len(self.origin)))
        )
        return self.normal(self.origin, scale, self.ball)

    def geodesic(self, z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
        """The point a share t of the way along the ball's geodesic."""
        return self.ball.geodesic(z_a, z_b, t)

    def distance(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """The length of that geodesic, (…)."""
        return self.ball.distance(z_a, z_b)
