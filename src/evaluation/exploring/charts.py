"""How free numbers become points of a latent space that is not all of R^D.

Every function takes the posterior that lies in the space, and z (…, D).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from src.models.geometry.product import ProductPart
from src.models.posteriors import (
    CodedPosterior,
    GumbelPosterior,
    PoincarePosterior,
    PowerSphericalPosterior,
)

Map = Callable[[Any, Tensor], Tensor]


def _as_it_is(part: Any, z: Tensor) -> Tensor:
    return z


@dataclass(frozen=True)
class Chart:
    """Coordinates of a space.

    Attributes:
        place: coordinates without bounds → z; standard normal ones give what the usual prior of the space gives.
        coordinates: the inverse, of a z in the space.
        nearest: what is given as a z → the z that is decoded.
        reach: how far from 0 a number of z can be.
        told: what has to be known of it, in a sentence.
    """

    place: Map = _as_it_is
    coordinates: Map = _as_it_is
    nearest: Map = _as_it_is
    reach: Callable[[Any], float] | None = None
    told: str = ""


def _unit(part: Any, z: Tensor) -> Tensor:
    return nn.functional.normalize(z, dim=-1)


def nearest_code(part: CodedPosterior, z: Tensor) -> Tensor:
    """z (…, D) with every token replaced by the nearest code.

    With more than one codebook, every entry of the first is tried, and each further book rounds what is left over: the
    nearest of these sums, which need not be the nearest of all.
    """
    tokens = z.unflatten(-1, (part.tokens, part.token_dim))
    books = part.codebooks
    sums, codes = books[0], torch.arange(len(books[0]))[:, None]
    left = tokens.unsqueeze(-2) - sums  # of every first entry, (…, T, K, C)
    picked = [codes.expand(*left.shape[:-1], 1)]
    for book in books[1:]:
        code = torch.cdist(left, book.expand(*left.shape[:-2], *book.shape)).argmin(-1)
        left = left - book[code]
        picked.append(code.unsqueeze(-1))
    best = left.norm(dim=-1).argmin(-1)
    chosen = torch.cat(picked, -1)[(*_every(best), best)]
    return part.embed(chosen.squeeze(-1) if part.quantisers == 1 else chosen)


def _every(index: Tensor) -> tuple[Tensor, ...]:
    """What takes every element of the axes of ``index``."""
    return torch.meshgrid(*map(torch.arange, index.shape), indexing="ij")


SPHERE = Chart(
    place=_unit,
    nearest=_unit,
    reach=lambda part: 1.0,
    told="z lies on the unit sphere: numbers are scaled to length 1, and only their direction counts.",
)
BALL = Chart(
    place=lambda part, z: part.ball.exp0(z),
    coordinates=lambda part, z: part.ball.log0(z),
    nearest=lambda part, z: part.ball.project(z),
    reach=lambda part: part.ball.curvature**-0.5,
    told="z lies in a Poincaré ball: μ and σ are those of a tangent vector v at its origin, and z = exp₀(v); an exact "
    "z outside of the ball is drawn in to its rim.",
)
CODES = Chart(
    place=nearest_code,
    nearest=nearest_code,
    reach=lambda part: float(part.codebooks.abs().max()),
    told="The decoder knows codes only: every token of z is rounded to the nearest code.",
)
ONE_HOT = Chart(
    place=nearest_code,
    nearest=nearest_code,
    reach=lambda part: 1.0,
    told="z are categories: in every token the largest number becomes 1 and the others 0.",
)
FLAT = Chart()


def chart_of(posterior: Any) -> Chart:
    """The chart of the space that a posterior lies in."""
    if isinstance(posterior, ProductPart):
        return _product(posterior)
    if isinstance(posterior, PowerSphericalPosterior):
        return SPHERE
    if isinstance(posterior, PoincarePosterior):
        return BALL
    if isinstance(posterior, GumbelPosterior):
        return ONE_HOT
    return CODES if isinstance(posterior, CodedPosterior) else FLAT


def _product(product: ProductPart) -> Chart:
    """Of z = (z₁, z₂, …), every piece in the chart of its own factor."""
    charts = [(factor, chart_of(factor)) for factor in product.factors.values()]

    def each(name: str) -> Map:
        def apply(part: Any, z: Tensor) -> Tensor:
            pieces = z.split(product.dims, -1)
            maps = [(getattr(chart, name), factor) for factor, chart in charts]
            return torch.cat([m(f, piece) for (m, f), piece in zip(maps, pieces, strict=True)], -1)

        return apply

    told = " ".join(_told(product, charts))
    return Chart(each("place"), each("coordinates"), each("nearest"), None, told)


def _told(product: ProductPart, charts: list[tuple[Any, Chart]]) -> list[str]:
    first, found = 0, []
    for size, (_, chart) in zip(product.dims, charts, strict=True):
        last = first + size - 1
        found.append(f"z {first} to z {last}: {chart.told or 'any numbers, as they are.'}")
        first += size
    return found
