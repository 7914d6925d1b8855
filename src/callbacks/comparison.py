"""What a multirun ends with: its runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.experimental.callback import Callback


class CompareRuns(Callback):
    """Writes ``comparison/table.md`` and pictures into the directory of a multirun when its last job has ended.

    It is one of Hydra's callbacks (``hydra.callbacks`` in an experiment file), not one of the trainer's.

    Args:
        metrics, pictures, rows: see ``src.evaluation.comparing.run_report.write_comparison``.
    """

    def __init__(
        self,
        metrics: Sequence[str] | None = None,
        pictures: int = 2,
        rows: Literal["metrics", "models"] = "metrics",
    ) -> None:
        self.metrics, self.pictures, self.rows = metrics, pictures, rows

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        # Hydra makes this object to compose a config, which is to be quick.
        from src.evaluation.comparing.run_report import write_comparison

        runs = Path(config.hydra.sweep.dir)
        metrics = None if self.metrics is None else list(self.metrics)
        for file in write_comparison(
            str(runs), str(runs / "comparison"), metrics, self.pictures, self.rows
        ):
            print(file)
