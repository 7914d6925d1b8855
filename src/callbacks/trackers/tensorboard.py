"""TensorBoard, with hyperparameters that its HPARAMS tab can compare runs by."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from src.callbacks.trackers.dialect import Dialect, results_table
from src.callbacks.trackers.facts import RunFacts


class TensorBoardRunLogger(Dialect, TensorBoardLogger):
    """TensorBoard in the run's directory. It shows pictures and text; pages that move it cannot.

    The HPARAMS tab takes the choices of the command line or the sweep from here, and the metrics from the scalars.

    Args:
        save_dir: the run's directory.
        kwargs: of Lightning's ``TensorBoardLogger``.
    """

    def __init__(self, save_dir: str, **kwargs: Any) -> None:
        super().__init__(save_dir=save_dir, **kwargs)

    def start(self, facts: RunFacts) -> None:
        from torch.utils.tensorboard.summary import hparams

        # Not Lightning's, which writes the whole config and a metric named hp_metric that nothing measures. No
        # experiment either: of several the tab believes the first, and without one it compares all runs it finds.
        _, session_start, _ = hparams(facts.asked, {})
        self.experiment._get_file_writer().add_summary(session_start)
        self.hparams = facts.config
        self.save()

    def log_figure(self, key: str, path: Path, step: int) -> None:
        from matplotlib.image import imread

        if path.suffix == ".png":
            self.experiment.add_image(key, imread(path), step, dataformats="HWC")

    def log_results(self, results: dict[str, Any], step: int) -> None:
        columns, rows = results_table(results)
        lines = [columns, ["---"] * len(columns), *rows]
        cells = [["" if cell is None else _text(cell) for cell in line] for line in lines]
        self.experiment.add_text("results", "\n".join(f"| {' | '.join(c)} |" for c in cells), step)

    def end(self, status: str) -> None:
        from torch.utils.tensorboard.summary import hparams

        # TensorBoard believes the first end it reads, and a run that failed or was stopped may go on later.
        if status == "finished":
            *_, session_end = hparams({}, {})
            self.experiment._get_file_writer().add_summary(session_end)
        self.finalize("success")


def _text(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
