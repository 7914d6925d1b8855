"""Weights of the objective over time."""

from math import ceil, cos, pi
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from src.utils.errors import UserError

Shape = Literal["linear", "cosine", "cyclical"]


class ScheduleWeight(Callback):
    """Raises a weight of the objective from 0 to its target; evaluation always uses the target.

    ``linear`` and ``cosine`` reach the target after ``duration`` and stay there (KL warm-up: Bowman et al. 2016,
    arXiv:1511.06349). ``cyclical`` starts again every ``duration``, rising linearly over the first half of each
    cycle (Fu et al. 2019, arXiv:1903.10145). The value follows from the step alone, so a resumed run goes on exactly.

    Args:
        weight: a weight of the objective: ``kl`` or ``capacity`` of the ELBO.
        duration: in ``unit``s; 0 leaves the weight at its target.
        shape: see above.
        unit: epoch or step.
    """

    def __init__(
        self,
        weight: str = "kl",
        duration: float = 0,
        shape: Shape = "linear",
        unit: Literal["epoch", "step"] = "epoch",
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

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.duration:
            an_epoch = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
            progress = trainer.global_step / (1 if self.unit == "step" else an_epoch)
            objective: Any = pl_module.objective
            objective.set_weight(self.weight, self.fraction(progress))
