"""Figures while a model trains and when it has been tested."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure

from src.callbacks.trackers import trackers
from src.evaluation import figures
from src.evaluation.animations import save_html
from src.evaluation.figure_sets import Level, check_level, figure_set
from src.runs.reading import Run
from src.utils.seeding import isolated_rng


class Figures(Callback):
    """Writes figures into the run and to every tracker that shows them.

    During training they show validation data, at the end the test data with the tested weights.

    Args:
        directory: the run's directory.
        every_n_epochs: how often during training; 0 for the end only.
        level: minimal, standard or full; see ``figure_set``.
    """

    def __init__(self, directory: str, every_n_epochs: int = 0, level: Level = "standard") -> None:
        check_level(level)
        self.directory, self.every_n_epochs, self.level = Path(directory), every_n_epochs, level

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._write(trainer, pl_module, "val", f"_epoch_{trainer.current_epoch + 1:04d}")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module, "test", "")

    def _write(self, trainer: Trainer, pl_module: LightningModule, split: str, suffix: str) -> None:
        if not trainer.is_global_zero:
            return
        folder = self.directory / "figures"
        folder.mkdir(exist_ok=True)
        was_training = pl_module.training
        pl_module.eval()
        with torch.no_grad(), isolated_rng(0, pl_module.device):
            for name, figure in self._figures(trainer.datamodule, pl_module, split):  # type: ignore[attr-defined]
                if isinstance(figure, Figure):
                    path = folder / f"{name}{suffix}.png"
                    figure.savefig(path, dpi=110)
                else:
                    path = folder / f"{name}{suffix}.html"
                    save_html(figure, path)
                    if split != "test":  # a page takes megabytes: trackers get the last ones
                        continue
                for tracker in trackers(trainer):
                    tracker.log_figure(f"figures/{name}", path, trainer.global_step)
        pl_module.train(was_training)

    def _figures(self, data: Any, model: Any, split: str) -> Iterator[tuple[str, Any]]:
        yield from figure_set(model, data, split, self.level)
        terms = figures.POSE_CURVES if data.value_range == "rotation" else figures.CURVES
        curves = figures.loss_curves(Run(self.directory, "", {}).metrics(), terms)
        if curves is not None:
            yield "loss_curves", curves
