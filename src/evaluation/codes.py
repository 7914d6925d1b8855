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
    model: Any, x: Tensor, batch_size: int = ENCODED
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Posterior means and standard deviations of x, (N, D), and the mean KL of every dimension, (D,), on the CPU.

    The last two are None where posterior or prior is not factorised.
    """
    p = model.latent.prior_over_z()
    means, sigmas, rates = [], [], []
    for part in x.split(batch_size):
        q = model.encode(part.to(model.device))
        means.append(q.mean.cpu())
        if isinstance(q, Independent) and isinstance(p, Independent):
            sigmas.append(q.stddev.cpu())
            rates.append(factorised_kl(q, p).cpu())
    if not rates:
        return torch.cat(means), None, None
    return torch.cat(means), torch.cat(sigmas), torch.cat(rates).mean(0)


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
