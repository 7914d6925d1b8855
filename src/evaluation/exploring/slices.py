"""Two dimensions of a latent space at a time."""

import torch
from torch import Tensor


def lattice(centre: Tensor, dimensions: tuple[int, int], reach: float, resolution: int) -> Tensor:
    """Copies of ``centre`` (D,) with two dimensions set to all pairs of values, (R, R, D).

    Args:
        dimensions: along the columns and along the rows.
        reach: values go from −reach to +reach; of the rows the first is the largest, as on paper.
        resolution: R.
    """
    values = torch.linspace(-reach, reach, resolution).to(centre)
    z = centre.repeat(resolution, resolution, 1)
    z[..., dimensions[0]] = values
    z[..., dimensions[1]] = values.flip(0)[:, None]
    return z


def at(centre: Tensor, dimensions: tuple[int, int], values: tuple[float, float]) -> Tensor:
    """``centre`` (D,) with two dimensions set."""
    z = centre.clone()
    z[list(dimensions)] = torch.tensor(values).to(centre)
    return z
