"""``metrics.jsonl``: the run's own log, always written."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from src.runs.record import METRICS_FILE, finite


class RunLogger(Logger):
    """Appends one JSON object for every logged step: step, epoch, time (seconds since 1970) and metrics.

    Args:
        directory: the run's directory.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / METRICS_FILE
        self._complete = not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        epoch = metrics.pop("epoch", None)
        row = {
            "step": step,
            "epoch": epoch,
            "time": time.time(),
            "metrics": finite({k: float(v) for k, v in metrics.items()}),
        }
        start = (
            "" if self._complete else "\n"
        )  # after a line that a killed process left half-written
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(start + json.dumps(row) + "\n")
        self._complete = True

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml holds them."""
