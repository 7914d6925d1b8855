"""One experiment from its config to its results, and the record of how it ended."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.callbacks.endings import closed, recorded, tell_loss
from src.callbacks.strategies import is_sharded, whole_state
from src.callbacks.trackers import is_first, trackers
from src.experiment.assembly import assemble, check_root, metric_names, quiet_libraries
from src.models.data_compat import check_data
from src.runs.control import clear
from src.runs.loading import check_state, portable, read_checkpoint, save_model
from src.runs.reading import ALIVE, read_run
from src.runs.record import CONFIG_FILE, RUN_FILE, RunRecord, forget_metrics_after, write_atomic
from src.runs.restart import is_restart, last_checkpoint, restart_point
from src.utils.build import build
from src.utils.ddp import many_processes
from src.utils.errors import UnknownMetric, UserError, nearest
from src.utils.main import data_configs

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> Any:
    """Fit, test and record one experiment.

    Returns:
        The metric named by ``optimized_metric``, or a list where it names several; None when the run was stopped or
        names none.
    """
    directory = Path(cfg.paths.output_dir)
    check_root(cfg)
    if cfg.train and (checkpoint := restart_point(directory)):
        cfg.ckpt_path = str(checkpoint)
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    first = is_first()
    quiet_libraries()
    if first and cfg.ckpt_path:
        _check_checkpoint(cfg, directory)
    record = _start_record(cfg, directory) if first else None
    with recorded(record, directory, cfg.cluster.max_requeues):
        if first:
            write_atomic(directory / CONFIG_FILE, OmegaConf.to_yaml(cfg, resolve=True))
        trainer, model, data, report = assemble(cfg, directory, record)
        # A tracker that takes its time to close must not look like a process that waits for a dead one.
        with closed(trainer.loggers), many_processes(partial(tell_loss, record, directory)):
            for logger in trainer.loggers:
                logger.log_hyperparams(plain)
            if cfg.train:
                trainer.fit(model, datamodule=data, ckpt_path=cfg.ckpt_path, weights_only=True)
            watched = dict(trainer.callback_metrics)
            model, report.extra = _what_is_tested(trainer, model, cfg)
            if cfg.test:
                trainer.test(model, datamodule=data, verbose=False)
            if trainer.is_global_zero:
                save_model(model, portable(plain["model"]), directory / "model")
                log.info("the run is in %s", directory)
            names, metrics = metric_names(cfg), watched | trainer.callback_metrics
            found = {name: _optimized(trainer, metrics, name, directory) for name in names}
            for tracker in trackers(trainer):
                tracker.log_outcome(directory / "model", report.values, found, trainer.global_step)
        if record is not None and found:
            record.update(optimized=found)
        values: list[Any] = [*found.values()] or [None]
        return values if isinstance(cfg.optimized_metric, ListConfig) else values[0]


def _check_checkpoint(cfg: DictConfig, directory: Path) -> None:
    """Refuse a checkpoint that does not fit, before anything of the run it belongs to is touched."""
    checkpoint = read_checkpoint(cfg.ckpt_path)
    if (
        not is_restart(directory)  # whatever its file says: SLURM starts no job twice at a time
        and (directory / RUN_FILE).exists()
        and (state := read_run(directory).state) in ALIVE
    ):
        raise UserError(
            f"{directory} is {state}: stop it first with python -m src.runs stop {directory}"
        )
    reached, limit = checkpoint.get("epoch", 0), cfg.trainer.get("max_epochs")
    if cfg.train and limit is not None and 0 <= limit < reached:
        raise UserError(
            f"trainer.max_epochs={limit}: {cfg.ckpt_path} has reached epoch {reached} already"
        )
    check_data(cfg.model, cfg.data, data_configs)
    check_state(build(cfg.model), checkpoint["state_dict"], f"ckpt_path={cfg.ckpt_path}")
    if cfg.train and Path(cfg.ckpt_path).resolve() == last_checkpoint(directory).resolve():
        forget_metrics_after(directory, checkpoint.get("metrics_size"))


def _start_record(cfg: DictConfig, directory: Path) -> RunRecord:
    clear(directory)  # a request to an earlier training of this run
    if is_restart(directory):
        if not cfg.ckpt_path:  # what it logged before its first checkpoint is logged again
            forget_metrics_after(directory, 0)
        log.info(
            "SLURM has started this job again: it goes on from %s", cfg.ckpt_path or "the start"
        )
    hydra = HydraConfig.get()
    return RunRecord(
        directory,
        name=cfg.name,
        tags=list(cfg.tags),
        command=" ".join(["python", *sys.argv]),
        overrides=list(hydra.overrides.task),
        resumed_from=cfg.ckpt_path,
    )


def _what_is_tested(trainer: Trainer, model: Any, cfg: DictConfig) -> tuple[Any, dict[str, str]]:
    """The model with the best weights there are, whole in every process, and which they are."""
    checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    best = next((c.best_model_path for c in checkpoints if c.best_model_path and c.monitor), "")
    path = best if cfg.train else cfg.ckpt_path
    if is_sharded(model):  # a test asks one process alone for more than its share
        sharded, model = model, build(cfg.model)
        if not path:
            model.load_state_dict(whole_state(sharded))
    if not path:
        return model, {"checkpoint": "last weights"}
    model.load_state_dict(read_checkpoint(path)["state_dict"])
    return model, {"checkpoint": Path(path).name}


def _optimized(trainer: Trainer, metrics: dict[str, Any], name: str, directory: Path) -> float:
    """The best value of a metric that a checkpoint watched, else its last value; NaN where nothing was measured.

    Raises:
        UnknownMetric: nothing logs it.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor == name:
            score = callback.best_model_score
            if score is not None:
                return float(score)
    if name in metrics:
        return float(metrics[name])
    # A run that was interrupted after its last epoch validates no more when it goes on.
    logged = [
        row["metrics"][name] for row in read_run(directory).metrics() if name in row["metrics"]
    ]
    if metrics and not logged:
        raise UnknownMetric(f"optimized_metric='{name}' is not logged{nearest(name, metrics)}")
    return float("nan" if not logged or logged[-1] is None else logged[-1])
