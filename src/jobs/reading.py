"""Studies read, running, ended, damaged or a stranger's; nothing is written, and nothing but JSON and SQLite opened.

Optuna keeps values, attributes and distributions as JSON in both of its storages, so that no pickle is ever read here.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.jobs.outcome import COMPLETE, FAILED, PRUNED
from src.jobs.owners import ALIVE as OWNED
from src.jobs.owners import anybody, owner_state
from src.jobs.storage import JOURNAL, masked
from src.jobs.studies import INTERRUPTED, RUNNING, STUDY_FILE, WAITING, Study, Trial, count
from src.jobs.study import DEFAULTS, OWNER, SETUP
from src.jobs.study_runs import from_runs, run_of, summary_of, sweeper_of
from src.runs.reading import ALIVE, file_stamp, is_text
from src.runs.record import RUN_FILE
from src.utils.errors import UserError

# What a damaged or strange file of a study makes its reader raise; JSON's errors are ValueErrors.
DAMAGE = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError),
    *(OSError, OverflowError, RecursionError),
)


def find_studies(root: str | Path) -> list[Path]:
    """The directories of studies below ``root``, the newest first. No run is looked into."""
    found = [Path(path) for path in _walk(root)]
    return sorted(found, key=lambda path: file_stamp(path) or (0, 0), reverse=True)


def _walk(root: str | Path) -> Iterator[str]:
    for path, inner, files in os.walk(root):
        if RUN_FILE in files:
            inner.clear()
            continue
        inner[:] = sorted(name for name in inner if not name.startswith(".") and is_text(name))
        if {STUDY_FILE, JOURNAL} & {*files} or Path(path).parent.name == "sweeps":
            inner.clear()
            yield path


def changed(directory: Path) -> tuple[Any, ...]:
    """What is other when a study is: the times and sizes of its files, and of those of its runs."""
    runs = sorted(directory.glob(f"[0-9]*/{RUN_FILE}"))
    files = [directory / STUDY_FILE, directory / JOURNAL, *runs]
    return tuple((str(file), file_stamp(file)) for file in files)


def read_study(directory: Path, roots: Sequence[Path]) -> Study:
    """The study in ``directory``, from its journal or SQLite file, else from the runs of its trials.

    Args:
        roots: folders in which a database may lie that is opened; it is only read.

    Raises:
        UserError: it cannot be read.
    """
    try:
        sweeper = sweeper_of(directory)
        study, source, note = _stored(directory, sweeper, roots)
        if study is not None:
            return _from_optuna(directory, study, sweeper, source)
        return from_runs(directory, sweeper, note)
    except _damage() as error:
        raise UserError(f"the study in {directory} cannot be read: {_why(error)}") from error


def _why(error: Exception) -> str:
    """What is wrong with a study's files, on one line; what Python says of a value that is none is not for people."""
    words = str(error).strip().splitlines()
    told = isinstance(error, (ValueError, OSError)) or not isinstance(error, DAMAGE)
    return masked(words[0]) if words and told else "its files are not as a study writes them"


def _damage() -> tuple[type[Exception], ...]:
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError
    from yaml import YAMLError

    return (*DAMAGE, OptunaError, SQLAlchemyError, YAMLError)


def open_study(directory: Path, roots: Sequence[Path]) -> Any | None:
    """Optuna's study, only to be read; None where its storage is not opened from here.

    Raises:
        UserError: it is damaged.
    """
    try:
        return _stored(directory, sweeper_of(directory), roots)[0]
    except _damage() as error:
        raise UserError(f"the study in {directory} cannot be read: {_why(error)}") from error


def _stored(
    directory: Path, sweeper: Mapping[str, Any], roots: Sequence[Path]
) -> tuple[Any | None, str, str | None]:
    """Optuna's study or None, what it was read from, and why it was not."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    kept = sweeper.get("storage")
    if (directory / JOURNAL).exists():
        storage: Any = JournalStorage(JournalFileBackend(str(directory / JOURNAL)))
        return optuna.load_study(study_name=_name(storage, sweeper), storage=storage), JOURNAL, None
    if not isinstance(kept, str):
        return None, "", f"There is no {JOURNAL} in it."
    file = _confined(kept, roots)
    if file is None:
        return (
            None,
            "",
            f"Its storage, {masked(kept)}, is not opened from here: what follows was read from the runs of its trials.",
        )
    storage = _sqlite(file) if "://" in kept else JournalStorage(JournalFileBackend(str(file)))
    return optuna.load_study(study_name=_name(storage, sweeper), storage=storage), file.name, None


def _confined(storage: str, roots: Sequence[Path]) -> Path | None:
    """The file of a storage that lies in one of the ``roots``; None for another, and for a database on a server."""
    found = (
        re.fullmatch(r"sqlite:///([^?]+)", storage)
        if "://" in storage
        else re.match("(.+)", storage)
    )
    if found is None or "${" in storage:
        return None
    file = Path(found[1]).resolve()
    inside = any(file.is_relative_to(root.resolve()) for root in roots)
    return file if inside and file.is_file() else None


def _sqlite(file: Path) -> Any:
    """Optuna's storage over a file that is opened for reading only."""
    from optuna.storages import RDBStorage

    url = f"sqlite:///file:{file}?mode=ro&uri=true"
    return RDBStorage(url, skip_table_creation=True)


