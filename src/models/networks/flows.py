"""Autoregressive flows whose cheap direction is the one that is used: one pass forward, D passes back."""

from typing import Any

import torch
from torch import Tensor, nn
from zuko.nn import MaskedMLP

from src.models.distributions import bounded, full_precision
from src.utils.errors import UserError

# exp(±1.5) a block at most: what a chain of many blocks can stretch stays within floating point.
MAX_LOG_SCALE = 1.5


class AutoregressiveBlock(nn.Module):
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
        if dim < 2:
            raise UserError(f"an autoregressive flow needs at least 2 dimensions, not {dim}")
        order = torch.arange(dim).flip(0) if reverse else torch.arange(dim)
        self.register_buffer("order", order, persistent=False)
        before = order[:, None] > order[None]
        adjacency = torch.cat([before, torch.ones(dim, context, dtype=torch.bool)], 1)
        self.net = MaskedMLP(adjacency.repeat(2, 1), [width] * depth, nn.ELU)
        last = self.net[-1]
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    def _shift_and_log_scale(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if context is not None:
            batch = torch.broadcast_shapes(x.shape[:-1], context.shape[:-1])
            parts = x.expand(*batch, -1), context.expand(*batch, -1)
            x = torch.cat(parts, -1)
        shift, raw = full_precision(self.net(x)).chunk(2, -1)
        return shift, bounded(raw, MAX_LOG_SCALE)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (…, D) and log|det ∂y/∂x| (…), in one pass."""
        shift, log_scale = self._shift_and_log_scale(x, context)
        return x * log_scale.exp() + shift, log_scale.sum(-1)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (…, D) and log|det ∂x/∂y| (…), in D passes: dimension after dimension becomes known."""
        x = y
        for _ in range(y.shape[-1]):
            shift, log_scale = self._shift_and_log_scale(x, context)
            x = (y - shift) * (-log_scale).exp()
        return x, -log_scale.sum(-1)


class AutoregressiveFlow(nn.Module):
    """Blocks after one another, the order of the dimensions turned round after each.

    Args:
        dim: D.
        blocks: how many.
        width, depth: of every block's hidden layers.
        context: see ``AutoregressiveBlock``.
    """

    def __init__(
        self, dim: int, blocks: int = 2, width: int = 256, depth: int = 2, context: int = 0
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            AutoregressiveBlock(dim, width, depth, reverse=i % 2 == 1, context=context)
            for i in range(blocks)
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (…, D) and log|det ∂y/∂x| (…)."""
        total = x.new_zeros(x.shape[:-1])
        for block in self.blocks:
            x, log_det = block(x, context)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (…, D) and log|det ∂x/∂y| (…)."""
        total = y.new_zeros(y.shape[:-1])
        for block in reversed(self.blocks):
            undo: Any = block.inverse
            y, log_det = undo(y, context)
            total = total + log_det
        return y, total


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
