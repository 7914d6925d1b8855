"""What an encoder makes of data, in parts that fit into memory."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent

from src.models.distributions import factorised_kl

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
