"""What changes over a training: weights of the objective, the temperature of relaxed codes."""

from math import ceil, cos, pi
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from src.utils.errors import UserError

Shape = Literal["linear", "cosine", "cyclical"]
Unit = Literal["epoch", "step"]


def progress(trainer: Trainer, unit: Unit) -> float:
    """The optimiser's steps so far, in ``unit``s: it follows from the step alone, so a resumed run goes on exactly."""
    an_epoch = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return trainer.global_step / (1 if unit == "step" else an_epoch)


class ScheduleWeight(Callback):
    """Raises a weight of the objective from 0 to its target; evaluation always uses the target.

    ``linear`` and ``cosine`` reach the target after ``duration`` and stay there (KL warm-up: Bowman et al. 2016,
    arXiv:1511.06349). ``cyclical`` starts again every ``duration``, rising linearly over the first half of each
    cycle (Fu et al. 2019, arXiv:1903.10145). A resumed run goes on exactly.

    Args:
        weight: a weight of the objective: ``kl``, ``capacity``, ``total_correlation``, ``mmd``, …
        duration: in ``unit``s; 0 leaves the weight at its target.
        shape: see above.
        unit: epoch or step.
    """

    def __init__(
        self,
        weight: str = "kl",
        duration: float = 0,
        shape: Shape = "linear",
        unit: Unit = "epoch",
    ) -> None:
        if shape not in ("linear", "cosine", "cyclical") or unit not in ("epoch", "step"):
            raise UserError(
                f"a schedule is linear, cosine or cyclical in epochs or steps, not '{shape}' in '{unit}s'"
            )
        if duration < 0:
            raise UserError(
                f"the duration of the schedule of '{weight}' is {duration}; it cannot be negative"
            )
        self.weight, self.duration, self.shape, self.unit = weight, duration, shape, unit

    def fraction(self, progress: float) -> float:
        """The part of the target in force after ``progress`` units."""
        if self.duration == 0:
            return 1.0
        t = progress / self.duration
        if self.shape == "cyclical":
            return min(2 * (t % 1.0), 1.0)
        t = min(t, 1.0)
        return t if self.shape == "linear" else (1 - cos(pi * t)) / 2

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        objective: Any = pl_module.objective
        if self.duration and self.weight not in objective.target:
            objective.set_weight(self.weight, 1.0)  # says which there are

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.duration:
            objective: Any = pl_module.objective
            objective.set_weight(self.weight, self.fraction(progress(trainer, self.unit)))


class AnnealTemperature(Callback):
    """Lowers the temperature of the posterior's relaxed samples, τ = start · (end/start)^t (Jang et al. 2017,
    arXiv:1611.01144), where t goes from 0 to 1 over ``duration`` and stays there. A resumed run goes on exactly.

    Args:
        start, end: temperatures.
        duration: in ``unit``s; None for the whole training.
        unit: epoch or step.
    """

    def __init__(
        self,
        start: float = 1.0,
        end: float = 0.5,
        duration: float | None = None,
        unit: Unit = "epoch",
    ) -> None:
        if not (start > 0 and end > 0) or (duration is not None and not duration > 0):
            raise UserError(
                f"callbacks.temperature: start={start}, end={end} and a duration={duration} must be positive"
            )
        if unit not in ("epoch", "step"):
            raise UserError(f"callbacks.temperature.unit='{unit}' is unknown; choices: epoch, step")
        self.start, self.end, self.duration, self.unit = start, end, duration, unit

    def temperature(self, t: float) -> float:
        """τ after the part t of the duration."""
        return self.start * (self.end / self.start) ** min(t, 1.0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not getattr(_posterior(pl_module), "relaxed", False):
            raise UserError(
                "callbacks.temperature needs a posterior with relaxed samples, model/posterior=gumbel; leave the "
                "callback out with callbacks.temperature=null"
            )
        if self.duration is None and trainer.estimated_stepping_batches == float("inf"):
            raise UserError(
                "callbacks.temperature.duration=null is the whole training, and trainer.max_epochs sets no end"
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.duration is None:
            t = trainer.global_step / trainer.estimated_stepping_batches
        else:
            t = progress(trainer, self.unit) / self.duration
        _posterior(pl_module).temperature.fill_(self.temperature(t))


def _posterior(pl_module: Any) -> Any:
    return pl_module.latent.posterior
