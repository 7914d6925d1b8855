"""One experiment from its config to its results, and the record of how it ended."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

from src.callbacks.report import TestReport
from src.callbacks.run_logger import RunLogger
from src.callbacks.run_state import RunState, RunStopped
from src.models.compat import check_data
from src.runs.loading import check_state, read_checkpoint, save_model
from src.runs.reading import ALIVE, read_run
from src.runs.record import CONFIG_FILE, RUN_FILE, RunRecord, write_atomic
from src.utils.build import build, build_each, check_signatures
from src.utils.ddp import many_processes
from src.utils.errors import UserError, nearest
from src.utils.main import data_configs

log = logging.getLogger(__name__)
EXIT_STATUS = {"SIGINT": 130, "SIGTERM": 143}


def train(cfg: DictConfig) -> float | None:
    """Fit, test and record one experiment.

    Returns:
        The metric named by ``optimized_metric``; None when the run was stopped or names none.
    """
    directory = Path(cfg.paths.output_dir)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    checkpoint = _checked_checkpoint(cfg, directory) if first else None
    record = _start_record(cfg, directory) if first else None
    _one_line_once()
    with recorded(record), many_processes():
        if cfg.threads:
            torch.set_num_threads(cfg.threads)
        if first:
            write_atomic(directory / CONFIG_FILE, OmegaConf.to_yaml(cfg, resolve=True))
        check_data(plain["model"], plain["data"], data_configs)
        for group in ("model", "data", "trainer", "callbacks", "logger"):
            check_signatures(cfg[group], where=group)
        seed_everything(cfg.seed, workers=True, verbose=False)
        data, model = build(cfg.data), build(cfg.model)
        if checkpoint is not None:
            check_state(model, checkpoint["state_dict"], f"ckpt_path={cfg.ckpt_path}")
        report = TestReport(directory, cfg.importance_samples)
        callbacks = [*build_each(cfg.callbacks), RunState(record, directory, plain), report]
        loggers = [*build_each(cfg.logger), RunLogger(directory)]
        trainer: Trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers)
        trainer.fit(model, datamodule=data, ckpt_path=cfg.ckpt_path, weights_only=True) if cfg.train else None
        optimized = _optimized(trainer, cfg.optimized_metric)
        _test(trainer, model, data, cfg, report)
        if trainer.is_global_zero:
            save_model(model, portable(plain["model"]), directory / "model")
            log.info("the run is in %s", directory)
        return optimized


def portable(model: dict[str, Any]) -> dict[str, Any]:
    """A model's config without what only training needs, so that it names nothing but models and parts."""
    return {key: value for key, value in model.items() if key not in ("optimizer", "scheduler", "compile")}


@contextmanager
def recorded(record: RunRecord | None) -> Iterator[None]:
    """Write into ``run.json`` how what happens inside ends."""

    def tell(**fields: Any) -> None:
        if record is not None:
            record.update(**fields)

    try:
        yield
    except RunStopped as stop:
        tell(state="stopped", error=None)
        log.info("%s; go on with ckpt_path=%s", stop, record.directory / "checkpoints" / "last.ckpt" if record else "…")
        if stop.signal:
            sys.exit(EXIT_STATUS[stop.signal])
    except KeyboardInterrupt:
        tell(state="stopped", error="interrupted")
        raise
    except OSError as error:
        tell(state="failed", error=f"{type(error).__name__}: {error}")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"the disk is full: {error.filename or 'the run'} could not be written; earlier checkpoints are kept") from error
        raise
    except BaseException as error:
        tell(state="failed", error=f"{type(error).__name__}: {error}")
        raise
    else:
        tell(state="finished")


def _one_line_once() -> None:
    """Leave Lightning's messages to Hydra's handlers, and out what is advertisement."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "💡" not in record.getMessage())


def _checked_checkpoint(cfg: DictConfig, directory: Path) -> dict[str, Any] | None:
    """Open the checkpoint before anything of the run it belongs to is touched."""
    if not cfg.ckpt_path:
        return None
    checkpoint = read_checkpoint(cfg.ckpt_path)
    if (directory / RUN_FILE).exists() and (state := read_run(directory).state) in ALIVE:
        raise UserError(f"{directory} is {state}: stop it first with python -m src.runs stop {directory}")
    return checkpoint


def _start_record(cfg: DictConfig, directory: Path) -> RunRecord:
    command = " ".join(["python", *sys.argv])
    return RunRecord(directory, name=cfg.name, tags=list(cfg.tags), command=command, resumed_from=cfg.ckpt_path)


def _test(trainer: Trainer, model: Any, data: Any, cfg: DictConfig, report: TestReport) -> None:
    """Load the best weights there are and test them."""
    checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    best = next((c.best_model_path for c in checkpoints if c.best_model_path and c.monitor), "")
    if best:
        model.load_state_dict(read_checkpoint(best)["state_dict"])
    report.extra = {"checkpoint": Path(best).name if best else "last weights"}
    if cfg.test:
        trainer.test(model, datamodule=data, verbose=False)


def _optimized(trainer: Trainer, name: str | None) -> float | None:
    """The best value of a metric that a checkpoint watched, else its last value."""
    if not name or not trainer.callback_metrics:
        return None
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor == name and callback.best_model_score is not None:
            return float(callback.best_model_score)
    if name not in trainer.callback_metrics:
        raise UserError(f"optimized_metric='{name}' is not logged{nearest(name, trainer.callback_metrics)}")
    return float(trainer.callback_metrics[name])
