"""Ways from one latent point to another."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.models.geometry import geodesic
from src.utils.errors import UserError

Path = Literal["linear", "slerp", "geodesic"]


def latent_path(
    z_a: Tensor, z_b: Tensor, steps: int, path: Path, metric: Any = None, manifold: Any = None
) -> Tensor:
    """``steps`` latent points from every z_a to its z_b (B, …, D), ends included: (steps, B, …, D).

    On a sphere only ``geodesic`` and ``slerp``, which are then the same, stay on it: ``linear`` is the chord, for
    comparison. In a ball all three stay inside, and only ``geodesic`` is the shortest path.

    Args:
        metric: the model's metric part, for ``geodesic``.
        manifold: the model's prior, whose ``geodesic(z_a, z_b, t)``, where it has one, is that of a curved space.

    Raises:
        NotImplementedError: a geodesic without a metric and without a curved space.
        UserError: an unknown path.
    """
    t = torch.linspace(0, 1, steps, dtype=z_a.dtype, device=z_a.device).view(-1, *[1] * z_a.dim())
    if path == "linear":
        return torch.lerp(z_a, z_b, t)
    if path == "slerp":
        return slerp(z_a, z_b, t)
    if path == "geodesic":
        if hasattr(manifold, "geodesic"):
            return manifold.geodesic(z_a, z_b, t)
        if metric is None:
            raise NotImplementedError(
                "geodesics need a model with a latent metric or a curved latent space, and this one has neither; "
                "use linear or slerp"
            )
        curves = geodesic(metric(), z_a.flatten(0, -2), z_b.flatten(0, -2), points=steps)
        return curves.view(steps, *z_a.shape)
    raise UserError(f"path='{path}' is unknown; choices: linear, slerp, geodesic")


def slerp(z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation of directions with linear interpolation of lengths; z (B, D), t (steps, 1, 1)."""
    unit_a, unit_b = nn.functional.normalize(z_a, dim=-1), nn.functional.normalize(z_b, dim=-1)
    angle = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6).acos()
    direction = (((1 - t) * angle).sin() * unit_a + (t * angle).sin() * unit_b) / angle.sin()
    return direction * torch.lerp(z_a.norm(dim=-1, keepdim=True), z_b.norm(dim=-1, keepdim=True), t)
