"""What a finished study says: ``study.json``, a table in the terminal, pictures and a page that moves."""

import logging
import math
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from src.jobs.study import DEFAULTS
from src.runs.record import write_json

log = logging.getLogger(__name__)
STUDY_FILE, SHOWN = "study.json", 5


def report(study: Any, directory: Path, metrics: Sequence[str], storage: str) -> None:
    """Write and show everything.

    Args:
        study: Optuna's study, with all its trials.
        directory: of the sweep.
        metrics: the names of what was optimised.
        storage: as ``optuna-dashboard`` takes it, without a password.

    Raises:
        UserError: no trial has come to an end with a value.
    """
    from src.jobs.study_figures import figures, page
    from src.utils.errors import UserError

    content = summary(study, metrics, storage)
    write_json(directory / STUDY_FILE, content)
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if not complete:
        raise UserError(_nothing_learnt(content, directory))
    default = default_trial(study)
    figures(study, directory / "figures", metrics, content["importances"], default)
    page(study, directory / "report.html", metrics, content["importances"])
    _show(study, content, metrics, default)
    log.info("the report is %s; optuna-dashboard %s", directory / "report.html", storage)


def summary(study: Any, metrics: Sequence[str], storage: str) -> dict[str, Any]:
    """The content of ``study.json``."""
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = study.best_trials if complete else []
    default = default_trial(study)
    return {
        "study": study.study_name,
        "storage": storage,
        "metrics": dict(zip(metrics, [d.name.lower() for d in study.directions], strict=True)),
        "trials": len(trials),
        "states": dict(Counter(trial.state.name.lower() for trial in trials)),
        "best": [_row(trial, metrics) for trial in best],
        "default": _row(default, metrics) if default is not None else None,
        "importances": importances(study, metrics),
        "failures": {
            str(trial.number): trial.user_attrs.get("error")
            for trial in trials
            if trial.state.name == "FAIL"
        },
    }


def default_trial(study: Any) -> Any | None:
    """The trial of the config's own values, if there is one."""
    defaults = study.user_attrs.get(DEFAULTS)
    trials = study.get_trials(deepcopy=False)
    return next((t for t in trials if defaults and t.params == defaults), None)


def importances(study: Any, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Metric → setting → part of the metric's variance over the trials that it explains (fANOVA, Hutter et al. 2014).

    Empty where there are too few trials, or all came out alike.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    found: dict[str, dict[str, float]] = {}
    complete = [
        trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"
    ]
    if len(complete) < 4:
        return found
    for index, name in enumerate(metrics):
        if len({trial.values[index] for trial in complete}) < 2:
            continue
        measured = get_param_importances(
            study,
            evaluator=FanovaImportanceEvaluator(seed=0),
            target=partial(_value, index),
        )
        if all(math.isfinite(value) for value in measured.values()):
            found[name] = {setting: float(value) for setting, value in measured.items()}
    return found


def _value(index: int, trial: Any) -> float:
    return trial.values[index]


def ranked(study: Any) -> list[Any]:
    """The complete trials, the best first; of several metrics the Pareto front by the first metric."""
    if len(study.directions) > 1:
        return sorted(study.best_trials, key=lambda trial: trial.values[0])
    complete = [
        trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"
    ]
    falling = study.direction.name == "MAXIMIZE"
    return sorted(complete, key=lambda trial: trial.value, reverse=falling)


def _row(trial: Any, metrics: Sequence[str]) -> dict[str, Any]:
    values = trial.values or [None] * len(metrics)
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "values": dict(zip(metrics, values, strict=True)),
        "params": trial.params,
        "directory": trial.user_attrs.get("directory"),
    }


def _nothing_learnt(content: dict[str, Any], directory: Path) -> str:
    first = next(iter(content["failures"].items()), None)
    reason = f"; trial {first[0]} failed with: {first[1]}" if first else ""
    return (
        f"none of the study's {content['trials']} trials came to an end with a value{reason}. To begin again, remove "
        f"{directory} or choose another hydra.sweeper.study_name"
    )


def _show(study: Any, content: dict[str, Any], metrics: Sequence[str], default: Any | None) -> None:
    from rich.console import Console
    from rich.table import Table

    order = ranked(study)
    rows = [(str(trial.number), trial) for trial in order[:SHOWN]]
    if default is not None:
        beaten = default not in order[:SHOWN]
        rows = [(f"{n} (default)" if t is default else n, t) for n, t in rows]
        rows += [(f"{default.number} (default)", default)] if beaten else []
    settings = list(order[0].params)
    title = ", ".join(f"{count} {state}" for state, count in content["states"].items())
    table = Table(
        "trial", *metrics, *settings, title=f"{study.study_name}: {title}", title_style=""
    )
    for name, trial in rows:
        values = [f"{v:.6g}" for v in trial.values] if trial.values else [trial.state.name.lower()]
        values += [""] * (len(metrics) - len(values))
        table.add_row(name, *values, *(_short(trial.params.get(s)) for s in settings))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for metric, found in content["importances"].items():
        parts = ", ".join(f"{name} {share:.0%}" for name, share in found.items())
        log.info("what moves %s: %s", metric, parts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