def _name(storage: Any, sweeper: Mapping[str, Any]) -> str:
    names = [study.study_name for study in storage.get_all_studies()]
    asked = sweeper.get("study_name")
    if asked in names:
        return str(asked)
    if len(names) != 1:
        raise UserError(f"it holds {len(names)} studies, and none is called {asked}")
    return names[0]


def _from_optuna(directory: Path, study: Any, sweeper: Mapping[str, Any], source: str) -> Study:
    trials = study.get_trials(deepcopy=False)
    beats = study._storage.get_study_system_attrs(study._study_id)
    directions = [direction.name.lower() for direction in study.directions]
    names = study.user_attrs.get(SETUP, {}).get("optimized_metric") or []
    names = [str(name) for name in names] + [f"value {k}" for k in range(len(directions))]
    defaults = study.user_attrs.get(DEFAULTS)
    spaces = [item for trial in trials for item in trial.distributions.items()]
    return Study(
        directory,
        study.study_name,
        dict(zip(names, directions, strict=False)),
        [_trial(directory, trial, beats) for trial in trials],
        count(sweeper.get("n_trials")),
        frozenset(name for name, space in spaces if getattr(space, "log", False)),
        next((t.number for t in trials if defaults and t.params == defaults), None),
        source,
        worked_on=anybody(beats),
    )


def _trial(directory: Path, trial: Any, beats: dict[str, Any]) -> Trial:
    names = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED, "WAITING": WAITING}
    state = names.get(trial.state.name)
    reported = trial.intermediate_values
    return Trial(
        trial.number,
        state or _open_state(directory / str(trial.number), trial.system_attrs.get(OWNER), beats),
        tuple(trial.values or ()) if state == COMPLETE else (),
        dict(trial.params),
        reported[max(reported)] if reported else None,
        _text(trial.user_attrs.get("error")),
    )


def _open_state(run: Path, owner: str | None, beats: dict[str, Any]) -> str:
    """Whether an unfinished trial is being run: by its run, or by a worker that is about to begin it."""
    found = run_of(run)
    alive = found is not None and found.state in ALIVE
    return RUNNING if alive or owner_state(owner, beats) == OWNED else INTERRUPTED


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def read_importances(study: Study, roots: Sequence[Path]) -> dict[str, dict[str, float]]:
    """``study_report.importances`` of a study as it is now; those of ``study.json`` where its storage is not opened.

    Raises:
        UserError: it is damaged.
    """
    from src.jobs.study_report import importances

    opened = open_study(study.path, roots)
    if opened is not None:
        return importances(opened, list(study.metrics))
    try:
        known = summary_of(study.path).get("importances", {})
        return {
            str(metric): {str(setting): float(part) for setting, part in parts.items()}
            for metric, parts in known.items()
        }
    except DAMAGE as error:
        raise UserError(f"{study.path / STUDY_FILE} holds no importances of settings") from error


def commands(study: Study) -> dict[str, str]:
    """What a command is for → the command, as the runs of the trials say: the study's own, and the best trials'."""
    found = {}
    runs = {t.number: run_of(study.path / str(t.number)) for t in study.trials}
    given = [run.info.get("command") for run in runs.values() if run is not None]
    if told := next((one for one in given if isinstance(one, str)), None):
        found["The study; once more it goes on where it was:"] = told
    for trial in study.best():
        run = runs[trial.number]
        arguments = run.info.get("overrides") if run else None
        if isinstance(arguments, list):
            command = shlex.join(["python", "run_experiment.py", *map(str, arguments)])
            found[f"Trial {trial.number} alone, trained anew:"] = command
    return found
