"""Studies as the app reads them: made by Optuna here, without any training."""

import json
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from src.jobs.owners import own_name
from src.jobs.reading import commands, find_studies, read_importances, read_study
from src.jobs.storage import open_storage
from src.jobs.studies import Study, Trial
from src.jobs.study import DEFAULTS, OWNER, SETUP
from src.jobs.study_charts import beyond, history, importance_bars, parallel, pareto
from src.utils.errors import UserError

SPACE = {"lr": FloatDistribution(1e-4, 1e-1, log=True), "width": IntDistribution(1, 9)}
METRICS = ["val/elbo"]


def make_study(
    directory: Path,
    values: list[Any],
    metrics: list[str] = METRICS,
    direction: str = "maximize",
    storage: str | None = None,
) -> optuna.Study:
    """A study with a trial a value: a number or several, or a state."""
    directory.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="one",
        storage=open_storage(storage, directory),
        directions=[direction] * len(metrics),
    )
    study.set_user_attr(SETUP, {"optimized_metric": metrics})
    study.set_user_attr(DEFAULTS, {"lr": 1e-2, "width": 1})
    for number, value in enumerate(values):
        ended = not isinstance(value, TrialState)
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if ended else value,
                values=(value if isinstance(value, list) else [value]) if ended else None,
                params={"lr": 10 ** (-2 - number / 10), "width": 1 + number % 9},
                distributions=SPACE,
                intermediate_values={0: -7.0, 3: -5.0} if value is TrialState.PRUNED else {},
                user_attrs={"error": "OSError: no space"} if value is TrialState.FAIL else {},
            )
        )
    return study


def write_trial(directory: Path, number: int, storage: str | None = None, **info: Any) -> None:
    run = directory / str(number)
    (run / ".hydra").mkdir(parents=True)
    known = {"command": "python run_experiment.py -m hparams_search=x", "started": 1.0}
    (run / "run.json").write_text(json.dumps(known | info))
    (run / "config.yaml").write_text(yaml.safe_dump({"optimized_metric": "val/elbo"}))
    sweeper = {"storage": storage, "study_name": "one", "n_trials": 7, "direction": "maximize"}
    params = {"lr": "tag(log, interval(1e-4, 1e-1))", "width": "range(1,10)"}
    hydra = {"hydra": {"sweeper": sweeper | {"params": params}}}
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))


def test_a_journal_is_read_with_every_state(tmp_path: Path) -> None:
    values = [1.0, TrialState.PRUNED, TrialState.FAIL, 3.0, TrialState.WAITING]
    study = make_study(tmp_path, values)
    for number, owner in ((5, own_name()), (6, "elsewhere:1:1.0")):
        while (trial := study.ask(fixed_distributions=SPACE)).number != number:
            pass
        study._storage.set_trial_system_attr(trial._trial_id, OWNER, owner)
    write_trial(tmp_path, 0, overrides=["lr=0.01", "width=1", "tags=[a b]"])
    before = (tmp_path / "study.journal").read_bytes()
    found = read_study(tmp_path, [])
    assert (tmp_path / "study.journal").read_bytes() == before
    states = {
        0: "complete",
        1: "pruned",
        2: "failed",
        3: "complete",
        5: "running",
        6: "interrupted",
    }
    assert {t.number: t.state for t in found.trials if t.number in states} == states
    assert found.metrics == {"val/elbo": "maximize"} and found.wanted == 7 and found.is_running
    assert [t.number for t in found.best()] == [3] and found.best()[0].values == (3.0,)
    assert found.trials[1].last == -5.0 and found.trials[2].error == "OSError: no space"
    assert found.logarithmic == {"lr"} and found.default == 0
    told = commands(found)
    assert list(told.values())[0] == "python run_experiment.py -m hparams_search=x"
    assert not any("Trial 3" in words for words in told)  # it has no run


