"""The test of a trained model, written where people and programs look for it."""

import logging
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from src.callbacks.trackers import trackers
from src.evaluation.features import Features
from src.evaluation.metrics import trained_parameters
from src.evaluation.pose_report import COMPARED
from src.evaluation.report import (
    BASELINE_ELEMENTS,
    BASELINE_ROWS,
    batch_sums,
    finish_sums,
    summarise,
)
from src.evaluation.results import Compared, Report, table_width
from src.runs.reading import Run
from src.runs.record import RESULTS_FILE, write_atomic, write_json
from src.utils.seeding import isolated_rng

log = logging.getLogger(__name__)
# What results.json tells, for people.
METRICS_TEXT = "metrics.txt"


class TestReport(Callback):
    """Adds to the test metrics what costs more than a validation, and writes ``results.json`` and a table.

    Args:
        directory: the run's directory.
        k: importance samples of the NLL.
        extra: further facts for ``results.json``, such as the checkpoint tested.
        features: what samples of pictures are compared by; None leaves their metrics out.
        run: the run's directory, where the results go elsewhere.
    """

    def __init__(
        self,
        directory: Path,
        k: int = 64,
        extra: dict[str, Any] | None = None,
        features: Features | None = None,
        run: Path | None = None,
    ) -> None:
        self.directory, self.k, self.extra = directory, k, extra or {}
        self.features, self.run = features, run or directory
        self.report: Report | None = None
        self._sums: dict[str, Tensor] = {}

    @property
    def values(self) -> dict[str, float]:
        """What was measured, under the names of ``results.json``; empty before a test."""
        return {f"test/{k}": v for k, v in self.report.values.items()} if self.report else {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._sums = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        background = trainer.datamodule.background  # type: ignore[attr-defined]
        for name, value in batch_sums(pl_module, batch, self.k, background).items():  # type: ignore[arg-type]
            self._sums[name] = (
                self._sums.get(name, torch.zeros((), dtype=torch.float64, device=value.device))
                + value.double()
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sums = {
            name: float(trainer.strategy.reduce(total, reduce_op="sum"))
            for name, total in self._sums.items()
        }
        values = {
            name.removeprefix("test/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("test/")
        }
        values |= finish_sums({name: total / values["num_samples"] for name, total in sums.items()})
        if not trainer.is_global_zero:
            return
        model: Any = pl_module
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rows = min(BASELINE_ROWS, BASELINE_ELEMENTS // prod(data.shape))
        rotations = data.value_range == "rotation"
        counts = COMPARED if rotations else dict.fromkeys(("train", "test"), rows)
        chosen = {split: data.spread(split, count) for split, count in counts.items()}
        train, test = (data.rows(split, chosen[split]) for split in chosen)
        labels, factors = _both(data.labels, chosen), _both(data.factors, chosen)
        compared = Compared(
            train, test, labels, factors, data.background, data.baseline_components, rotations
        )
        fit = None
        if self.features is not None and data.kind == "image":
            fit = partial(self.features.fit, train, test, labels, self.run)
        with isolated_rng(0):
            self.report = summarise(model, values, compared, fit)
        facts = {
            "importance_samples": self.k,
            "baseline_rows": [len(train), len(test)],
            "parameters": trained_parameters(model),
            "epoch_seconds": epoch_seconds(self.run),
        }
        content = self.report.as_dict() | facts | self.extra
        write_json(self.directory / RESULTS_FILE, content)
        # The same numbers go to every logger under the same names.
        for logger in trainer.loggers:
            logger.log_metrics(self.values, step=trainer.global_step)
        for tracker in trackers(trainer):
            tracker.log_results(content, trainer.global_step)
        title = f"{data.name}: {values['num_samples']:.0f} test samples"
        write_atomic(self.directory / METRICS_TEXT, self.report.text(title))
        for table in self.report.tables(title):
            Console(width=max(Console().width, table_width(table))).print(table)
        for warning in self.report.warnings:
            log.warning(warning)


def epoch_seconds(directory: Path) -> float | None:
    """The median time from the end of one epoch to the end of the next, validation included, as a run has logged it.

    Not the mean, in which the one epoch that a run was paused or resumed in would count for hours.

    Returns:
        Seconds; None before there are two epochs.
    """
    ends: dict[int, float] = {}
    for row in Run(directory, "", {}).metrics():
        stages = {name.partition("/")[0] for name in row["metrics"]}
        if row["epoch"] is not None and stages & {"train", "val"}:
            ends[row["epoch"]] = row["time"]
    gaps = [ends[b] - ends[a] for a, b in pairwise(sorted(ends)) if b == a + 1]
    return median(gaps) if gaps else None


def _both(
    column: Callable[[str], Tensor | None], chosen: dict[str, Tensor]
) -> tuple[Tensor, Tensor] | None:
    """Chosen rows of a column of train and test; None where the data has no such column."""
    train, test = column("train"), column("test")
    if train is None or test is None:
        return None
    return train[chosen["train"]], test[chosen["test"]]
