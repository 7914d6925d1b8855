"""Which checkpoints a run keeps, under the names that DESIGN.md section 6 promises."""

import io
import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its name and then renames it.

    Lightning's own writer goes through the system's temporary folder and copies from there when that is another
    file system, so that a kill or a full disk in the middle would leave half a checkpoint under the good name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        goal = Path(path)
        goal.parent.mkdir(parents=True, exist_ok=True)
        temporary = goal.with_name(f".{goal.name}.tmp")
        # torch.save into a file reports a full disk as a RuntimeError about positions.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            with open(temporary, "wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, goal)
        finally:
            temporary.unlink(missing_ok=True)


class BestAndLast(ModelCheckpoint):
    """``best.ckpt`` by a validation metric, and ``last.ckpt`` at the end of every epoch.

    Args:
        directory: the run's directory.
        monitor: the metric; mode: ``min`` when lower is better.
    """

    def __init__(
        self, directory: str, monitor: str = "val/loss", mode: Literal["min", "max"] = "min"
    ) -> None:
        super().__init__(
            dirpath=Path(directory) / "checkpoints",
            filename="best",
            monitor=monitor,
            mode=mode,
            save_last=True,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        # Lightning writes last.ckpt only together with a new best one; a kill would cost all epochs since then.
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    on_train_batch_end = Callback.on_train_batch_end  # it saves where epochs end


class Periodic(Callback):
    """``epoch_0010.ckpt`` and so on, numbered by the epochs completed, all of them kept.

    Args:
        directory: the run's directory.
        every_n_epochs: 0 for none.
    """

    def __init__(self, directory: str, every_n_epochs: int = 0) -> None:
        self.folder, self.every_n_epochs = Path(directory) / "checkpoints", every_n_epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        completed = trainer.current_epoch + 1
        if self.every_n_epochs and completed % self.every_n_epochs == 0:
            trainer.save_checkpoint(self.folder / f"epoch_{completed:04d}.ckpt")
