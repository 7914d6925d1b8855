"""The page of studies, made by Optuna here."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import TrialState
from streamlit.testing.v1 import AppTest

import src.app.sweeps
from src.jobs.storage import open_storage
from tests.jobs.test_reading import SPACE, make_study, write_trial

VALUES = [1.0, TrialState.PRUNED, 3.0, TrialState.FAIL, 2.5, 0.5]


def show(open_page: Any, logs: Path, study: str = "x/sweeps/one", **address: str) -> AppTest:
    return open_page("sweeps", logs, sw_study=study, **address)


def test_a_study_is_told_with_its_best_trial(open_page: Any, tmp_path: Path) -> None:
    make_study(tmp_path / "x" / "sweeps" / "one", VALUES)
    page = show(open_page, tmp_path)
    assert not page.error
    assert [metric.value for metric in page.metric] == ["3", "2"]
    assert page.metric[0].delta == "+2 from the default"
    assert any("6 of 6 trials have ended" in str(bar.proto) for bar in page.get("progress"))
    chart = json.loads(page.get("plotly_chart")[0].proto.spec)
    complete = next(line for line in chart["data"] if line["name"] == "complete")
    assert complete["y"] == [1.0, 3.0, 2.5, 0.5]
    assert chart["layout"]["yaxis"]["title"]["text"] == "val/elbo (nats)"


def test_two_studies_show_other_numbers(open_page: Any, tmp_path: Path) -> None:
    for name, best in (("one", 3.0), ("two", 7.0)):
        make_study(tmp_path / "x" / "sweeps" / name, [1.0, best])
    values = [show(open_page, tmp_path, f"x/sweeps/{n}").metric[0].value for n in ("one", "two")]
    assert values == ["3", "7"]


def test_the_trials_are_a_table_and_a_run_has_its_address(open_page: Any, tmp_path: Path) -> None:
    directory = tmp_path / "x" / "sweeps" / "one"
    make_study(directory, VALUES)
    write_trial(directory, 2, overrides=["lr=0.01"], state="finished")
    page = show(open_page, tmp_path, sw_view="Trials")
    table = page.dataframe[0].value
    assert table["state"].tolist() == [
        "complete",
        "pruned",
        "complete",
        "failed",
        "complete",
        "complete",
    ]
    assert table.loc[2, ["", "val/elbo (nats)", "run"]].tolist() == [
        "best",
        3.0,
        "experiments?run=x/sweeps/one/2",
    ]
    assert table.loc[0, ""] == "default" and table.loc[3, "error"] == "OSError: no space"
    page.segmented_control(key="sw_view").set_value("Commands").run()
    assert page.code[1].value == "python run_experiment.py lr=0.01"


@pytest.mark.parametrize("view", ["Importances", "Parallel coordinates", "Pareto front"])
def test_the_charts_of_two_metrics(open_page: Any, tmp_path: Path, view: str) -> None:
    values = [[float(k), float(k * k % 5)] for k in range(6)]
    make_study(tmp_path / "x" / "sweeps" / "one", values, ["val/recon_nll", "val/kl"], "minimize")
    page = show(open_page, tmp_path, sw_view=view)
    assert not page.error and len(page.get("plotly_chart")) == 1
    assert any("trials are on the Pareto front" in one.value for one in page.markdown)


def test_a_study_that_has_only_begun(open_page: Any, tmp_path: Path) -> None:
    make_study(tmp_path / "x" / "sweeps" / "one", [])
    page = show(open_page, tmp_path)
    assert not page.error and "No trial has come to an end" in page.info[0].value
    for view in ("Importances", "Parallel coordinates", "Trials", "Commands"):
        page.segmented_control(key="sw_view").set_value(view).run()
        assert not page.exception and not page.error


def test_a_damaged_study_is_one_sentence_and_hides_no_other(open_page: Any, tmp_path: Path) -> None:
    make_study(tmp_path / "x" / "sweeps" / "one", VALUES)
    damaged = tmp_path / "x" / "sweeps" / "damaged"
    damaged.mkdir()
    (damaged / "study.journal").write_text("{<b>\n{}\n")
    page = show(open_page, tmp_path, "x/sweeps/damaged")
    assert len(page.error) == 1 and not page.metric
    page.selectbox(key="sw_study").select("x/sweeps/one").run()
    assert not page.error and page.metric[0].value == "3"


def test_a_study_whose_worker_is_killed_runs_no_longer(
    open_page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file changes then."""
    directory = tmp_path / "x" / "sweeps" / "one"
    make_study(directory, [1.0])
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pid, started = worker.pid, psutil.Process(worker.pid).create_time()
    process = {"host": socket.gethostname(), "pid": pid, "pid_started": started}
    study = optuna.load_study(study_name="one", storage=open_storage(None, directory))
    study.ask(fixed_distributions=SPACE)
    write_trial(directory, 1, state="running", **process)
    monkeypatch.setattr(src.app.sweeps, "LIVE", 0.01)
    page = show(open_page, tmp_path)
    assert not page.info
    worker.communicate()
    page.run()
    assert "Nobody works on this study any more" in page.info[0].value


def test_without_studies_it_says_how_to_make_one(open_page: Any, tmp_path: Path) -> None:
    page = open_page("sweeps", tmp_path)
    assert "hparams_search=beta_vae" in page.code[0].value
