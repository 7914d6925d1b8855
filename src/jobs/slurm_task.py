"""What a SLURM job of ours does on its nodes; submitit calls it there, once in every task."""

import logging
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.runs import slurm
from src.runs.reading import read_run
from src.utils.ddp import slurm_rank
from src.utils.errors import UserError

log = logging.getLogger(__name__)


class JobFailed(Exception):
    """A job did not reach its end; says why in one line. Raised, so that SLURM counts the job among the failed."""


def run_composed(
    config: Any, task: Callable[[Any], Any], whitelist: Any, command: Sequence[str]
) -> Any:
    """Run one job of a multirun from the config that was composed when it was submitted.

    All ranks run it in the same directory, and only the first writes Hydra's files and ``run.log``.

    Args:
        config: the composed config, with Hydra's own; its sweep directory is absolute.
        task: what ``run_experiment.py`` does with a config.
        whitelist: of Hydra's ``instantiate``.
        command: what the person typed, for the run's record.

    Raises:
        JobFailed: the job failed or was stopped.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime, run_job, setup_globals
    from hydra.types import HydraContext
    from omegaconf import open_dict

    from src.utils.main import register_resolvers

    _hear_signals()
    sys.argv = [*command]
    setup_globals()
    register_resolvers()
    with open_dict(config):
        config.hydra.job.id = slurm.job_id()
        if rank := slurm_rank():
            config.hydra.output_subdir = None
            config.hydra.job.name = f"run_rank{rank}"
    Singleton.instance(JobRuntime).set("name", config.hydra.job.name)
    context = HydraContext(None, Callbacks(config), whitelist)  # type: ignore[arg-type]  # all is composed
    try:
        done = run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
        return done.return_value
    except SystemExit as end:
        raise JobFailed(_error_of(config) or _how_it_ended(end.code)) from None
    except Exception as error:
        traceback.print_exc()
        said = str(error).strip().splitlines() or [""]
        raise JobFailed(f"{type(error).__name__}: {said[0]}") from None


def run_command(command: Sequence[str]) -> None:
    """Run a command of ours, such as a worker of a study, and end with it.

    Args:
        command: the arguments of Python; which one that is, in a container say, is known here only.

    Raises:
        JobFailed: it did not end well.
    """
    _hear_signals()
    # SLURM signals the command too, which ends in good order; this process only waits for that.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    status = subprocess.run([sys.executable, *command], check=False).returncode
    if status:
        raise JobFailed(_how_it_ended(status))


def _hear_signals() -> None:
    """Undo submitit's deafness to scancel; the run's own handlers follow when it trains."""
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)
    logging.getLogger("submitit").setLevel(logging.WARNING)


def _error_of(config: Any) -> str | None:
    """What the run's record says of how it was stopped, where it says more than a status can."""
    try:
        return read_run(Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)).info.get(
            "error"
        )
    except UserError:  # it was stopped before there was one
        return None


def _how_it_ended(status: Any) -> str:
    if isinstance(status, str):
        return status.removeprefix("error: ")
    number = -status if isinstance(status, int) and status < 0 else (status or 0) - 128
    if number in {one.value for one in signal.Signals}:
        return f"stopped by {signal.Signals(number).name}"
    return f"ended with status {status}"
