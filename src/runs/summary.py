"""What a list of runs says of each: how far it is, how long it took, and the metric that counts in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.runs.curves import curves_of, thin
from src.runs.notes import NOTES_FILE, read_notes
from src.runs.reading import Run, file_stamp, is_moment, is_number, rows_of
from src.runs.record import CONFIG_FILE, METRICS_FILE, RESULTS_FILE, RUN_FILE
from src.utils.errors import UserError

# What a summary is made from.
FILES = (RUN_FILE, METRICS_FILE, CONFIG_FILE, NOTES_FILE)
SPARKS = 40  # points of a sparkline
# Of a longer metrics.jsonl only this many blocks of this many bytes are read, spread over the file.
BLOCKS, BLOCK = 64, 8192
DEFAULT_METRIC = "val/loss"
OPTIMISED = re.compile(r"^optimized_metric:(?:\s*\n-)? +(\w+/\S+)\s*$", re.MULTILINE)
POSE = re.compile(r"^  value_range: rotation\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Summary:
    """One run in a line.

    Attributes:
        fraction: of the training that is done, 0 to 1; None where nobody knows.
        epoch: ``3 of 60``.
        step: optimiser steps.
        started: seconds since 1970.
        seconds: from its start to its last sign of life.
        metric: the one that the run optimises, with its stage.
        value: of that metric; None where none was logged.
        source: which value this is: ``optimised`` as the run itself says at its end, else the ``latest`` logged.
        trend: the metric as it was logged, thinned.
        is_pose: whether the data are rotation vectors, which are measured in other units.
        tags: as ``src.runs.notes`` has them.
        error: what it failed with, or what is wrong with its files.
    """

    fraction: float | None
    epoch: str
    step: int | None
    started: float | None
    seconds: float | None
    device: str
    metric: str
    value: float | None
    source: str
    trend: list[float]
    is_pose: bool
    tags: list[str]
    error: str


def summary(run: Run) -> Summary:
    """What a list says of ``run``; what a damaged or foreign file does not tell is left empty."""
    info, config = run.info, _text(run.path / CONFIG_FILE)
    found = info.get("progress")
    progress: dict[str, Any] = found if isinstance(found, dict) else {}
    started, updated = _moment(info.get("started")), _moment(info.get("updated"))
    metric, optimised = _optimised(info, config)
    trend = _trend(run, metric)
    tags, _, trouble = _notes(run)
    return Summary(
        fraction=_fraction(progress),
        epoch=_epoch(progress),
        step=progress.get("step") if isinstance(progress.get("step"), int) else None,
        started=started,
        seconds=None if started is None or updated is None else max(updated - started, 0.0),
        device=str(info.get("device") or ""),
        metric=metric,
        value=trend[-1] if optimised is None and trend else optimised,
        source="optimised" if optimised is not None else "latest",
        trend=trend,
        is_pose=POSE.search(config) is not None,
        tags=tags,
        error=" ".join(filter(None, [str(info.get("error") or ""), trouble])),
    )


def stamp(run: Run) -> tuple[tuple[int, int] | None, ...]:
    """Changes whenever what ``summary`` reads has changed: the times and sizes of the files, None for one not there."""
    return tuple(file_stamp(run.path / name) for name in FILES)


def mentions(run: Run, text: str) -> bool:
    """Whether ``text`` stands in the run's place, tags, note or error, in whatever case."""
    tags, note, trouble = _notes(run)
    said = [str(run.path), *tags, note, trouble, str(run.info.get("error") or "")]
    return text.lower() in "\n".join(said).lower()


def result_rows(run: Run) -> list[dict[str, Any]]:
    """The tested metrics of a run beside their baselines: ``metric``, ``unit``, ``this model``, one key a baseline.

    A value that is no finite number, as null stands for, is None.

    Raises:
        UserError: its results.json is damaged, or tells something else.
    """
    metrics = run.results.get("metrics", {})
    try:
        return [
            {"metric": name, "unit": str(told["unit"]), "this model": _result(told["value"])}
            | {base: _result(value) for base, value in told["baselines"].items()}
            for name, told in metrics.items()
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{run.path / RESULTS_FILE} holds no metrics with their units") from error


def _result(value: Any) -> float | None:
    if value is not None and not is_number(value):
        raise TypeError(f"{value} is no number")
    return None if value is None else float(value)  # a whole number in JSON has no end


def duration_text(seconds: float) -> str:
    """A duration for people: ``48 s``, ``3 min 05 s``, ``2 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _moment(value: Any) -> float | None:
    return float(value) if is_moment(value) else None


def _notes(run: Run) -> tuple[list[str], str, str]:
    """Tags and text, and what is wrong with them."""
    try:
        notes = read_notes(run)
    except UserError as error:
        return [], "", str(error)
    return [*notes.tags], notes.text, ""


def _fraction(progress: dict[str, Any]) -> float | None:
    fraction = _number(progress.get("fraction"))
    return None if fraction is None else min(max(fraction, 0.0), 1.0)


def _epoch(progress: dict[str, Any]) -> str:
    epoch, most = progress.get("epoch"), progress.get("max_epochs")
    if not isinstance(epoch, int):
        return ""
    return f"{epoch} of {most}" if isinstance(most, int) else str(epoch)


def _optimised(info: dict[str, Any], config: str) -> tuple[str, float | None]:
    """The metric that the run optimises, the first of several, and its value where the run has told one."""
    told = info.get("optimized")
    if isinstance(told, dict) and told:
        name = next(iter(told))
        return name, _number(told[name])
    named = OPTIMISED.search(config)
    return (named[1] if named else DEFAULT_METRIC), None


def _trend(run: Run, metric: str) -> list[float]:
    stage, _, term = metric.partition("/")
    logged = curves_of(_sampled(run.path / METRICS_FILE)).get(term, [])
    return [
        point["value"]
        for point in thin([point for point in logged if point["stage"] == stage], SPARKS)
    ]


def _sampled(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a short file, and of a long one those in blocks spread from its beginning to its end."""
    try:
        size = file.stat().st_size
        with open(file, "rb") as content:
            whole = size <= BLOCKS * BLOCK
            for part in range(1 if whole else BLOCKS):
                content.seek(0 if whole else part * (size - BLOCK) // (BLOCKS - 1))
                block = content.read(-1 if whole else BLOCK)
                yield from rows_of(block.decode(errors="replace").splitlines())
    except OSError:  # there is none yet
        return
