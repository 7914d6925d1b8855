"""From a checked config to what it describes: trainer, model and data."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.callbacks.checkpoints import AtomicCheckpoints
from src.callbacks.idle import NoProfiler, leave_out_idle_hooks
from src.callbacks.pruning import ReportToStudy
from src.callbacks.report import TestReport
from src.callbacks.run_logger import RunLogger
from src.callbacks.run_state import RunState
from src.callbacks.sampler import FitSampler
from src.callbacks.trackers import RunFacts, open_trackers
from src.jobs.trial import current_trial
from src.models.data_compat import check_data
from src.models.pretrained import load_pretrained
from src.runs import slurm
from src.runs.record import RunRecord
from src.utils.build import build, build_each, check_signatures
from src.utils.ddp import cluster_environment
from src.utils.errors import UserError
from src.utils.main import data_configs
from src.utils.memory import keep_freed_memory

log = logging.getLogger(__name__)
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
        *([ReportToStudy(trial, metric_names(cfg), state.prune)] if trial else []),
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
    except UserError:
        raise
    # Such as trainer=gpu where there is none, or a precision that a strategy does not know.
    except (MisconfigurationException, ValueError) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    if isinstance(trainer.profiler, PassThroughProfiler):  # none was asked for
        trainer.profiler = NoProfiler()
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
    if "scheduler" in cfg.cluster and slurm.job_id() is None:
        raise UserError("cluster=slurm submits the jobs of a multirun: add -m")
    if not cfg.train and not cfg.ckpt_path:
        raise UserError("train=false needs ckpt_path=<the weights to test>")


def metric_names(cfg: DictConfig) -> list[str]:
    """The names in ``optimized_metric``, which is one, a list, or nothing; nothing is optimised without training."""
    named = cfg.optimized_metric if cfg.train else None
    return list(named) if isinstance(named, ListConfig) else [named] if named else []


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
