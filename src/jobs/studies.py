"""A study and its trials as plain values, whatever they were read from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.jobs.outcome import COMPLETE, FAILED, PRUNED

STUDY_FILE = "study.json"
RUNNING, WAITING, INTERRUPTED = "running", "waiting", "interrupted"
STATES = (COMPLETE, PRUNED, FAILED, RUNNING, WAITING, INTERRUPTED)


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0; its run is the study's directory of that name.
        state: one of ``STATES``; interrupted where nobody works on it and the same command would go on with it.
        values: of the metrics, of a complete one.
        params: the value of every searched setting.
        last: what it had reported before it was ended, of a pruned or running one.
        error: of a failed one.
    """

    number: int
    state: str
    values: tuple[float, ...]
    params: dict[str, Any]
    last: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Study:
    """What is known of a study.

    Attributes:
        path: its directory.
        name: of the study.
        metrics: name → minimize or maximize.
        trials: in the order of their numbers.
        wanted: how many there are to be in all; None where that is not known.
        logarithmic: settings searched on a logarithmic scale.
        default: the number of the trial of the config's own values.
        source: what the trials were read from.
        note: a sentence on what could not be read.
        worked_on: whether a worker is alive, be it between two trials.
    """

    path: Path
    name: str
    metrics: dict[str, str]
    trials: list[Trial]
    wanted: int | None
    logarithmic: frozenset[str]
    default: int | None
    source: str
    note: str | None = None
    worked_on: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """State → trials in it, in the order of ``STATES``."""
        found = Counter(trial.state for trial in self.trials)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def complete(self) -> list[Trial]:
        """The trials that came to an end with a value."""
        return [trial for trial in self.trials if trial.state == COMPLETE and trial.values]

    @property
    def is_running(self) -> bool:
        """Whether somebody works on it."""
        return self.worked_on or any(trial.state == RUNNING for trial in self.trials)

    @property
    def settings(self) -> list[str]:
        """The searched settings, in the order in which trials have them."""
        return list(dict.fromkeys(name for trial in self.trials for name in trial.params))

    def best(self) -> list[Trial]:
        """The best complete trial; of several metrics those that no other beats in all of them, by the first."""
        signs = [1 if way == "maximize" else -1 for way in self.metrics.values()]
        if len(signs) == 1:
            return sorted(self.complete, key=lambda t: -signs[0] * t.values[0])[:1]
        points = [[s * v for s, v in zip(signs, t.values, strict=False)] for t in self.complete]
        kept = [t for t, p in zip(self.complete, points, strict=True) if not _beaten(p, points)]
        return sorted(kept, key=lambda trial: trial.values[0])


def _beaten(point: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    return any(
        other != point and all(b >= a for a, b in zip(point, other, strict=True))
        for other in others
    )


def count(value: Any) -> int | None:
    """``value`` where it is a number of things."""
    return value if isinstance(value, int) else None
