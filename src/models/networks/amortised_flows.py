"""Flows without a closed inverse, their parameters from the context: planar and radial.

Letters: L layers, D latent dimensions, C width of the context.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from src.models.distributions import bounded, full_precision
from src.models.networks.flows import Flow
from src.utils.errors import UserError

# What is near it is near the identity: of the initial parameters that say how far a layer goes.
SMALL = 1e-2


def above_minus_one(raw: Tensor) -> Tensor:
    """ℝ → (−1, ∞), increasing, 0 at 0.

    The paper's m(x) = softplus(x) − 1 moved to the left by log(e − 1), so that 0 is the identity here too. ``raw`` is
    bounded by ±10, so that 1 + m does not vanish in single precision.
    """
    return softplus(bounded(raw, 10.0) + math.log(math.e - 1)) - 1


class AmortisedFlow(Flow):
    """L layers whose parameters all come from one linear map of the context.

    Args:
        dim: D.
        layers: L.
        context: C, at least 1.
        sizes: how many numbers each of a layer's parameters has.
        far: index of the parameter that starts close to 0, which makes a layer the identity.
    """

    invertible = False

    def __init__(
        self, dim: int, layers: int, context: int, sizes: tuple[int, ...], far: int
    ) -> None:
        super().__init__()
        if layers < 1 or context < 1:
            raise UserError(
                f"model.posterior.flow: layers={layers} and context={context} must be at least 1"
            )
        self.dim, self.layers, self.sizes = dim, layers, sizes
        self.hyper = nn.Linear(context, layers * sum(sizes))
        with torch.no_grad():
            for parameter in self.hyper.parameters():
                by_layer = parameter.view(layers, sum(sizes), -1).split(sizes, 1)
                by_layer[far].mul_(SMALL)

    def layer_parameters(self, context: Tensor | None) -> tuple[Tensor, ...]:
        """Each of the parameters, (…, L, its size)."""
        if context is None:
            raise ValueError(f"{type(self).__name__} takes its parameters from a context")
        raw = full_precision(self.hyper(context)).unflatten(-1, (self.layers, -1))
        return raw.split(self.sizes, -1)


class PlanarFlow(AmortisedFlow):
    """z ← z + û tanh(wᵀz + b), layer after layer (Rezende & Mohamed 2015, arXiv:1505.05770).

    û = u + (m(wᵀu) − wᵀu) w/‖w‖² with m > −1 keeps wᵀû > −1, with which every layer is invertible (appendix A.1), and
    log|det| = log(1 + (1 − tanh²) wᵀû). m is ``above_minus_one``: unlike the paper's it is 0 at 0, so that u = 0 is
    the identity, where the flow starts from.

    Args:
        dim: D.
        layers: L.
        context: C.
    """

    def __init__(self, dim: int, layers: int, context: int) -> None:
        super().__init__(dim, layers, context, sizes=(dim, dim, 1), far=0)

    def directions(self, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """û (…, L, D), w (…, L, D), b (…, L, 1) and wᵀû (…, L, 1)."""
        u, w, b = self.layer_parameters(context)
        product = (w * u).sum(-1, keepdim=True)
        reach = above_minus_one(product)
        squares = w.square().sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
        return torch.addcmul(u, (reach - product) / squares, w), w, b, reach

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u, w, b, reach = self.directions(context)
        bends = []
        for u_l, w_l, b_l in zip(u.unbind(-2), w.unbind(-2), b.unbind(-2), strict=True):
            bend = ((x * w_l).sum(-1, keepdim=True) + b_l).tanh()
            x = torch.addcmul(x, u_l, bend)
            bends.append(bend)
        slope = 1 - torch.cat(bends, -1).square()
        return x, torch.log1p(slope * reach.squeeze(-1)).sum(-1)


class RadialFlow(AmortisedFlow):
    """z ← z + β̂ (z − c)/(α + ‖z − c‖), layer after layer (Rezende & Mohamed 2015, arXiv:1505.05770).

    β̂ = α m(β) > −α keeps every layer invertible (appendix A.2). With s = α/(α + r), r = ‖z − c‖, a layer is
    z + m s (z − c), and log|det| = (D − 1) log(1 + m s) + log(1 + m s²). m is ``above_minus_one``, so that β = 0 is the
    identity, where the flow starts from.

    Args:
        dim: D.
        layers: L.
        context: C.
    """

    def __init__(self, dim: int, layers: int, context: int) -> None:
        super().__init__(dim, layers, context, sizes=(dim, 1, 1), far=2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        centre, log_width, raw = self.layer_parameters(context)
        width, reach = bounded(log_width, 8.0).exp(), above_minus_one(raw)
        nearnesses = []
        parts = (centre, width, reach)
        for c, a, m in zip(*(part.unbind(-2) for part in parts), strict=True):
            away = x - c
            near = a / (a + torch.linalg.vector_norm(away, dim=-1, keepdim=True))
            x = torch.addcmul(x, m * near, away)
            nearnesses.append(near)
        s, m = torch.cat(nearnesses, -1), reach.squeeze(-1)
        across, along = torch.log1p(m * s), torch.log1p(m * s.square())
        return x, ((self.dim - 1) * across + along).sum(-1)
