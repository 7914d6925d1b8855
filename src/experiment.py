"""One experiment from its config to its results, and the record of how it ended."""

import logging
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.callbacks.checkpoints import AtomicCheckpoints
from src.callbacks.endings import closed, recorded, tell_loss
from src.callbacks.figures import Figures
from src.callbacks.idle import NoProfiler, leave_out_idle_hooks
from src.callbacks.pruning import ReportToStudy
from src.callbacks.report import TestReport
from src.callbacks.run_logger import RunLogger
from src.callbacks.run_state import RunState
from src.callbacks.sampler import FitSampler
from src.callbacks.strategies import is_sharded, whole_state
from src.callbacks.trackers import RunFacts, open_trackers, trackers
from src.evaluation.features import Features, FileFeatures
from src.jobs.study import current_trial
from src.models.compat import check_data
from src.models.pretrained import load_pretrained
from src.runs import slurm
from src.runs.control import clear
from src.runs.loading import (
    WEIGHTS,
    check_state,
    load_model,
    read_checkpoint,
    read_plain_config,
    save_model,
)
from src.runs.reading import ALIVE, read_run
from src.runs.record import (
    CONFIG_FILE,
    RUN_FILE,
    RunRecord,
    forget_metrics_after,
    write_atomic,
)
from src.runs.restart import is_restart, last_checkpoint, restart_point
from src.utils.build import FOREIGN, build, build_each, check_signatures, locate
from src.utils.ddp import cluster_environment, many_processes
from src.utils.errors import UnknownMetric, UserError, nearest
from src.utils.main import data_configs
from src.utils.memory import keep_freed_memory

log = logging.getLogger(__name__)
# What a config that came with somebody else's run may name to compare samples by.
FEATURES = ("src.evaluation.features.",)
ROOT_TYPES = {
    "seed": int,
    "train": bool,
    "test": bool,
    "compile": bool,
    "importance_samples": int,
    "threads": int | None,
    "ckpt_path": str | None,
    "optimized_metric": str | ListConfig | None,
}


def train(cfg: DictConfig) -> float | list[float] | None:
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
    first = getattr(rank_zero_only, "rank", 0) == 0
    quiet_libraries()
    if first and cfg.ckpt_path:
        _check_checkpoint(cfg, directory)
    record = _start_record(cfg, directory) if first else None
    with (
        recorded(record, directory, cfg.cluster.max_requeues),
        many_processes(partial(tell_loss, record, directory)),
    ):
        if first:
            write_atomic(directory / CONFIG_FILE, OmegaConf.to_yaml(cfg, resolve=True))
        trainer, model, data, report = assemble(cfg, directory, record)
        with closed(trainer.loggers):
            if cfg.train:
                trainer.fit(model, datamodule=data, ckpt_path=cfg.ckpt_path, weights_only=True)
            watched = dict(trainer.callback_metrics)
            if is_sharded(model):  # a test asks one process alone for more than its share
                state, model = whole_state(model), build(cfg.model)
                model.load_state_dict(state)
            tested = _load_what_is_tested(trainer, model, cfg)
            report.extra = {"checkpoint": tested}
            if cfg.test:
                trainer.test(model, datamodule=data, verbose=False)
            if trainer.is_global_zero:
                save_model(model, portable(plain["model"]), directory / "model")
                log.info("the run is in %s", directory)
            metrics, names = (
                watched | trainer.callback_metrics,
                _metric_names(cfg) if cfg.train else [],
            )
            found = {name: _optimized(trainer, metrics, name, directory) for name in names}
            for tracker in trackers(trainer):
                tracker.log_outcome(directory / "model", report.values, found, trainer.global_step)
        if not cfg.train:
            return None
        if record is not None:
            record.update(optimized=found)
        values = [*found.values()]
        return values if isinstance(cfg.optimized_metric, ListConfig) else next(iter(values), None)


def assemble(
    cfg: DictConfig, directory: Path, record: RunRecord | None
) -> tuple[Trainer, Any, Any, TestReport]:
    """Check a config and build what it describes: trainer, model, data and the report of the test.

    Raises:
        UserError: a key, a part or a combination that cannot be.
    """
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    check_data(plain["model"], plain["data"], data_configs)
    for group in ("model", "data", "trainer", "callbacks", "logger", "features"):
        check_signatures(cfg[group], where=group)
    keep_freed_memory()
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    seed_everything(cfg.seed, workers=True, verbose=False)
    model, data = build(cfg.model), build(cfg.data)
    if not cfg.ckpt_path:
        load_pretrained(model)
    elif any(model.pretrained.values()):
        log.info("model.pretrained is not read: ckpt_path holds all weights")
    report = TestReport(directory, cfg.importance_samples, features=build(cfg.features))
    state, trial = RunState(record, directory, plain), current_trial()
    callbacks = [
        *build_each(cfg.callbacks),
        *([ReportToStudy(trial, _metric_names(cfg), state.prune)] if trial else []),
        state,
        FitSampler(),
        report,
    ]
    for callback in callbacks:
        leave_out_idle_hooks(callback)
    try:
        trainer = build(
            cfg.trainer,
            callbacks=callbacks,
            logger=[
                *open_trackers(cfg.logger, RunFacts.of(cfg, plain, directory), record),
                RunLogger(directory),
            ],
            plugins=[AtomicCheckpoints(), *cluster_environment()],
        )
    except MisconfigurationException as error:  # such as trainer=gpu where there is none
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    if isinstance(trainer.profiler, PassThroughProfiler):  # none was asked for
        trainer.profiler = NoProfiler()
    for logger in trainer.loggers:
        logger.log_hyperparams(plain)
    return trainer, model, data, report


