"""How a fit tells a person how far it is."""

import logging
import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

log = logging.getLogger(__name__)
SHOWN = ("train/loss", "val/loss", "val/mse")


class TerminalBar(RichProgressBar):
    """Lightning's rich bar where stdout is a terminal; it looks at its metrics only when it redraws.

    Args:
        refresh_rate: batches between two redraws.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=False)
        if not sys.stdout.isatty():
            self.disable()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.is_enabled and ((batch_idx + 1) % self.refresh_rate == 0 or trainer.is_last_batch):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = {
            name: f"{float(trainer.callback_metrics[name]):.4g}"
            for name in SHOWN
            if name in trainer.callback_metrics
        }
        return super().get_metrics(trainer, pl_module) | shown


class ProgressLines(Callback):
    """One line now and then where stdout is no terminal: a file, a SLURM log.

    Args:
        every_s: least seconds between two lines.
    """

    def __init__(self, every_s: float = 10.0) -> None:
        self.every_s = every_s
        self._last = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if (
            sys.stdout.isatty()
            or not trainer.is_global_zero
            or (time.monotonic() - self._last < self.every_s and not last)
        ):
            return
        self._last = time.monotonic()
        shown = [
            f"{name} {float(trainer.callback_metrics[name]):.4g}"
            for name in SHOWN
            if name in trainer.callback_metrics
        ]
        log.info(
            "epoch %s, step %s: %s",
            _of(trainer.current_epoch + 1, trainer.max_epochs),
            _of(trainer.global_step, trainer.max_steps),
            ", ".join(shown),
        )


def _of(count: int, limit: int | None) -> str:
    """``3 of 10``, or ``3`` where nothing limits it."""
    return f"{count} of {limit}" if limit is not None and limit > 0 else str(count)
