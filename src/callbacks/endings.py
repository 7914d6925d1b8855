"""Every way in which an experiment can end, and what its record says of it."""

import errno
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from src.callbacks.loggers import close
from src.callbacks.run_state import RunStopped
from src.runs.record import RunRecord
from src.utils.errors import UserError

log = logging.getLogger(__name__)
EXIT_STATUS = {"SIGINT": 130, "SIGTERM": 143}


@contextmanager
def closed(loggers: list[Logger]) -> Iterator[None]:
    """End the trackers' runs however what happens inside ends."""
    try:
        yield
    except BaseException:
        close(loggers, failed=True)
        raise
    close(loggers, failed=False)


@contextmanager
def recorded(record: RunRecord | None) -> Iterator[None]:
    """Write into ``run.json`` how what happens inside ends; SIGINT and SIGTERM end it as stopped.

    In the training loop ``RunState`` has handlers of its own, which let the batch finish first.
    """

    def tell(**fields: Any) -> None:
        try:
            if record is not None:
                record.update(**fields)
        except OSError as error:  # a full disk must not hide what ended the run
            log.error("run.json could not be written: %s", error)

    try:
        with _signals_stop():
            yield
    except (RunStopped, SIGTERMException) as stop:
        by = stop.signal if isinstance(stop, RunStopped) else "SIGTERM"
        tell(state="stopped", error=None)
        last = record.directory / "checkpoints" / "last.ckpt" if record else None
        log.info("%s", stop if isinstance(stop, RunStopped) else "stopped by SIGTERM")
        if last and last.exists():
            log.info("go on with ckpt_path=%s", last)
        if by:
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


@contextmanager
def _signals_stop() -> Iterator[None]:
    """SIGINT and SIGTERM raise ``RunStopped`` inside; nothing changes off the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise RunStopped(signal.Signals(number).name, None)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
