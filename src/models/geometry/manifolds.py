"""Spaces of constant curvature: the maps of the Poincaré ball, in formulas that single precision survives."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from src.utils.errors import UserError

# How close to the ball's rim a point may come, as a share of the radius.
RIM = 1e-5
# Below this square a function of a length is taken from its series; the terms left out are of the order of 1e-11.
SMALL = 1e-2


def _even(square: Tensor, closed: Callable[[Tensor], Tensor], series: tuple[float, ...]) -> Tensor:
    """f(√square) of an even, smooth f: by its series near 0, where neither √ nor a quotient has a gradient."""
    near = square < SMALL
    polynomial = torch.zeros_like(square)
    inner = torch.where(near, square, 0.0)
    for coefficient in reversed(series):
        polynomial = polynomial * inner + coefficient
    return torch.where(near, polynomial, closed(torch.where(near, 1.0, square).sqrt()))


def tanh_ratio(square: Tensor) -> Tensor:
    """tanh(h)/h from h²."""
    return _even(square, lambda h: h.tanh() / h, (1, -1 / 3, 2 / 15, -17 / 315, 62 / 2835))


def asinh_ratio(square: Tensor) -> Tensor:
    """asinh(s)/s from s²."""
    return _even(square, lambda s: s.asinh() / s, (1, -1 / 6, 3 / 40, -15 / 336, 35 / 1152))


def log_sinh_ratio(square: Tensor) -> Tensor:
    """log(sinh(r)/r) from r², for an r of any size."""
    return _even(
        square,
        lambda r: r + torch.log1p(-(-2 * r).exp()) - (2 * r).log(),
        (0, 1 / 6, -1 / 180, 1 / 2835, -1 / 37800),
    )


def _square(x: Tensor) -> Tensor:
    return x.square().sum(-1, keepdim=True)


@dataclass(frozen=True)
class PoincareBall:
    """{z ∈ R^D: c‖z‖² < 1} with the metric λ_z² I, λ_z = 2/(1 − c‖z‖²), of constant curvature −c.

    Tangent vectors v are given in an orthonormal frame: ‖v‖ is a length of the manifold, the vector in ball coordinates
    is v/λ_z, and the frame at 0 carried along a geodesic to z is the frame at z. Hence exp and log at μ are those of
    Mathieu et al. 2019 (arXiv:1901.06033), and at the same time Nagano et al.'s (2019, arXiv:1902.02992) after parallel
    transport. As c → 0 the ball becomes R^D with z = v/2.

    geoopt has these maps too. Its Möbius addition cancels in fp32 from a distance of 6 on, where it projects; the
    one here, through w = x + y, does not.

    Args:
        curvature: c > 0.
    """

    curvature: float

    def __post_init__(self) -> None:
        if not self.curvature > 0:
            raise UserError(
                f"curvature={self.curvature} of model.posterior or model.prior must be positive, the ball's is −c"
            )

    def __str__(self) -> str:
        return f"ball of curvature {-self.curvature:g}"

    @property
    def reach(self) -> float:
        """How far from the origin points may lie, 12.2/√c: beyond, fp32 runs out of digits."""
        return log((2 - RIM) / RIM) / self.curvature**0.5

    def gap(self, z: Tensor) -> Tensor:
        """1 − c‖z‖² = 2/λ_z, (…, 1)."""
        return 1 - self.curvature * _square(z)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Möbius addition x ⊕ y = ((1 − c‖x‖²) w + c‖w‖² x) / ((1 − c‖x‖²)(1 − c‖y‖²) + c‖w‖²), w = x + y."""
        w = x + y
        bend, gap = self.curvature * _square(w), self.gap(x)
        return (gap * w + bend * x) / (gap * self.gap(y) + bend)

    def project(self, z: Tensor) -> Tensor:
        """What rounding has thrown out of the ball comes back, to just inside its rim."""
        norm = z.norm(dim=-1, keepdim=True)
        largest = (1 - RIM) / self.curvature**0.5
        return torch.where(norm > largest, z * (largest / norm), z)

    def exp0(self, v: Tensor) -> Tensor:
        """tanh(√c‖v‖/2) v / (√c‖v‖): a distance ‖v‖ from the origin along v."""
        return 0.5 * v * tanh_ratio(self.curvature * _square(v) / 4)

    def log0(self, z: Tensor) -> Tensor:
        """The inverse of ``exp0``: geodesic normal coordinates, without bounds."""
        gap = self.gap(z)
        return 2 * z * asinh_ratio(self.curvature * _square(z) / gap) / gap.sqrt()

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """x ⊕ exp0(v): a distance ‖v‖ from x along v."""
        return self.add(x, self.exp0(v))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The inverse of ``exp``: v with ‖v‖ = d(x, y) = 2/√c asinh √(c‖y − x‖²/((1 − c‖x‖²)(1 − c‖y‖²)))."""
        w = y - x
        bend, gap = self.curvature * _square(w), self.gap(x)
        gaps = gap * self.gap(y)
        scale = 2 * asinh_ratio(bend / gaps) / (gaps * (gaps + bend)).sqrt()
        return scale * (gap * w - bend * x)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """d(x, y), the length of the geodesic between them, (…)."""
        return self.log(x, y).norm(dim=-1)

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """The point a share t of the way from x to y."""
        return self.project(self.exp(x, t * self.log(x, y)))

    def log_volume(self, v: Tensor) -> Tensor:
        """log|det ∂exp_x(v)/∂v| with respect to the ball's volume, (…): (D − 1) log(sinh(√c‖v‖)/(√c‖v‖))."""
        return (v.shape[-1] - 1) * log_sinh_ratio(self.curvature * v.square().sum(-1))
