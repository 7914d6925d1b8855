"""Flows: invertible maps of the latent space with their log-determinants.

Letters: D latent dimensions, C width of a context, which tells an amortised flow which data point it serves.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from zuko.nn import MLP, MaskedMLP
from zuko.transforms import MonotonicRQSTransform

from src.models.distributions import bounded, full_precision
from src.utils.errors import UserError

# exp(±1.5) a block at most: what a chain of many blocks can stretch stays within floating point.
MAX_LOG_SCALE = 1.5
# Of a spline, which is no steeper than its reciprocal either: single precision can still solve it for its argument.
MIN_SLOPE = 1e-2


class Flow(nn.Module):
    """What every flow has: x (…, D), context (…, C) or none → y (…, D) and log|det ∂y/∂x| (…).

    The batch shapes of x and context need only be broadcastable.
    """

    invertible = True

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (…, D) and log|det ∂y/∂x| (…)."""
        raise NotImplementedError

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (…, D) and log|det ∂x/∂y| (…)."""
        raise NotImplementedError(
            f"{type(self).__name__} has no inverse in closed form: its density is known at its own samples only"
        )


class ComposedFlow(Flow):
    """Flows after one another.

    Args:
        blocks: the first one first.
    """

    def __init__(self, blocks: Iterable[Flow]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if not len(self.blocks):
            raise UserError("blocks=0: a flow needs at least 1 block")

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return _in_turn(self.blocks, x, context)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        backwards: Any = reversed(self.blocks)
        return _in_turn((block.inverse for block in backwards), y, context)


def _in_turn(maps: Iterable[Any], x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    log_dets = []
    for each in maps:
        x, log_det = each(x, context)
        log_dets.append(log_det)
    return x, reduce(torch.add, log_dets)


class Inverted(Flow):
    """A flow whose two directions have changed places.

    Around an ``AutoregressiveFlow`` it makes the masked autoregressive flow (Papamakarios et al. 2017,
    arXiv:1705.07057): as a prior its density takes one pass, and a sample D.

    Args:
        flow: one that has an inverse.
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        if not flow.invertible:
            raise UserError(f"{type(flow).__name__} has no inverse, so that it cannot be inverted")
        self.flow = flow

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.flow.inverse(x, context)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.flow(y, context)


def _beside(x: Tensor, context: Tensor | None) -> Tensor:
    """x (…, D) and the context (…, C) as (…, D + C)."""
    if context is None:
        return x
    batch = torch.broadcast_shapes(x.shape[:-1], context.shape[:-1])
    return torch.cat((x.expand(*batch, -1), context.expand(*batch, -1)), -1)


def _start_small(last: nn.Linear) -> None:
    """Make what a network gives close to 0 at first: a flow that starts close to the identity."""
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)


def _check_dim(dim: int, kind: str) -> None:
    if dim < 2:
        raise UserError(f"{kind} flow needs at least 2 dimensions, not {dim}")


