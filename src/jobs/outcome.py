"""How a trial ended, read from its run's directory, which says so whatever became of the process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.runs.reading import ALIVE, is_number, read_run
from src.utils.errors import UnknownMetric, UserError

COMPLETE, PRUNED, FAILED, OPEN = "complete", "pruned", "failed", "open"


@dataclass(frozen=True)
class Outcome:
    """What a run's directory says of its trial.

    Attributes:
        state: complete, pruned, failed, or open where the run has not ended in one of these ways.
        values: of the optimised metrics, of a complete trial.
        error: what went wrong, of a failed one; of an open one how it stands.
        note: a word on a pruned one; the signal that has stopped an open one.
    """

    state: str
    values: tuple[float, ...] = ()
    error: str | None = None
    note: str | None = None

    @property
    def is_config_error(self) -> bool:
        """Whether every further trial would fail like this one."""
        return self.state == FAILED and str(self.error).startswith(UnknownMetric.__name__)

    def told(self, metrics: Sequence[str]) -> str:
        """A line for the log."""
        pairs = zip(metrics, self.values, strict=False)
        values = ", ".join(f"{name}={value:.6g}" for name, value in pairs)
        return f"{self.state}: {values or self.note or self.error or ''}"


def outcome_of(directory: Path, metrics: Sequence[str]) -> Outcome:
    """The outcome of the run in ``directory``.

    Args:
        metrics: the names of what is optimised.
    """
    try:
        run = read_run(directory)
    except UserError as error:
        return Outcome(OPEN, error=str(error))
    if run.state == "finished":
        return _finished(run.info.get("optimized"), metrics)
    if run.state == "failed":
        return Outcome(FAILED, error=str(run.info.get("error")))
    if run.state == "stopped" and run.info.get("pruned") is not None:
        return Outcome(PRUNED, note=f"after epoch {run.info['pruned']}")
    if run.state == "stopped" and run.info.get("stopped_by") == "request":
        return Outcome(PRUNED, note="stopped by request")
    if run.state == "stopped":
        by = str(run.info.get("stopped_by"))
        return Outcome(OPEN, error=f"stopped by {by}", note=by)
    return Outcome(OPEN, error=f"its run is {run.state}")


def started(directory: Path) -> float | None:
    """When the run in ``directory`` was last started, in seconds since 1970; None where there is none."""
    try:
        return read_run(directory).info.get("started")
    except UserError:
        return None


def is_alive(directory: Path) -> bool:
    """Whether a process still works on the run in ``directory``."""
    try:
        return read_run(directory).state in ALIVE
    except UserError:
        return False


def _finished(optimized: Any, metrics: Sequence[str]) -> Outcome:
    found = optimized if isinstance(optimized, dict) else {}
    values = [found.get(name) for name in metrics]
    for name, value in zip(metrics, values, strict=True):
        # run.json has null for NaN and infinity.
        if not is_number(value):
            return Outcome(FAILED, error=f"{name} is not a finite number")
    return Outcome(COMPLETE, tuple(float(value) for value in values))  # type: ignore[arg-type]
