"""Runs are controlled by a file: whoever can write into a run's directory can pause, resume or stop it."""

from pathlib import Path

from src.runs.record import write_atomic
from src.utils.errors import UserError, nearest

PAUSE, RESUME, STOP = "pause", "resume", "stop"
REQUEST_FILE = "request"


def request(directory: str | Path, what: str) -> None:
    """Ask a run to ``pause``, ``resume`` or ``stop`` at its next batch.

    Raises:
        UserError: there is no run, or no such request.
    """
    directory = Path(directory)
    if what not in (PAUSE, RESUME, STOP):
        raise UserError(f"request '{what}' is unknown{nearest(what, (PAUSE, RESUME, STOP))}")
    if not (directory / "run.json").exists():
        raise UserError(f"{directory} is no run: it has no run.json")
    write_atomic(directory / REQUEST_FILE, what)


def pending(directory: Path) -> str | None:
    """The request that waits, if any."""
    try:
        return (directory / REQUEST_FILE).read_text().strip() or None
    except FileNotFoundError:
        return None


def clear(directory: Path) -> None:
    """Forget the request that waits."""
    (directory / REQUEST_FILE).unlink(missing_ok=True)