def test_between_two_trials_a_study_goes_on_while_its_worker_lives(tmp_path: Path) -> None:
    study = make_study(tmp_path, [1.0])
    for worker, running in (("elsewhere:1:1.0", False), (own_name(), True)):
        study._storage.set_study_system_attr(study._study_id, f"worker:{worker}", 1.0)
        assert read_study(tmp_path, []).is_running is running


def test_the_best_trial_is_repeated_by_its_own_arguments(tmp_path: Path) -> None:
    make_study(tmp_path, [1.0])
    write_trial(tmp_path, 0, overrides=["lr=0.01", "name=it's; rm x"])
    assert commands(read_study(tmp_path, []))["Trial 0 alone, trained anew:"] == (
        """python run_experiment.py lr=0.01 'name=it'"'"'s; rm x'"""
    )


def test_of_two_metrics_the_front_is_what_nothing_beats(tmp_path: Path) -> None:
    values = [[1.0, 9.0], [2.0, 5.0], [3.0, 5.0], [4.0, 1.0], [5.0, 2.0], [2.0, 5.0]]
    made = make_study(tmp_path, values, ["a", "b"], "minimize")
    found = read_study(tmp_path, [])
    assert [t.number for t in found.best()] == [0, 1, 5, 3]
    assert {t.number for t in made.best_trials} == {t.number for t in found.best()}
    front = next(trace for trace in pareto(found).data if trace.name == "Pareto front")
    assert list(front.x) == [1.0, 2.0, 2.0, 4.0] and list(front.y) == [9.0, 5.0, 5.0, 1.0]


def test_a_sqlite_file_is_only_read_and_only_where_it_may_lie(tmp_path: Path) -> None:
    directory, database = tmp_path / "logs" / "study", tmp_path / "logs" / "studies.db"
    url = f"sqlite:///{database}"
    directory.mkdir(parents=True)
    make_study(directory, [1.0, 2.0], storage=url)
    write_trial(
        directory,
        1,
        storage=url,
        state="finished",
        optimized={"val/elbo": 2.5},
        overrides=["lr=0.02"],
    )
    database.chmod(0o444)
    before = database.read_bytes()
    found = read_study(directory, [tmp_path / "logs"])
    assert [t.values for t in found.trials] == [(1.0,), (2.0,)] and found.note is None
    assert database.read_bytes() == before
    outside = read_study(directory, [directory])
    assert [(t.number, t.values, t.params) for t in outside.trials] == [(1, (2.5,), {"lr": 0.02})]
    assert "is not opened from here" in str(outside.note)


def test_a_database_with_a_password_is_told_by_its_runs(tmp_path: Path) -> None:
    url = "postgresql+psycopg://lab:secret@nowhere.example/studies"
    states = (
        {"state": "finished", "optimized": {"val/elbo": 2.0}},
        {"state": "failed", "error": "x"},
    )
    for number, state in enumerate(states):
        write_trial(tmp_path, number, storage=url, overrides=[f"lr=0.{number}1", "x=y"], **state)
    write_trial(tmp_path, 2, storage=url, state="running", pid=1, pid_started=1.0)
    content = {
        "study": "s",
        "metrics": {"val/elbo": "maximize"},
        "importances": {"val/elbo": {"lr": 1}},
    }
    (tmp_path / "study.json").write_text(json.dumps(content))
    found = read_study(tmp_path, [tmp_path])
    assert [t.state for t in found.trials] == ["complete", "failed", "interrupted"]
    assert found.trials[1].params == {"lr": 0.11} and found.trials[1].error == "x"
    assert "secret" not in str(found.note) and "lab:***@nowhere" in str(found.note)
    assert read_importances(found, [tmp_path]) == {"val/elbo": {"lr": 1}}


@pytest.mark.parametrize("content", ["{nonsense\n{}\n", '{"op_code": 0}\n{}\n', "[]\n[]\n", ""])
def test_a_damaged_journal_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.journal").write_text(content)
    with pytest.raises(UserError, match="cannot be read|holds 0 studies"):
        read_study(tmp_path, [])


