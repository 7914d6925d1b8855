"""The page of runs, without a browser."""

import json
import time
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from streamlit.testing.v1 import AppTest

APP = str(Path(__file__).parents[2] / "app.py")


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LATENT_LAB_LOGS", str(tmp_path))
    return tmp_path


def make_run(logs: Path, name: str, state: str, **info: object) -> Path:
    run = logs / name / "2026-01-01_00-00-00"
    run.mkdir(parents=True)
    progress = {"epoch": 2, "max_epochs": 10, "step": 20, "fraction": 0.2}
    content = {
        "state": state,
        "progress": progress,
        "started": time.time(),
        "updated": time.time(),
        "error": None,
    } | info
    (run / "run.json").write_text(json.dumps(content))
    return run


def shown() -> AppTest:
    page = AppTest.from_file(APP, default_timeout=60).run()
    assert not page.exception
    return page


def test_without_runs_it_says_how_to_make_one(logs: Path) -> None:
    page = shown()
    assert page.code[0].value == "python run_experiment.py"
    assert not page.dataframe


def test_a_run_is_shown_with_its_numbers_curves_and_figures(logs: Path) -> None:
    run = make_run(logs, "vae_digits", "finished")
    results = {"test/mse": {"value": 0.25, "unit": "intensity²", "baselines": {"mean image": 0.5}}}
    (run / "results.json").write_text(json.dumps({"metrics": results, "warnings": []}))
    rows = [
        {
            "step": 9,
            "epoch": 0,
            "time": 0.0,
            "metrics": {"train/loss": 3.0, "val/loss": 4.0, "test/loss": 5.0},
        }
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "figures").mkdir()
    Figure(figsize=(1, 1)).savefig(run / "figures" / "samples.png")
    page = shown()
    listed, table = (frame.value for frame in page.dataframe)
    assert listed.loc[0, ["run", "state", "epoch", "step"]].tolist() == [
        "vae_digits/2026-01-01_00-00-00",
        "finished",
        2,
        20,
    ]
    assert table.loc[0].tolist() == ["test/mse", "intensity²", 0.25, 0.5]
    assert page.multiselect[0].value == ["loss"]
    assert len(page.get("vega_lite_chart")) == 1
    assert len(page.get("image")) == 1
    assert not page.info


def test_a_run_whose_process_is_gone_is_dead(logs: Path) -> None:
    make_run(logs, "killed", "running", host="another machine", updated=0.0)
    assert shown().dataframe[0].value.loc[0, "state"] == "dead"


def test_a_choice_shows_the_chosen_run(logs: Path) -> None:
    make_run(logs, "first", "finished", started=2.0)
    make_run(logs, "second", "failed", started=1.0, error="OSError: no space")
    page = shown()
    assert page.dataframe[0].value["error"].tolist()[1] == "OSError: no space"
    page.selectbox[0].select("second/2026-01-01_00-00-00").run()
    assert not page.exception
    assert "has not been tested" in page.info[0].value


def test_a_broken_file_is_told(logs: Path) -> None:
    make_run(logs, "good", "finished")
    (make_run(logs, "bad", "finished", started=0.0) / "results.json").write_text("{")
    page = shown()
    assert not page.error
    page.selectbox[0].select("bad/2026-01-01_00-00-00").run()
    assert page.error[0].value == "A run's files cannot be read."