class AutoregressiveBlock(Flow):
    """y_i = x_i exp(s_i(x_<i)) + m_i(x_<i), |s| ≤ 1.5 by a tanh (Kingma et al. 2016, arXiv:1606.04934).

    Starts close to the identity. The masks are MADE's (Germain et al. 2015, arXiv:1502.03509), through zuko.

    Args:
        dim: D, at least 2.
        width, depth: of the masked network's hidden layers.
        reverse: let the dimensions depend on those behind them instead of those before.
        context: width of a vector that every dimension may depend on; 0 for none.
    """

    order: Tensor

    def __init__(
        self, dim: int, width: int, depth: int, reverse: bool = False, context: int = 0
    ) -> None:
        super().__init__()
        _check_dim(dim, "an autoregressive")
        order = torch.arange(dim).flip(0) if reverse else torch.arange(dim)
        self.register_buffer("order", order, persistent=False)
        before = order[:, None] > order[None]
        adjacency = torch.cat([before, torch.ones(dim, context, dtype=torch.bool)], 1)
        self.net = MaskedMLP(adjacency.repeat(2, 1), [width] * depth, nn.ELU)
        _start_small(self.net[-1])

    def _shift_and_log_scale(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        shift, raw = full_precision(self.net(_beside(x, context))).chunk(2, -1)
        return shift, bounded(raw, MAX_LOG_SCALE)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (…, D) and log|det ∂y/∂x| (…), in one pass."""
        shift, log_scale = self._shift_and_log_scale(x, context)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale.sum(-1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (…, D) and log|det ∂x/∂y| (…), in D passes: dimension after dimension becomes known."""
        x = y
        for _ in range(y.shape[-1]):
            shift, log_scale = self._shift_and_log_scale(x, context)
            x = (y - shift) * (-log_scale).exp()
        return x, -log_scale.sum(-1)


class AutoregressiveFlow(ComposedFlow):
    """Autoregressive blocks, the order of the dimensions turned round after each.

    One pass forward, D passes back.

    Args:
        dim: D.
        blocks: how many.
        width, depth: of every block's hidden layers.
        context: see ``AutoregressiveBlock``.
    """

    def __init__(
        self, dim: int, blocks: int = 2, width: int = 256, depth: int = 2, context: int = 0
    ) -> None:
        super().__init__(
            AutoregressiveBlock(dim, width, depth, reverse=i % 2 == 1, context=context)
            for i in range(blocks)
        )


class SplineBlock(Flow):
    """One half of the dimensions, each through a monotone rational-quadratic spline that the other half chooses.

    The splines are zuko's; they act on [−bound, bound] and are the identity outside.

    Args:
        dim: D, at least 2.
        bins: of every spline.
        width, depth: of the hidden layers of the network that chooses.
        bound: see above.
        reverse: move the first half instead of the second.
        context: see ``AutoregressiveBlock``.
    """

    def __init__(
        self,
        dim: int,
        bins: int,
        width: int,
        depth: int,
        bound: float,
        reverse: bool = False,
        context: int = 0,
    ) -> None:
        super().__init__()
        _check_dim(dim, "a spline coupling")
        if bins < 2 or not bound > 0:
            raise UserError(
                f"a spline needs at least 2 bins and a positive bound, not bins={bins} and bound={bound}"
            )
        self.sizes, self.reverse = (dim // 2, dim - dim // 2), reverse
        kept, moved = reversed(self.sizes) if reverse else self.sizes
        self.bins, self.bound = bins, bound
        # Inside bins two heights, widths and slopes meet, and the outermost slopes are 1.
        self.net = MLP(kept + context, moved * (3 * bins - 1), [width] * depth, nn.ELU)
        _start_small(self.net[-1])

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.sizes, -1)
        return (second, first) if self.reverse else (first, second)

    def _whole(self, kept: Tensor, moved: Tensor) -> Tensor:
        kept = kept.expand(*moved.shape[:-1], -1)  # moved also has the batch of the context
        return torch.cat((moved, kept) if self.reverse else (kept, moved), -1)

    def _splines(self, kept: Tensor, context: Tensor | None) -> Any:
        raw = full_precision(self.net(_beside(kept, context))).unflatten(
            -1, (-1, 3 * self.bins - 1)
        )
        widths, heights, slopes = raw.split((self.bins, self.bins, self.bins - 1), -1)
        return MonotonicRQSTransform(widths, heights, slopes, bound=self.bound, slope=MIN_SLOPE)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = self._halves(x)
        y, log_slope = self._splines(kept, context).call_and_ladj(moved)
        return self._whole(kept, y), log_slope.sum(-1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, moved = self._halves(y)
        splines = self._splines(kept, context)
        x = splines.inv(moved)
        return self._whole(kept, x), -splines.log_abs_det_jacobian(x, moved).sum(-1)


class SplineFlow(ComposedFlow):
    """A neural spline flow of coupling blocks (Durkan et al. 2019, arXiv:1906.04032), one pass in both directions.

    Each block moves the half of the dimensions that the last one left alone. The authors mix the dimensions between
    blocks by a learned linear map, which is left out here: halves that take turns mix them too, and the flow starts
    close to the identity. Splines act on [−bound, bound]; what lies outside stays where it is.

    Args:
        dim: D.
        blocks: how many; at least 2, so that every dimension is moved.
        bins, width, depth, bound, context: see ``SplineBlock``.
    """

    def __init__(
        self,
        dim: int,
        blocks: int = 4,
        bins: int = 8,
        width: int = 128,
        depth: int = 2,
        bound: float = 5.0,
        context: int = 0,
    ) -> None:
        super().__init__(
            SplineBlock(dim, bins, width, depth, bound, reverse=i % 2 == 1, context=context)
            for i in range(blocks)
        )


class FlowChain(nn.Module):
    """z_0 → z_1 → … → z_{T−1}, a flow of its own for every step (Chadebec & Allassonnière 2023, arXiv:2303.14220).

    Args:
        dim: D.
        length: T, frames.
        flows: how many; null for T − 1. With fewer, the last one serves the remaining steps.
        blocks, width, depth: of every flow.
    """

    def __init__(
        self,
        dim: int,
        length: int,
        flows: int | None = None,
        blocks: int = 2,
        width: int = 256,
        depth: int = 2,
    ) -> None:
        super().__init__()
        count = length - 1 if flows is None else flows
        if length < 2 or not 1 <= count < length:
            raise UserError(
                f"model.latent.chain.flows={count}: a sequence of {length} frames takes 1 to {length - 1} flows"
            )
        self.length = length
        self.flows = nn.ModuleList(
            AutoregressiveFlow(dim, blocks, width, depth) for _ in range(count)
        )

    def _flow(self, step: int) -> Any:
        return self.flows[min(step, len(self.flows) - 1)]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z_0 (…, D) → z (…, T, D) and log|det ∂z_{t+1}/∂z_t| (…, T−1)."""
        states, log_dets = [z], []
        for step in range(self.length - 1):
            z, log_det = self._flow(step)(z)
            states.append(z)
            log_dets.append(log_det)
        return torch.stack(states, -2), torch.stack(log_dets, -1)

    def back(self, z: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """z_step (…, D) → z_0 (…, D) and log|det ∂z_0/∂z_step| (…), by the exact inverses."""
        total = z.new_zeros(z.shape[:-1])
        for earlier in reversed(range(step)):
            z, log_det = self._flow(earlier).inverse(z)
            total = total + log_det
        return z, total
