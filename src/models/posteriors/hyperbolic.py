"""Posteriors on the Poincaré ball."""

from typing import Literal

from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.distributions import bounded, full_precision
from src.models.geometry.curved import ball_normal
from src.models.geometry.manifolds import PoincareBall, tanh_ratio


class PoincarePosterior(nn.Module):
    """q(z | x) around μ(x) on the Poincaré ball: a wrapped normal with a σ(x) in every direction, or a Riemannian one.

    See ``WrappedNormal`` and ``RiemannianNormal``. The head's m becomes μ = exp₀(m). Its length is bounded smoothly by
    half of how far fp32 reaches in the ball, and σ so that the samples keep to the other half; Mathieu et al. (2019,
    arXiv:1901.06033) project what is beyond, which has no gradient and makes the KL a wrong one.

    Args:
        in_features: width of the encoder's output.
        dim: latent dimensions.
        curvature: c of the ball.
        normal: ``wrapped``, or ``riemannian``: one σ for all directions.
    """

    factorised = False

    def __init__(
        self,
        in_features: int,
        dim: int,
        curvature: float = 1.0,
        normal: Literal["wrapped", "riemannian"] = "wrapped",
    ) -> None:
        super().__init__()
        self.dim, self.ball = dim, PoincareBall(curvature)
        self.support = str(self.ball)
        self.normal = ball_normal(normal)
        self.head = nn.Linear(in_features, dim + self.normal.scales(dim))
        self.reach = 0.5 * self.ball.reach
        self.largest_scale = self.normal.largest_scale(dim, self.ball, self.reach)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        raw = full_precision(self.head(features))
        place, raw_scale = raw[..., : self.dim], raw[..., self.dim :]
        square = (place / self.reach).square().sum(-1, keepdim=True)
        loc = self.ball.exp0(place * tanh_ratio(square))
        scale = self.largest_scale * bounded(raw_scale, 8.0).sigmoid()
        return self.normal(loc, scale, self.ball)
