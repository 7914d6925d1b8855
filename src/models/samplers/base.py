"""What every sampler shares, and how one is fitted by gradient descent. Letters: N data points, D latent dimensions."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from src.utils.errors import UserError

HELD_OUT = 0.1


class Sampler(nn.Module):
    """A density of the codes, fitted after a training and sampled from in the prior's place.

    A subclass has ``_fit``, ``sample`` and, where its density is known, ``log_prob``.
    """

    support: str | None = "euclidean"  # of its samples; None for wherever the codes lie
    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def borrow_latent(self, latent: Any) -> None:
        """Look at the codes' space; a subclass that needs more of the latent keeps it.

        Raises:
            UserError: the codes are no single vectors, depend on a label, or lie in another space.
        """
        own = getattr(latent.posterior, "support", "euclidean")
        if not latent.one_vector or latent.condition_key is not None:
            raise UserError(
                f"a sampler is a density of one vector a data point that depends on nothing, which the codes of "
                f"{type(latent).__name__} are not; leave it out with sampler@model.sampler=none"
            )
        if self.support not in (None, own):
            raise UserError(
                f"this sampler is a density in the space '{self.support}', and the codes lie in '{own}'"
            )

    @property
    def is_fitted(self) -> bool:
        """Whether there is anything to sample from."""
        return bool(self.fitted)

    def fit(self, z: Tensor, x: Tensor) -> dict[str, float]:
        """Fit to codes z (N, D) of the data x (N, *shape); says how well on a tenth held out, such as ``nll`` in nats.

        Where the fit is by gradient, that tenth has also chosen the epoch.

        Raises:
            UserError: the codes are no vectors, or too few.
        """
        if z.dim() != 2 or len(z) < 20:
            raise UserError(
                f"a sampler is fitted to 20 codes or more, one vector each, not to {tuple(z.shape)}"
            )
        # Outside of this the parameters are none of the model's training.
        self.requires_grad_(True)
        with torch.enable_grad():
            found = self._fit(z, x)
        self.requires_grad_(False)
        self.fitted.fill_(True)
        return found

    def _fit(self, z: Tensor, x: Tensor) -> dict[str, float]:
        raise NotImplementedError

    def sample(self, n: int) -> Tensor:
        """n codes, (n, D)."""
        raise NotImplementedError

    def log_prob(self, z: Tensor) -> Tensor:
        """log density of codes (n, D), (n,) nats."""
        raise NotImplementedError(f"{type(self).__name__} has no density of its own to evaluate")

    def _ask(self) -> None:
        if not self.is_fitted:
            raise NotImplementedError(
                "this model's sampler is fitted after its training, before the test"
            )


class LearnedSampler(Sampler):
    """Base of the samplers that learn by gradient descent; the epoch that is best on held-out codes is kept.

    Args:
        epochs, batch_size, lr: of Adam.
    """

    def __init__(self, epochs: int, batch_size: int, lr: float) -> None:
        super().__init__()
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr

    def learn(self, module: nn.Module, loss: Callable[[Tensor], Tensor], data: Tensor) -> float:
        """``fit_by_gradient`` with the sampler's settings."""
        return fit_by_gradient(module, loss, data, self.epochs, self.batch_size, self.lr)


class WhitenedSampler(LearnedSampler):
    """Base of those that learn codes by (z − mean)/σ of every dimension, so that any scale of z will do.

    Args:
        dim: D.
        settings: of ``LearnedSampler``.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def measure(self, z: Tensor) -> None:
        """Take mean and σ from codes (N, D)."""
        self.mean.copy_(z.mean(0))
        self.scale.copy_(z.std(0).clamp_min(1e-6))

    def white(self, z: Tensor) -> Tensor:
        """(z − mean)/σ."""
        return (z - self.mean) / self.scale

    def coloured(self, white: Tensor) -> Tensor:
        """What ``white`` undoes."""
        return white * self.scale + self.mean


def fit_by_gradient(
    module: nn.Module,
    loss: Callable[[Tensor], Tensor],
    data: Tensor,
    epochs: int,
    batch_size: int,
    lr: float,
) -> float:
    """Minimise the mean of ``loss(rows)`` by Adam and keep what was best on the tenth that is held out.

    Args:
        module: what learns.
        loss: rows of ``data`` → (n,).
        data: (N, …).

    Returns:
        The mean loss of the held-out rows.
    """
    order = torch.randperm(len(data), device=data.device)
    held, rows = order.tensor_split([max(1, int(HELD_OUT * len(order)))])

    def score() -> float:
        module.eval()
        with torch.no_grad():
            return float(loss(data[held]).mean())

    best, state = score(), deepcopy(module.state_dict())
    if not [*module.parameters()]:
        return best
    optimizer = torch.optim.Adam(module.parameters(), lr)
    for _ in range(epochs):
        module.train()
        for batch in rows[torch.randperm(len(rows), device=rows.device)].split(batch_size):
            found = loss(data[batch]).mean()
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
        if (now := score()) < best:
            best, state = now, deepcopy(module.state_dict())
    module.load_state_dict(state)
    return best
