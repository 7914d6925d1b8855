"""Which checkpoints a run keeps, under the names that DESIGN.md section 6 promises."""

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class BestAndLast(ModelCheckpoint):
    """``best.ckpt`` by a validation metric, and ``last.ckpt`` at the end of every epoch.

    Args:
        directory: the run's directory.
        monitor: the metric; mode: ``min`` when lower is better.
    """

    def __init__(self, directory: str, monitor: str = "val/loss", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(
            dirpath=Path(directory) / "checkpoints",
            filename="best",
            monitor=monitor,
            mode=mode,
            save_last=True,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )


class Periodic(ModelCheckpoint):
    """``epoch_0010.ckpt`` and so on, all of them kept.

    Args:
        directory: the run's directory.
        every_n_epochs: 0 for none.
    """

    def __init__(self, directory: str, every_n_epochs: int = 0) -> None:
        super().__init__(
            dirpath=Path(directory) / "checkpoints",
            filename="epoch_{epoch:04d}",
            auto_insert_metric_name=False,
            save_top_k=-1 if every_n_epochs else 0,
            every_n_epochs=every_n_epochs or 1,
            save_on_train_epoch_end=True,
        )
