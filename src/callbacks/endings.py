"""Every way in which an experiment can end, and what its record says of it."""

import errno
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from src.callbacks.run_state import RunStopped, stop_signals
from src.callbacks.trackers import close
from src.runs import slurm
from src.runs.reading import read_run
from src.runs.record import RunRecord, amend
from src.runs.restart import last_checkpoint
from src.utils.ddp import slurm_rank
from src.utils.errors import UserError

log = logging.getLogger(__name__)
EXIT_STATUS = {"SIGINT": 130, "SIGTERM": 143, slurm.MAKE_WAY: 138}


@contextmanager
def closed(loggers: list[Logger]) -> Iterator[None]:
    """End the trackers' runs however what happens inside ends."""
    try:
        yield
    except (RunStopped, SIGTERMException, KeyboardInterrupt):
        close(loggers, "stopped")
        raise
    except BaseException:
        close(loggers, "failed")
        raise
    close(loggers, "finished")


def tell_loss(record: RunRecord | None, directory: Path, error: str) -> None:
    """Write into ``run.json`` that the run has failed; without a record of one's own only where its writer is gone."""
    if record is not None:
        record.update(state="failed", error=error)
    elif read_run(directory).state == "dead":
        amend(directory, state="failed", error=error)


@contextmanager
def recorded(record: RunRecord | None, directory: Path, max_requeues: int = 0) -> Iterator[None]:
    """Write into ``run.json`` how what happens inside ends; SIGINT and SIGTERM end it as stopped.

    In the training loop ``RunState`` has handlers of its own, which let the batch finish first.

    Args:
        record: the run's record; None on processes other than the first.
        directory: the run's directory.
        max_requeues: how often the run's SLURM job may be put back into the queue when SLURM wants its place.
    """

    def tell(**fields: Any) -> None:
        try:
            if record is not None:
                record.update(**fields)
            elif fields["state"] == "failed":
                log.error("%s", fields["error"])
                tell_loss(None, directory, fields["error"])
        except OSError as error:  # a full disk must not hide what ended the run
            log.error("run.json could not be written: %s", error)

    try:
        with _signals_stop():
            yield
    except (RunStopped, SIGTERMException) as stop:
        by = stop.signal if isinstance(stop, RunStopped) else "SIGTERM"
        why = _make_way(record, max_requeues, tell) if _asked_to_make_way(by) else None
        pruned = getattr(stop, "pruned", None)
        reason = {"stopped_by": by or "request"} if pruned is None else {"pruned": pruned}
        tell(state="stopped", error=why, **reason)
        if why:
            log.warning("%s", why)
        last = last_checkpoint(record.directory) if record else None
        log.info("%s", stop if isinstance(stop, RunStopped) else "stopped by SIGTERM")
        if last and last.exists():
            log.info("go on with ckpt_path=%s", last)
        # A process that rank 0 has started and stops together with it is not lost.
        together = getattr(stop, "step", None) is not None
        if by and not (together and record is None and slurm_rank() == 0):
            sys.exit(EXIT_STATUS[by])
    except OSError as error:
        tell(state="failed", error=f"{type(error).__name__}: {error}")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = error.filename or "the run"
            raise UserError(
                f"the disk is full: {what} could not be written; earlier checkpoints are kept"
            ) from error
        raise
    except BaseException as error:
        tell(state="failed", error=f"{type(error).__name__}: {error}")
        raise
    else:
        tell(state="finished")


def _asked_to_make_way(by: str | None) -> bool:
    """Whether SLURM wants the place of this run's job for another, or its time is over."""
    job = slurm.job_id()
    # A cluster need not be set up to send our signal; then a job that makes way hears what a cancelled one hears.
    return job is not None and (
        by == slurm.MAKE_WAY or (by == "SIGTERM" and slurm_rank() == 0 and slurm.makes_way(job))
    )


def _make_way(record: RunRecord | None, limit: int, tell: Callable[..., None]) -> str | None:
    """Let the job start again later, and wait for the end; says why it cannot where it cannot."""
    if record is None and slurm_rank() == 0:  # started by rank 0, which waits for this process
        return None
    signal.signal(getattr(signal, slurm.MAKE_WAY), signal.SIG_IGN)
    if slurm.restarts() >= limit:
        return (
            f"SLURM wants the place of job {slurm.job_id()}, which is not requeued any more: "
            f"it has been started again as often as cluster.max_requeues={limit} allows"
        )
    tell(state="stopped", error=None, requeued=True)
    log.info(
        "SLURM job %s makes way and is requeued; it goes on in the same directory", slurm.job_id()
    )
    why = slurm.make_way(first=record is not None)
    tell(state="stopped", error=why, requeued=False)
    return why


@contextmanager
def _signals_stop() -> Iterator[None]:
    """The signals that stop a run raise ``RunStopped`` inside; nothing changes off the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name == slurm.MAKE_WAY:  # SLURM may say it again
            signal.signal(number, signal.SIG_IGN)
        raise RunStopped(name, None)

    before = {number: signal.signal(number, stop) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