def test_a_directory_without_anything_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a journal"):
        read_study(tmp_path, [])


@pytest.mark.parametrize("found", [3, {"a": 3}, {"a": {"x": "y"}}, {"a": {"x": [1]}}])
def test_importances_that_are_none_are_one_sentence(tmp_path: Path, found: Any) -> None:
    content = {"metrics": {"a": "minimize"}, "importances": found}
    (tmp_path / "study.json").write_text(json.dumps(content))
    study = read_study(tmp_path, [])
    with pytest.raises(UserError, match="study.json holds no importances"):
        read_importances(study, [])


def test_a_strangers_trials_hide_no_other(tmp_path: Path) -> None:
    """Values without end, settings that are no YAML, and a sweeper of another make."""
    values = (10**400, 2.0, "much")
    for number, value in enumerate(values):
        settings = ["lr=[1", "width=2024-99-99", "odd"]
        optimized = {"val/elbo": value}
        write_trial(tmp_path, number, state="finished", optimized=optimized, overrides=settings)
    (tmp_path / "0" / ".hydra" / "hydra.yaml").write_text("hydra: {sweeper: 2024-99-99}")
    found = read_study(tmp_path, [])
    assert [t.state for t in found.trials] == ["failed", "complete", "failed"]
    assert found.trials[1].params == {"lr": "[1", "width": "2024-99-99"}


def test_what_is_wrong_is_told_in_words_for_people(tmp_path: Path) -> None:
    write_trial(tmp_path, 0)
    (tmp_path / "0" / ".hydra" / "hydra.yaml").write_text("hydra: {sweeper: {params: [1]}}")
    with pytest.raises(UserError, match="its files are not as a study writes them"):
        read_study(tmp_path, [])


def test_studies_are_found_newest_first_and_no_run_is_looked_into(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / "sweeps" / "old", tmp_path / "elsewhere" / "new"
    for directory in (old, new):
        directory.mkdir(parents=True)
        (directory / "study.json").write_text("{}")
    run = tmp_path / "run" / "sweeps" / "hidden"
    run.mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    os.utime(old, (1, 1))
    assert find_studies(tmp_path) == [new, old]


def test_importances_are_of_the_study_as_it_is(tmp_path: Path) -> None:
    make_study(tmp_path, [float(k) for k in range(6)])
    found = read_importances(read_study(tmp_path, []), [])
    assert set(found) == {"val/elbo"} and sum(found["val/elbo"].values()) == pytest.approx(1)
    bars = importance_bars(found).data[0]
    assert sum(bars.x) == pytest.approx(100)


def test_the_history_has_the_best_so_far_and_says_what_lies_beyond(tmp_path: Path) -> None:
    values = [1.0, 3.0, 2.0, TrialState.PRUNED, 4.0, -1000.0]
    make_study(tmp_path, values)
    found = read_study(tmp_path, [])
    lines = {trace.name: trace for trace in history(found, "val/elbo").data}
    assert list(lines["best so far"].y) == [1.0, 3.0, 3.0, 4.0, 4.0]
    assert list(lines["complete"].x) == [0, 1, 2, 4, 5]
    assert list(lines["pruned, last value"].y) == [-5.0]
    assert beyond(found, "val/elbo") == 1


def test_parallel_coordinates_have_decades_and_words() -> None:
    params = [{"lr": 0.01, "act": "relu"}, {"lr": 1.0, "act": "<b>"}]
    trials = [Trial(k, "complete", (float(k),), own) for k, own in enumerate(params)]
    study = Study(Path("x"), "x", {"m": "minimize"}, trials, None, frozenset({"lr"}), None, "")
    rate, act, value = parallel(study).data[0].dimensions
    assert list(rate.values) == [-2.0, 0.0] and rate.ticktext[0] == "0.01"
    assert list(act.ticktext) == ["&lt;b&gt;", "relu"] and list(act["values"]) == [1, 0]
    assert list(value.values) == [0.0, 1.0]
