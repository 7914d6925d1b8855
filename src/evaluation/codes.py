"""What an encoder makes of data, in parts that fit into memory, and how that is shown."""

from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Independent

from src.evaluation import figures
from src.models.distributions import factorised_kl
from src.models.meters import ACTIVE_VARIANCE

# Samples encoded at once.
ENCODED = 250


def encoded(
    model: Any, x: Tensor, batch_size: int = ENCODED, c: Tensor | None = None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Posterior means and standard deviations of x, (N, D), and the mean KL of every dimension, (D,), on the CPU.

    The last two are None where posterior or prior is not factorised.

    Args:
        c: the condition (N,) of a conditional model; without one it counts as unknown.
    """
    means, sigmas, rates = [], [], []
    for part, given in _parts(x, c, batch_size, model.device):
        q, p = model.encode(part, given), model.latent.prior_over_z(given)
        means.append(q.mean.cpu())
        if isinstance(q, Independent) and isinstance(p, Independent):
            sigmas.append(q.stddev.cpu())
            rates.append(factorised_kl(q, p).cpu())
    if not rates:
        return torch.cat(means), None, None
    return torch.cat(means), torch.cat(sigmas), torch.cat(rates).mean(0)


def _parts(
    x: Tensor, c: Tensor | None, size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor | None]]:
    given = [None] * (len(x) // size + 1) if c is None else c.split(size)
    for part, one in zip(x.split(size), given, strict=False):
        yield part.to(device), None if one is None else one.to(device)


def informative(z: Tensor, kl: Tensor | None) -> tuple[Tensor, str]:
    """How much every dimension of codes z (N, D) says, (D,), and in which unit: its KL, or the codes' variance."""
    return (z.var(0), "variance") if kl is None else (kl, "nats")


def of_codes(
    z: Tensor, sigma: Tensor | None, kl: Tensor | None, labels: Tensor | None = None
) -> Iterator[tuple[str, Figure]]:
    """Figures of what ``encoded`` returns, coloured by labels (N,)."""
    yield "latent_scatter", figures.latent_scatter(z, labels)
    if kl is not None and sigma is not None:
        yield "kl_per_dimension", figures.kl_per_dimension(kl, z.var(0) > ACTIVE_VARIANCE)
        yield "latent_distributions", figures.latent_distributions(z, sigma, kl)


def distant_pairs(codes: Tensor, count: int) -> Tensor:
    """Ends for geodesics, (2, count, D): codes chosen one after another, each farthest from all before it.

    Fewer where there are not so many different codes.
    """
    chosen = [0]
    nearest = (codes - codes[0]).norm(dim=1)
    while len(chosen) < 2 * count and float(nearest.max()) > 0:
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum((codes - codes[chosen[-1]]).norm(dim=1))
    ends = codes[chosen[: len(chosen) // 2 * 2]]
    return torch.stack([ends[::2], ends[1::2]])
