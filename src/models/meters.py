"""Sums kept on the device, so that a step never waits for the host."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from src.models.distributions import divergence_at_mean
from src.models.draw import Draw
from src.models.objectives import Objective, Terms

if TYPE_CHECKING:
    from src.models.vae import VAE

ACTIVE_VARIANCE = 0.01


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of the global mean squared error, in dB for a peak of 1."""
    return -10 * mse.log10()


def bounds_likelihood(model: "VAE") -> bool:
    """Whether log p(x) has a bound that means something: parts that give one, and an objective that teaches it."""
    learned = model.objective.teaches_likelihood and not model.latent.likelihood.pseudo
    return learned and model.latent.has_bound


class TermWindow:
    """The mean of the loss and of every term over the training steps since it was last read."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows: list[Tensor] = []
        self.total: Tensor | float = 0.0
        self.steps = 0

    def add(self, reported: dict[str, Tensor]) -> None:
        """Count one step. The values are kept as they are and added up later, many at a time."""
        self.names = [*reported]
        self.rows += [value.detach() for value in reported.values()]
        self.steps += 1
        if self.steps % 100 == 0:
            self._sum()

    def _sum(self) -> None:
        if self.rows:
            self.total = self.total + torch.stack(self.rows).view(-1, len(self.names)).sum(0)
            self.rows = []

    def pop(self) -> dict[str, Tensor]:
        """The means, and start again."""
        if not self.steps:
            return {}
        self._sum()
        means = dict(zip(self.names, self.total / self.steps, strict=True))  # type: ignore[arg-type]
        self.total, self.steps = 0.0, 0
        return means

    def log(self, trainer: Any, objective: Objective, epoch: int) -> None:
        """Give the means over all processes, and the weights in force, to callbacks and loggers; start again."""
        found = self.pop()
        means = trainer.strategy.reduce(torch.stack([*found.values()]), reduce_op="mean")
        names = [f"train/{name}" for name in found]
        weights = {f"train/weight_{name}": w for name, w in objective.current.items()}
        trainer.callback_metrics.update(zip(names, means, strict=True))
        trainer.callback_metrics.update({name: w.clone() for name, w in weights.items()})
        # Not self.log: it takes a millisecond, and drops what does not fall on a multiple of log_every_n_steps.
        row = dict(zip(names, means.tolist(), strict=True))
        row |= {name: float(w) for name, w in weights.items()}
        for logger in trainer.loggers:
            logger.log_metrics(
                {**row, "epoch": epoch}, step=trainer.fit_loop.epoch_loop._batches_that_stepped
            )


class EvaluationSums:
    """Per-sample sums of an evaluation epoch; every sample counts once whatever the batch it came in."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, model: "VAE", draw: Draw, terms: Terms) -> None:
        """Count one batch."""
        x, n = draw.x, len(draw.x)
        mean = draw.q.mean.double()
        decoded = model.latent.decode(draw.q.mean, draw.c)
        rows = {name: value.sum() for name, value in terms.values.items()}
        if "kl" in rows and bounds_likelihood(model):  # whatever the loss makes of the two
            rows["elbo"] = -rows["recon_nll"] - rows["kl"]
        if model.latent.has_bound and draw.p is not None:
            rows["energy_mean"] = (divergence_at_mean(draw.q, draw.p) - decoded.log_prob(x)).sum()
        found = model.latent.diagnostics(x, draw.q.mean, decoded.mean)
        found |= model.latent.likelihood.errors(x, decoded)
        rows |= {name: value.sum() for name, value in found.items()}
        rows |= {
            "loss": terms.loss * n,
            "mean": mean.sum(0),
            "square": mean.square().sum(0),
            "num_samples": torch.tensor(float(n), device=x.device),
        }
        for name, value in rows.items():
            value = value.double()
            self.totals[name] = self.totals[name] + value if name in self.totals else value

    def pop(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """The means over all samples of all processes, and start again.

        Args:
            reduce: sums a tensor over the processes.
        """
        totals = {name: reduce(total) for name, total in self.totals.items()}
        self.totals = {}
        n = totals.pop("num_samples")
        mean, square = totals.pop("mean") / n, totals.pop("square") / n
        means = {name: (total / n).float() for name, total in totals.items()}
        # Active units: Burda et al. 2016, arXiv:1509.00519, appendix C.
        active = (square - mean.square() > ACTIVE_VARIANCE).sum().float()
        if "pixel_accuracy" in means:  # pictures, which have a peak of 1
            means["psnr"] = psnr(means["mse"])
        return means | {"active_units": active, "num_samples": n.float()}
