"""Runs are controlled by a file: whoever can write into a run's directory can pause, resume or stop it."""

import os
import socket
from pathlib import Path

from src.runs.reading import ALIVE, read_run
from src.runs.record import write_atomic, writing_into
from src.utils.errors import UserError, nearest

PAUSE, RESUME, STOP = "pause", "resume", "stop"
REQUEST_FILE = "request"


def request(directory: str | Path, what: str) -> None:
    """Ask a run to ``pause``, ``resume`` or ``stop`` at its next batch.

    Raises:
        UserError: there is no run, it has ended, is somebody else's, or there is no such request.
    """
    directory = Path(directory)
    if what not in (PAUSE, RESUME, STOP):
        raise UserError(f"request '{what}' is unknown{nearest(what, (PAUSE, RESUME, STOP))}")
    run = read_run(directory)
    # What runs elsewhere and only seems dead may still hear.
    here = run.info.get("host") == socket.gethostname()
    if run.state not in ALIVE and (here or run.state != "dead"):
        raise UserError(f"{directory} is {run.state}: nobody is there to {what} it")
    with writing_into(directory):
        write_atomic(directory / REQUEST_FILE, what)


def pending(directory: Path) -> str | None:
    """The request that waits, if any."""
    path = os.path.join(directory, REQUEST_FILE)
    # Asked after every batch: opening would cost ten times as much.
    if not os.access(path, os.F_OK):
        return None
    try:
        return Path(path).read_text(errors="replace").strip() or None
    except OSError:  # withdrawn in between, or no file
        return None


def clear(directory: Path) -> None:
    """Forget the request that waits."""
    (directory / REQUEST_FILE).unlink(missing_ok=True)
