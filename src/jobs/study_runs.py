"""A study whose storage is not opened from here, told by its ``study.json`` and by the runs of its trials."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from src.jobs.outcome import COMPLETE, FAILED, PRUNED, outcome_of
from src.jobs.studies import INTERRUPTED, RUNNING, STUDY_FILE, Study, Trial, count
from src.runs.reading import ALIVE, Run, parsed, read_run
from src.runs.record import CONFIG_FILE, RUN_FILE
from src.utils.errors import UserError


def run_of(directory: Path) -> Run | None:
    """The run in a directory; None where there is none that can be read."""
    try:
        return read_run(directory)
    except UserError:
        return None


def from_runs(directory: Path, sweeper: Mapping[str, Any], note: str | None) -> Study:
    """What the runs in a study's directory say of it.

    Args:
        sweeper: as ``sweeper_of`` gives it.
        note: why nothing else says it.

    Raises:
        UserError: there are no runs, and no ``study.json``.
    """
    summary = summary_of(directory)
    metrics = _metrics(directory, sweeper, summary)
    folders = sorted((f.parent for f in directory.glob(f"[0-9]*/{RUN_FILE}")), key=_number)
    if not folders and not summary:
        raise UserError(f"there is neither a journal, nor a {STUDY_FILE}, nor a run of a trial")
    searched = list(sweeper.get("params") or {})
    default = summary.get("default")
    return Study(
        directory,
        str(summary.get("study") or sweeper.get("study_name") or directory.name),
        metrics,
        [_trial_of_run(folder, list(metrics), searched) for folder in folders],
        count(sweeper.get("n_trials")) or count(summary.get("trials")),
        frozenset(k for k, v in (sweeper.get("params") or {}).items() if "log" in str(v)),
        count(default.get("number")) if isinstance(default, dict) else None,
        "the runs of its trials",
        note,
    )


def _number(folder: Path) -> int:
    return int(re.sub(r"\D", "", folder.name) or 0)


def _trial_of_run(folder: Path, metrics: Sequence[str], searched: Sequence[str]) -> Trial:
    run = run_of(folder)
    outcome = outcome_of(folder, metrics)
    told = outcome.state if outcome.state in (COMPLETE, PRUNED, FAILED) else None
    alive = run is not None and run.state in ALIVE
    return Trial(
        _number(folder),
        told or (RUNNING if alive else INTERRUPTED),
        outcome.values,
        _params(run, searched),
        None,
        outcome.error if told == FAILED else None,
    )


def _params(run: Run | None, searched: Sequence[str]) -> dict[str, Any]:
    """The searched settings among the arguments of a run."""
    given = run.info.get("overrides") if run else None
    pairs = [str(one).partition("=") for one in given] if isinstance(given, list) else []
    return {key: _value(text) for key, _, text in pairs if key in searched}


def _value(text: str) -> Any:
    """What a setting's text says; the text itself where it is no YAML."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def _metrics(
    directory: Path, sweeper: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[str, str]:
    if isinstance(known := summary.get("metrics"), dict) and known:
        return {str(name): str(way) for name, way in known.items()}
    config = next(map(_yaml, sorted(directory.glob(f"[0-9]*/{CONFIG_FILE}"))), {})
    names, ways = (_several(v) for v in (config.get("optimized_metric"), sweeper.get("direction")))
    return dict(zip(names, ways, strict=False))


def _several(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]


def summary_of(directory: Path) -> dict[str, Any]:
    """The content of ``study.json``, empty while there is none."""
    file = directory / STUDY_FILE
    content = parsed(file.read_text(encoding="utf-8")) if file.exists() else {}
    return content if isinstance(content, dict) else {}


def sweeper_of(directory: Path) -> dict[str, Any]:
    """What Hydra wrote of the sweeper into any of the trials; empty where there is none yet."""
    files = sorted(directory.glob("[0-9]*/.hydra/hydra.yaml"))
    found = (_yaml(file).get("hydra") for file in files)
    sweepers = (hydra.get("sweeper") for hydra in found if isinstance(hydra, dict))
    return next((s for s in sweepers if isinstance(s, dict)), {})


def _yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
