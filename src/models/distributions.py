"""Distributions that torch lacks."""

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    Normal,
    constraints,
    kl_divergence,
    register_kl,
)


def full_precision(value: Tensor) -> Tensor:
    """fp16 and bf16, as autocast makes them, become fp32; fp32 and fp64 stay what they are."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def bounded(raw: Tensor, limit: float) -> Tensor:
    """raw → (-limit, limit), close to the identity around 0; unlike a clamp it has a gradient outside."""
    return limit * torch.tanh(raw / limit)


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q ‖ p) in nats, (B,); None where no closed form is registered for the pair."""
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def divergence_at_mean(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p), (B,) nats; where there is no closed form, its integrand log q − log p at the mean of q."""
    closed = closed_form_kl(q, p)
    return log_prob_at_mean(q) - p.log_prob(q.mean) if closed is None else closed


def log_prob_at_mean(q: Distribution) -> Tensor:
    """log q at its own mean, (B,) nats, also of a flow that has a density at its own samples only."""
    own: Any = getattr(q, "log_prob_at_mean", None)
    if own:
        return own()
    inner: Any = q.base_dist if isinstance(q, Independent) else None
    if hasattr(inner, "log_prob_at_mean"):  # a code for every frame
        return inner.log_prob_at_mean().flatten(len(q.batch_shape)).sum(-1)
    return q.log_prob(q.mean)


def factorised_kl(q: Independent, p: Independent) -> Tensor:
    """KL of every single dimension in nats, (B, all dimensions of the event)."""
    batch = q.batch_shape
    base_q, base_p = q.base_dist, p.base_dist
    while isinstance(base_q, Independent) and isinstance(base_p, Independent):
        base_q, base_p = base_q.base_dist, base_p.base_dist
    return kl_divergence(base_q, base_p).flatten(len(batch))


def detached(q: Distribution) -> Distribution:
    """The same distribution, whose parameters get no gradient.

    Raises:
        NotImplementedError: its density runs through a network, whose parameters are not the distribution's.
    """
    frozen = copy(q)
    for name, value in vars(q).items():
        object.__setattr__(frozen, name, _fixed(value))
    return frozen


def _fixed(value: Any) -> Any:
    if isinstance(value, nn.Module):
        raise NotImplementedError(
            "this distribution runs through a network: its density cannot be held fixed"
        )
    if isinstance(value, Distribution):
        return detached(value)
    if isinstance(value, tuple):
        return tuple(map(_fixed, value)) if type(value) is tuple else value
    return value.detach() if isinstance(value, Tensor) else value


class UnitNormal(Normal):
    """N(0, 1): zeros and ones. Its KL from a Gaussian takes half the operations of the general one."""


@register_kl(Normal, UnitNormal)
def _kl_from_unit_normal(q: Normal, p: UnitNormal) -> Tensor:
    squares = torch.addcmul(q.loc.square(), q.scale, q.scale)
    return 0.5 * squares - q.scale.log() - 0.5


class Delta(Distribution):
    """A point mass. Its density does not exist, so asking for one raises.

    Args:
        point: (B, D).
    """

    arg_constraints = {"point": constraints.real_vector}
    has_rsample = True

    def __init__(self, point: Tensor) -> None:
        self.point = point
        super().__init__(point.shape[:-1], point.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.point

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.point)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.point.expand(*sample_shape, *self.point.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        raise NotImplementedError(
            "a point mass has no density: this model's encoder is deterministic"
        )
