"""The aggregate posterior q(z) = E q(z | x) beside what new z are drawn from, dimension by dimension."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from src.evaluation.exploring.codes import Codes
from src.evaluation.exploring.space import LatentSpace


@dataclass(frozen=True)
class Aggregate:
    """Draws of both, and how they differ.

    Attributes:
        q: one draw of the posterior for every sample, (N, D).
        p: as many draws of the prior, (N, D), or None where there is none.
        floor: Wasserstein distances between p and as many further draws, (D,), latent units: what equal densities
            would have at this N. None without a prior.
        normal: mean and sd of the prior of every dimension, (2, D), where that is a Gaussian known exactly.
    """

    q: Tensor
    p: Tensor | None
    floor: Tensor | None
    normal: Tensor | None = None

    @cached_property
    def distance(self) -> Tensor | None:
        """Wasserstein distances between q and p by dimension, (D,), latent units."""
        return None if self.p is None else wasserstein(self.q, self.p)


def aggregate(space: LatentSpace, codes: Codes, seed: int) -> Aggregate:
    """Draws of the aggregate posterior and of the prior; of a conditional one given the same labels."""
    q, n = space.posterior_draws(codes.rows, seed), len(codes.rows)
    if space.source is None:
        return Aggregate(q, None, None)
    labels = codes.labels if space.classes is not None else None
    # Seeds apart from the posterior's, whose noise would otherwise be the same.
    p, again = (space.draws(n, 2 * seed + 1_000_003 + i, labels) for i in range(2))
    return Aggregate(q, p, wasserstein(p, again), space.prior_moments())


def wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """W₁ between the marginals of equally many draws (N, D): the mean distance of sorted values, (D,)."""
    return (a.sort(0).values - b.sort(0).values).abs().mean(0)


def table(codes: Codes, both: Aggregate) -> list[dict[str, float | str | None]]:
    """The numbers of every dimension, the most informative first."""
    mean, sd, distance = both.q.mean(0), both.q.std(0), both.distance
    rows = []
    for d in codes.order:
        row: dict[str, float | str | None] = {
            "dimension": f"z {d}",
            "KL (nats)": None if codes.kl is None else float(codes.kl[d]),
            "mean of q(z) (latent units)": float(mean[d]),
            "sd of q(z) (latent units)": float(sd[d]),
        }
        if both.p is not None and distance is not None and both.floor is not None:
            row |= {
                "mean of p(z) (latent units)": float(both.p[:, d].mean()),
                "sd of p(z) (latent units)": float(both.p[:, d].std()),
                "W₁(q, p) (latent units)": float(distance[d]),
                "W₁ of equal densities (latent units)": float(both.floor[d]),
            }
        rows.append(row)
    return rows


def density(values: Tensor, edges: Tensor) -> Tensor:
    """A histogram of values (N,) as a density over ``edges`` (B + 1,), (B,)."""
    counts = torch.histogram(values.double(), edges.double()).hist
    return counts / (len(values) * edges.double().diff())
