"""Ways between two latent points side by side, and how long each is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from src.evaluation.exploring.space import LatentSpace
from src.models.geometry import geodesic, length, line
from src.models.paths import Path, latent_path

# Points that a path is measured on at least, however few are shown.
MEASURED = 65
# How far rounding may carry a point out of its space.
OUTSIDE = 1e-4
NAMES: dict[Path, str] = {"linear": "linear", "slerp": "spherical", "geodesic": "geodesic"}


@dataclass(frozen=True)
class Way:
    """A path from one latent point to another.

    Attributes:
        name: linear, spherical or geodesic.
        z: (S, D), ends included.
        euclidean: Σ ‖Δz‖, latent units.
        riemannian: its length under the model's metric or in its curved space; None where there is none, or where the
            path leaves that space.
    """

    name: str
    z: Tensor
    euclidean: float
    riemannian: float | None


def no_geodesics(space: LatentSpace) -> str | None:
    """Why geodesics are not defined for this model, in a sentence; None where they are."""
    if space.metric is not None or space.curved is not None:
        return None
    if space.latent.metric is not None:
        return "This model's latent metric has not been fitted yet: until then it is Euclidean, and no geodesic bends."
    return (
        "Geodesics are not defined for this model: it has no latent metric and no curved latent space, and in R^D the "
        "shortest path is the straight line."
    )


@torch.no_grad()
def ways(space: LatentSpace, z_a: Tensor, z_b: Tensor, steps: int) -> list[Way]:
    """The paths that the model has from z_a (D,) to z_b: linear, spherical and, where it is defined, geodesic."""
    paths = [path for path in NAMES if path != "geodesic" or not no_geodesics(space)]
    finer = -(-(MEASURED - 1) // (steps - 1))
    metric = None if space.metric is None else lambda: space.metric
    found = []
    for path in paths:
        fine = latent_path(
            z_a[None], z_b[None], finer * (steps - 1) + 1, path, metric, space.curved
        )[:, 0]
        euclidean = float(fine.diff(dim=0).norm(dim=1).sum())
        found.append(Way(NAMES[path], fine[::finer], euclidean, own_length(space, fine)))
    return found


def own_length(space: LatentSpace, z: Tensor) -> float | None:
    """The length of a path (S, D) as the model's own geometry has it; None where it has none, or the path leaves it."""
    if space.curved is not None:
        if float((space.project(z) - z).abs().max()) > OUTSIDE:
            return None
        return float(space.curved.distance(z[:-1], z[1:]).sum())
    return None if space.metric is None else float(length(space.metric, z))


@dataclass(frozen=True)
class Pairs:
    """Geodesics between P pairs of points beside the straight lines between them.

    Attributes:
        straight, curved: (S, P, D).
        lengths: Riemannian, of the line and of the geodesic, (P, 2).
    """

    straight: Tensor
    curved: Tensor
    lengths: Tensor


@torch.no_grad()
def between(space: LatentSpace, ends: Tensor) -> Pairs:
    """Both paths between ends (2, P, D), under the latent metric."""
    straight = line(ends[0], ends[1], MEASURED)
    curved = geodesic(space.metric, ends[0], ends[1], points=MEASURED)
    lengths = torch.stack([length(space.metric, z) for z in (straight, curved)], 1)
    return Pairs(straight, curved, lengths)


def largest_step(decoded: Tensor) -> float:
    """The largest mean squared difference of two neighbours among decoded samples (S, *shape)."""
    return float(decoded.diff(dim=0).square().flatten(1).mean(1).max())
