"""Reasons to end a fit: a broken loss, a reached threshold."""

import logging
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from src.utils.errors import UserError, nearest

log = logging.getLogger(__name__)


class StopOnNaN(Callback):
    """Ends the run when the loss is NaN or infinite, before a checkpoint of the broken weights is written.

    The device is asked once a logging interval and at the end of an epoch, never in a step.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch:  # type: ignore[attr-defined]
            self._check(trainer, torch.isfinite(outputs["loss"]))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        floats = [
            tensor for tensor in checkpoint["state_dict"].values() if tensor.is_floating_point()
        ]
        # Of a sharded model only the first process has the state.
        finite = [torch.isfinite(tensor).all() for tensor in floats] or [torch.tensor(True)]
        self._check(trainer, torch.stack(finite).all())

    def _check(self, trainer: Trainer, finite: torch.Tensor) -> None:
        good = bool(finite)
        if trainer.world_size > 1:
            good = trainer.strategy.reduce_boolean_decision(good, all=True)
        if not good:
            raise UserError(
                f"the loss is not finite at step {trainer.global_step}; the last good checkpoint is kept. "
                "A lower model.optimizer.lr or trainer.gradient_clip_val=1 often helps"
            )


class StopAtThreshold(Callback):
    """Ends the fit, as finished, when a validation metric reaches a value.

    Args:
        monitor: the metric's name.
        threshold: the value; None turns it off.
        mode: ``min`` when lower is better.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        threshold: float | None = None,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        self.monitor, self.threshold, self.mode = monitor, threshold, mode

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.threshold is None or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            raise UserError(
                f"callbacks.threshold.monitor='{self.monitor}' is not "
                f"logged{nearest(self.monitor, trainer.callback_metrics)}"
            )
        value = float(trainer.callback_metrics[self.monitor])
        if value <= self.threshold if self.mode == "min" else value >= self.threshold:
            log.info("%s = %.6g has reached %.6g: done", self.monitor, value, self.threshold)
            trainer.should_stop = True
