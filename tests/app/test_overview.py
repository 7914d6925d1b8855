"""The page of runs, without a browser."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from streamlit.testing.v1 import AppTest

import src.app.overview
from src.app.run_table import run_row
from src.runs import read_run
from src.utils.errors import UserError
from tests.app.conftest import at

APP = str(Path(__file__).parents[2] / "app.py")
STAMP = "2026-01-01_00-00-00"


def make_run(logs: Path, name: str, state: str, **info: object) -> Path:
    run = logs / name / STAMP
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


def log(run: Path, *values: float) -> None:
    """Write these values of the loss, with others in training."""
    rows = [
        {"step": step, "metrics": {"train/loss": value + 1, "val/loss": value, "test/loss": 0}}
        for step, value in enumerate(values)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_results(run: Path, value: float) -> None:
    told = {"test/mse": {"value": value, "unit": "intensity²", "baselines": {"mean image": 0.5}}}
    (run / "results.json").write_text(json.dumps({"metrics": told, "warnings": []}))


def shown(**address: str) -> AppTest:
    return at(AppTest.from_file(APP, default_timeout=60), **address)


def texts(page: AppTest) -> str:
    """Every number and sentence on the page."""
    said = [
        str(one.value) for kind in ("info", "error", "caption", "metric") for one in page.get(kind)
    ]
    return "\n".join([*said, *(frame.value.to_string() for frame in page.dataframe)])


def test_without_runs_one_click_trains_the_quick_example(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, list[str]]] = []
    monkeypatch.setattr(src.app.overview, "enqueue", lambda *job: asked.append(job))
    page = shown()
    assert page.code[0].value == "python run_experiment.py"
    assert not page.dataframe and not asked
    page.button("ov_train").click().run()
    assert asked == [(logs, [])]
    assert not page.exception and page.title[0].value != "Runs"


def test_a_queue_that_refuses_says_why(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*job: Any) -> None:
        raise UserError("there is no space left")

    monkeypatch.setattr(src.app.overview, "enqueue", refuse)
    page = shown()
    page.button("ov_train").click().run()
    assert page.error[0].value == "there is no space left" and page.title[0].value == "Runs"


def test_a_run_is_shown_with_its_numbers_curves_and_figures(logs: Path) -> None:
    run = make_run(logs, "vae_digits", "finished", device="cpu", started=100.0, updated=182.0)
    write_results(run, 0.25)
    log(run, 4.0, 3.5)
    (run / "figures").mkdir()
    for number in range(8):
        Figure(figsize=(1, 1)).savefig(run / "figures" / f"samples{number}.png")
    page = shown()
    listed, table = (frame.value for frame in page.dataframe)
    row = listed.loc[0]
    assert row[["run", "state", "progress"]].tolist() == [f"vae_digits/{STAMP}", "finished", 0.2]
    assert row[["value", "metric"]].tolist() == [3.5, "val/loss, nats"]
    assert [*row["so far"]] == [4.0, 3.5] and row["time"] == "1 min 22 s"
    assert table.loc[0].tolist() == ["test/mse", "intensity²", 0.25, 0.5]
    assert {one.label: one.value for one in page.metric}["Device"] == "cpu"
    page = shown(ov_tab="Curves")
    assert page.multiselect[0].value == ["loss"]
    assert len(page.get("vega_lite_chart")) == 1 and not page.info
    page = shown(ov_tab="Figures")
    assert len(page.get("image")) == 6 and "2 more are in the gallery" in texts(page)
    assert not page.get("vega_lite_chart") and not page.info


def test_two_runs_show_their_own_numbers_everywhere(logs: Path) -> None:
    for name, value in (("first", 1.25), ("second", 2.75)):
        run = make_run(logs, name, "finished", optimized={"val/elbo": -value})
        write_results(run, value)
        log(run, value + 5, value + 4)
    first, second = shown(run=f"first/{STAMP}"), shown(run=f"second/{STAMP}")
    rows = {name: run_row(name, read_run(logs / name / STAMP)) for name in ("first", "second")}
    assert (rows["first"]["value"], rows["second"]["value"]) == (-1.25, -2.75)
    assert (rows["first"]["metric"], rows["second"]["metric"]) == ("val/elbo, nats",) * 2
    assert first.dataframe[1].value.loc[0, "this model"] == 1.25
    assert second.dataframe[1].value.loc[0, "this model"] == 2.75
    addresses = [{"run": f"{name}/{STAMP}", "ov_tab": "Curves"} for name in ("first", "second")]
    charts = [shown(**address).get("vega_lite_chart")[0].proto for address in addresses]
    assert str(charts[0]) != str(charts[1])
    metrics = [{one.label: one.value for one in page.metric} for page in (first, second)]
    assert [m["val/elbo, optimised"] for m in metrics] == [r"\-1\.25 nats", r"\-2\.75 nats"]


def test_a_run_whose_process_is_gone_is_dead(logs: Path) -> None:
    make_run(logs, "killed", "running", host="another machine", updated=0.0)
    assert shown().dataframe[0].value.loc[0, "state"] == "dead"


def test_the_address_names_the_run_and_a_choice_shows_another(logs: Path) -> None:
    make_run(logs, "first", "finished", started=2.0)
    make_run(logs, "second", "failed", started=1.0, error="OSError: no space")
    page = shown(run=f"second/{STAMP}")
    assert page.dataframe[0].value["error"].tolist()[1] == "OSError: no space"
    assert page.error[0].value == r"OSError\: no space"
    page.selectbox("run").select(f"first/{STAMP}").run()
    assert not page.exception and not page.error
    assert "has not been tested" in page.info[0].value


def test_runs_are_found_by_text_and_state(logs: Path) -> None:
    make_run(logs, "first", "finished", tags=["good"])
    make_run(logs, "second", "failed", error="OSError: no space")
    page = shown()
    page.text_input("ov_text").set_value("SPACE").run()
    assert page.dataframe[0].value["run"].tolist() == [f"second/{STAMP}"]
    page.text_input("ov_text").set_value("good").run()
    assert page.dataframe[0].value["run"].tolist() == [f"first/{STAMP}"]
    page.text_input("ov_text").set_value("").run()
    page.get("button_group")[0].set_value(["failed"]).run()
    assert page.dataframe[0].value["run"].tolist() == [f"second/{STAMP}"]
    page.text_input("ov_text").set_value("good").run()
    assert "No run is like that" in texts(page) and not page.exception


def test_many_runs_come_in_pages(logs: Path) -> None:
    for number in range(60):
        make_run(logs, f"run{number:02}", "finished", started=float(number))
    page = shown()
    assert page.dataframe[0].value["run"].tolist()[0] == f"run59/{STAMP}"
    assert len(page.dataframe[0].value) == 50
    assert len(page.get("pagination")) == 1


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b"\xff\xfe\x00", b'{"metrics": 3, "progress": 1}'], ids=repr
)
def test_damaged_files_break_no_page(logs: Path, content: bytes) -> None:
    files = ["config.yaml", "metrics.jsonl", "notes.json", "results.json", "run.json"]
    for file in files:
        bad = make_run(logs, f"bad_{file}", "finished", started=1.0)
        log(bad, 1.0)
        (bad / file).write_bytes(content)
    make_run(logs, "good", "finished")
    page = shown()
    assert sorted(page.dataframe[0].value["run"]) == sorted(page.selectbox("run").options)
    assert len(page.selectbox("run").options) == len(files) + 1 and not page.error
    for file in files:
        page.selectbox("run").select(f"bad_{file}/{STAMP}").run()
        assert not page.exception, page.exception
        said = [one.value for one in page.error]
        telling = file in ("notes.json", "results.json", "run.json")
        readable = file == "run.json" and content.startswith(b'{"')
        assert len(said) == (telling and not readable), file
        assert all(file.replace(".", r"\.") in one for one in said)


def test_what_a_stranger_s_run_says_is_no_markdown(logs: Path) -> None:
    make_run(logs, "first", "failed", error="<b>x</b> [a](http://b) :red[c]", device="**d**")
    page = shown()
    assert page.error[0].value == r"\<b\>x\</b\> \[a\]\(http\://b\) \:red\[c\]"
    assert {one.label: one.value for one in page.metric}["Device"] == r"\*\*d\*\*"
