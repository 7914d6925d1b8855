"""Trackers that need a word more than Lightning's own wrappers give them."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from src.utils.errors import UserError


class WandbRunLogger(WandbLogger):
    """W&B with everything it writes kept inside the run, and an id that a resumed run has again.

    Args:
        save_dir: the run's directory.
        offline: write files only; ``wandb sync`` sends them later.
        id: of the W&B run; made from the directory where none is given.
        kwargs: of ``wandb.init``: project, name, group, tags, …
    """

    def __init__(
        self, save_dir: str, offline: bool = True, id: str | None = None, **kwargs: Any
    ) -> None:
        folder = Path(save_dir).absolute()
        for name in ("CACHE", "CONFIG", "DATA"):
            os.environ[f"WANDB_{name}_DIR"] = str(folder / "wandb")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        own_id = id or hashlib.sha1(str(folder).encode()).hexdigest()[:12]
        super().__init__(
            save_dir=str(folder),
            offline=offline,
            id=own_id,
            resume=None if offline else "allow",
            **kwargs,
        )


class MLflowRunLogger(MLFlowLogger):
    """MLflow, with one sentence where it is not installed.

    Args:
        kwargs: of Lightning's ``MLFlowLogger``.
    """

    def __init__(self, **kwargs: Any) -> None:
        try:
            import mlflow  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(
                "logger=mlflow needs MLflow: pip install -c constraints.txt -e .[mlflow]"
            ) from error
        super().__init__(**kwargs)


def close(loggers: Iterable[Logger], failed: bool) -> None:
    """End the trackers' runs, so that the next job of a sweep starts its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger.experiment.finish(exit_code=int(failed))
