"""Products of spaces: their distributions, and what posteriors and priors over them share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints, kl_divergence, register_kl

from src.models.geometry.curved import Shape
from src.utils.errors import UserError


class ProductDistribution(Distribution):
    """z = (z₁, z₂, …), independent, each from a factor of its own.

    Args:
        factors: over (D₁,), (D₂,), …, of the same batch shape.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, factors: Sequence[Distribution]) -> None:
        self.factors = tuple(factors)
        self.dims = [factor.event_shape[0] for factor in factors]
        super().__init__(factors[0].batch_shape, torch.Size([sum(self.dims)]), validate_args=False)

    def expand(self, batch_shape: Shape, _instance: Any = None) -> "ProductDistribution":
        return ProductDistribution([f.expand(torch.Size(batch_shape)) for f in self.factors])

    @property
    def mean(self) -> Tensor:
        return torch.cat([factor.mean for factor in self.factors], -1)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        return torch.cat([factor.rsample(torch.Size(sample_shape)) for factor in self.factors], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        pieces = value.split(self.dims, -1)
        scores = [f.log_prob(piece) for f, piece in zip(self.factors, pieces, strict=True)]
        return torch.stack(torch.broadcast_tensors(*scores)).sum(0)


@register_kl(ProductDistribution, ProductDistribution)
def _kl_of_products(q: ProductDistribution, p: ProductDistribution) -> Tensor:
    """The sum over the factors; ``NotImplementedError`` where one pair has no closed form."""
    if q.dims != p.dims:
        raise NotImplementedError
    divergences = [kl_divergence(a, b) for a, b in zip(q.factors, p.factors, strict=True)]
    return torch.stack(divergences).sum(0)


class ProductPart(nn.Module):
    """Base of the posterior and the prior over z = (z₁, z₂, …), every factor in a space of its own.

    Args:
        dim: latent dimensions of all factors together.
        factors: name → what makes a part of a given ``dim``, in the order of z.
        dims: of the factors; None for equal ones, the first of which take what is left over.

    Raises:
        UserError: there are no factors, or the dimensions do not add up.
    """

    factorised = False

    def __init__(
        self,
        dim: int,
        factors: Mapping[str, Callable[..., nn.Module]],
        dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.dims = _shared_out(dim, len(factors)) if dims is None else list(dims)
        count = len(self.dims) == len(factors) and sum(self.dims) == dim
        if not factors or not count or min(self.dims) < 1:
            raise UserError(
                f"dims={self.dims} of a product of {len(factors)} factors ({', '.join(factors)}) must be one number "
                f"above 0 a factor, adding up to model.latent_dim={dim}"
            )
        made = zip(factors.items(), self.dims, strict=True)
        self.factors = nn.ModuleDict({name: make(dim=size) for (name, make), size in made})
        self.support = " × ".join(
            getattr(factor, "support", "euclidean") for factor in self.factors.values()
        )


def _shared_out(dim: int, parts: int) -> list[int]:
    return [(dim + parts - 1 - i) // parts for i in range(parts)]