def check_root(cfg: DictConfig) -> None:
    """Refuse a top-level value of the wrong type, in one sentence."""
    for key, kind in ROOT_TYPES.items():
        if not isinstance(cfg[key], kind) or (isinstance(cfg[key], bool) and kind is int):
            raise UserError(f"{key}={cfg[key]} must be of type {getattr(kind, '__name__', kind)}")
    for key, value in (
        ("importance_samples", cfg.importance_samples),
        ("trainer.log_every_n_steps", cfg.trainer.get("log_every_n_steps", 1)),
    ):
        if value < 1:
            raise UserError(f"{key}={value} must be at least 1")
    if "partition" in cfg.cluster and slurm.job_id() is None:
        raise UserError("cluster=slurm submits the jobs of a multirun: add -m")
    if not cfg.train and not cfg.ckpt_path:
        raise UserError("train=false needs ckpt_path=<the weights to test>")


def portable(model: dict[str, Any]) -> dict[str, Any]:
    """A model's config without what only training needs, so that it names nothing but models and parts."""
    training = ("optimizer", "scheduler", "lr_scaling", "compile", "pretrained")
    return {key: value for key, value in model.items() if key not in training}


def quiet_libraries() -> None:
    """Leave Lightning's messages to Hydra's handlers, and out what is advertisement."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
    # Lightning calls what torch has deprecated.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # SLURM's commands are there; whether a run is a job of its is for the person to say.
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    # The model logs at the end of every epoch, however short.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "💡" not in record.getMessage()
    )


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


def _load_what_is_tested(trainer: Trainer, model: Any, cfg: DictConfig) -> str:
    """Load the best weights there are; says which."""
    checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    best = next((c.best_model_path for c in checkpoints if c.best_model_path and c.monitor), "")
    path = best if cfg.train else cfg.ckpt_path
    if not path:
        return "last weights"
    model.load_state_dict(read_checkpoint(path)["state_dict"])
    return Path(path).name


def _metric_names(cfg: DictConfig) -> list[str]:
    """The names in ``optimized_metric``, which is one, a list, or nothing."""
    named = cfg.optimized_metric
    return list(named) if isinstance(named, ListConfig) else [named] if named else []


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


def evaluate_run(cfg: DictConfig) -> None:
    """Test a run's best weights again, whoever trained it, and write ``results.json`` and figures into it.

    With a sampler they go to ``samplers/<its name>/``, beside the model that samples from it.

    Raises:
        UserError: there is no run, no weights, or its config names anything but models and data.
    """
    quiet_libraries()
    run = read_run(cfg.run)
    config = read_plain_config(run.path / CONFIG_FILE)
    if not {"model", "data"} <= config.keys():
        raise UserError(f"{run.path / CONFIG_FILE} names no model and data to evaluate")
    data = build(config["data"], allowed=("src.datamodules.",))
    if not (run.path / "model" / WEIGHTS).exists():
        _model_from_checkpoint(run.path, portable(config["model"]))
    # It opens the file, and a stranger's may be refused.
    model = load_model(run.path)
    directory, portable_config = run.path, None
    if cfg.sampler:
        directory = run.path / "samplers" / HydraConfig.get().runtime.choices["sampler"]
        directory.mkdir(parents=True, exist_ok=True)
        portable_config = config["model"] | {"sampler": _sampler_for(cfg, config)}
        # Its sizes come from the run, which may be a stranger's.
        model.use_sampler(build(portable_config["sampler"], allowed=FOREIGN))
    report = TestReport(
        directory,
        cfg.importance_samples,
        {"checkpoint": run.results.get("checkpoint", "last weights")},
        build(cfg.features) if "features" in cfg else features_of(config.get("features")),
        run.path,
    )
    callbacks = [FitSampler(), report, Figures(str(directory))]
    trainer = build(cfg.trainer, callbacks=callbacks, logger=False)
    trainer.test(model, datamodule=data, verbose=False)
    if portable_config:
        save_model(model, portable(portable_config), directory / "model")


def _sampler_for(cfg: DictConfig, config: dict[str, Any]) -> dict[str, Any]:
    """The chosen sampler's config, with the sizes of the run's model and data."""
    known = OmegaConf.create({"model": config["model"], "data": config["data"]})
    merged = OmegaConf.merge(known, {"sampler": OmegaConf.to_container(cfg.sampler)})
    return OmegaConf.to_container(merged.sampler, resolve=True)  # type: ignore[return-value]


def features_of(config: dict[str, Any] | None) -> Features | None:
    """What a run compared samples by; a file that it names is not opened unasked.

    Raises:
        UserError: the config names anything else.
    """
    if config and any(isinstance(value, dict | list) for value in config.values()):
        raise UserError(
            "the features of this run are not described by plain values, and are not built"
        )
    if config and locate(config["_target_"], FEATURES) is FileFeatures:
        log.warning("this run compared samples by a file: choose it again with features=file")
        return None
    return build(config, allowed=FEATURES)


def _model_from_checkpoint(run: Path, config: dict[str, Any]) -> None:
    """Write ``model/`` for a run that ended before it could."""
    folder = run / "checkpoints"
    found = next(
        (folder / name for name in ("best.ckpt", "last.ckpt") if (folder / name).exists()), None
    )
    if found is None:
        raise UserError(f"{run} has neither a model nor a checkpoint to evaluate")
    model = build(config, allowed=FOREIGN)
    state = read_checkpoint(found)["state_dict"]
    check_state(model, state, str(found))
    model.load_state_dict(state)
    save_model(model, config, run / "model")
