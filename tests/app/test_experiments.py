"""The page Experiments, without a browser."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from matplotlib.figure import Figure
from streamlit.testing.v1 import AppTest

from src.app import experiments_configure as form
from src.runs import queue, read_run
from src.runs.control import pending
from src.runs.notes import read_notes, write_notes
from src.runs.queue import FAILED, RUNNING, Job, jobs
from src.runs.queue_files import write
from src.utils.arguments import split

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def no_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs wait: nobody works through the queues of these tests."""
    monkeypatch.setattr(queue, "ensure_runner", lambda root: None)


def make(logs: Path, name: str, state: str = "running", **info: object) -> Path:
    """A run whose process is this one."""
    run, me = logs / name, psutil.Process()
    run.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"state": state, "host": os.uname().nodename, "pid": me.pid}
    content |= {"pid_started": me.create_time(), "started": 1e9, "updated": 1e9 + 5, "tags": ["a"]}
    content |= {"overrides": ["seed=3"], "progress": {"epoch": 2, "max_epochs": 10, "step": 20}}
    (run / "run.json").write_text(json.dumps(content | info))
    return run


def log(run: Path, *values: float) -> None:
    rows = [{"step": 10 * n, "metrics": {"train/loss": v}} for n, v in enumerate(values)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def button(page: AppTest, label: str) -> Any:
    return next(one for one in page.button if one.label == label)


def command(page: AppTest) -> str:
    return page.code[0].value


def test_the_default_is_composed_and_started(tmp_path: Path, open_page: Open) -> None:
    page = open_page("experiments", tmp_path)
    assert command(page) == f"python run_experiment.py paths.log_dir={tmp_path}"
    assert page.selectbox(key="ex_group_model").value == "vae"
    assert not page.error
    page.button(key="ex_start").click().run()
    assert [job.arguments for job in jobs(tmp_path)] == [[]]
    assert jobs(tmp_path)[0].id in page.success[0].value.replace("\\", "")


def test_boxes_and_table_write_into_the_arguments(tmp_path: Path, open_page: Open) -> None:
    page = open_page("experiments", tmp_path)
    page.selectbox(key="ex_group_model").select("riemannian_flow").run()
    assert page.text_area(key="ex_arguments").value == "model=riemannian_flow"
    assert page.selectbox(key="ex_group_data").value == "cyclic_sprites"  # as the model wishes
    page.toggle(key="ex_multirun_False").set_value(True).run()
    page.text_area(key="ex_arguments").set_value("-m model=vae,beta_vae seed=1,2").run()
    assert page.caption[0].value == "4 runs, one after another."
    assert "-m model=vae,beta_vae seed=1,2" in command(page)
    page.toggle(key="ex_multirun_True").set_value(False).run()
    assert "model has several values: add" in page.error[0].value.replace("\\", "")
    assert page.button(key="ex_start").disabled


def test_what_is_typed_into_the_table_becomes_an_argument(
    tmp_path: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AppTest cannot type into a table: what the browser sends is put where the table puts it."""
    rows = [("seed", "0"), ("name", "${model.name}"), ("model.latent_dim", "16"), ("test", "true")]
    typed = {0: {"value": "0"}, 1: {"value": "a=b"}, 2: {"value": " 4 "}, 3: {"value": None}}
    state = {"ex_arguments": "seed=1 model=vae test=false", "t": {"edited_rows": typed}}
    with monkeypatch.context() as patch:
        patch.setattr(form.st, "session_state", state)
        form._edited("t", rows)
    text = str(state["ex_arguments"])
    assert split(text) == ["model=vae", "name='a=b'", "model.latent_dim=4"]
    page = open_page("experiments", tmp_path, ex_arguments=text, ex_changed="true")
    table = page.dataframe[0].value.set_index("setting")
    assert table["value"].to_dict() == {"name": "'a=b'", "model.latent_dim": "4"}
    assert table["default"].to_dict() == {
        "name": "${model.name}_${data.name}",
        "model.latent_dim": "16",
    }


def test_the_table_is_searched(tmp_path: Path, open_page: Open) -> None:
    page = open_page("experiments", tmp_path, ex_search="LATENT DIMENSIONS")
    assert "settings." in page.caption[-1].value
    assert int(page.caption[-1].value.split()[0]) < 10
    page.text_input(key="ex_search").set_value("nothing is like this").run()
    assert page.info[-1].value == "No setting is like that."


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("model=vea", "'model' has no option 'vea'; nearest: 'vae'"),
        ("name='a", "the arguments cannot be read"),
        ("--config-dir=/tmp", "is no argument"),
        ("paths.log_dir=/tmp", "leave paths.log_dir=/tmp out"),
        ("data=images", "data=images needs data.path"),
    ],
)
def test_what_cannot_be_trained_is_told_and_not_started(
    tmp_path: Path, open_page: Open, arguments: str, sentence: str
) -> None:
    page = open_page("experiments", tmp_path, ex_arguments=arguments)
    assert sentence in page.error[0].value.replace("\\", "")
    assert page.button(key="ex_start").disabled
    assert page.selectbox(key="ex_group_model").options  # still to be mended with


def test_a_wrong_choice_is_mended_with_its_box(tmp_path: Path, open_page: Open) -> None:
    page = open_page("experiments", tmp_path, ex_arguments="seed=1 model=vea")
    assert page.selectbox(key="ex_group_model").value == "vea"
    page.selectbox(key="ex_group_model").select("vae").run()
    assert page.text_area(key="ex_arguments").value == "seed=1 model=vae"
    assert not page.error
    assert not page.button(key="ex_start").disabled


def test_an_address_clones_a_run(tmp_path: Path, open_page: Open) -> None:
    make(tmp_path, "a", "finished", overrides=["model=beta_vae", "paths.log_dir=/x", "name='a b'"])
    page = open_page("experiments", tmp_path, clone="a")
    assert page.selectbox(key="ex_group_model").value == "beta_vae"
    assert "/x" not in command(page)
    assert "'a b'" in command(page)
    page = open_page("experiments", tmp_path, clone="../b")
    assert "there is no run" in page.error[0].value


def test_the_queue_shows_its_jobs_and_changes_them(tmp_path: Path, open_page: Open) -> None:
    waiting = queue.enqueue(tmp_path, ["seed=7"])
    failed = Job("f", ["model=x"], FAILED, 1.0, 2.0, 5.0, status=1, error="<b>no</b> *x*")
    write(tmp_path, failed)
    (tmp_path / ".queue" / "f.log").write_text("printed by f")
    page = open_page("experiments", tmp_path, ex_tab="Queue")
    assert [code.value.split(" paths")[0] for code in page.code] == [
        "python run_experiment.py seed=7",
        "python run_experiment.py model=x",
    ]
    assert page.error[0].value.replace("\\", "") == "<b>no</b> *x*"
    assert "took 3 s" in page.text[1].value
    page.toggle(key="ex_output_f").set_value(True).run()
    assert page.code[-1].value == "printed by f"
    page.number_input(key="ex_slots").set_value(3).run()
    assert queue.slots(tmp_path) == 3
    page.button(key=f"ex_cancel_{waiting.id}").click().run()
    assert {job.id: job.state for job in jobs(tmp_path)}[waiting.id] == "cancelled"
    page.button(key="ex_again_f").click().run()
    assert jobs(tmp_path)[-1].arguments == ["model=x"]
    page.button(key="ex_forget").click().run()
    assert [job.state for job in jobs(tmp_path)] == ["waiting"]
    assert not page.exception


def test_a_queue_that_nobody_works_through_is_told(tmp_path: Path, open_page: Open) -> None:
    queue.enqueue(tmp_path, [])
    page = open_page("experiments", tmp_path, ex_tab="Queue")
    assert "the process that starts them is gone" in page.warning[0].value
    assert button(page, "Go on with the queue")


def test_a_job_leads_to_its_run(tmp_path: Path, open_page: Open) -> None:
    make(tmp_path, "other", started=3e9)
    make(tmp_path, "vae/1")
    me = psutil.Process()
    write(tmp_path, Job("j", [], RUNNING, 1.0, 2.0, pid=me.pid, pid_started=me.create_time()))
    make(tmp_path, "other", started=3e9, pid=1)
    page = open_page("experiments", tmp_path, ex_tab="Queue")
    follow = [one for one in page.button if one.label.startswith("Follow")]
    assert [one.label.replace("\\", "") for one in follow] == ["Follow vae/1"]
    follow[0].click().run()
    assert page.selectbox(key="run").value == "vae/1"


def test_a_run_is_followed_and_controlled(tmp_path: Path, open_page: Open) -> None:
    run = make(tmp_path, "a")
    log(run, 5.0, 3.0)
    (run / "run.log").write_text("the last line")
    (run / "figures").mkdir()
    Figure(figsize=(1, 1)).savefig(run / "figures" / "samples_epoch_2.png")
    (run / "figures" / "broken.png").write_bytes(b"no picture")
    page = open_page("experiments", tmp_path, run="a")
    assert {m.label: m.value for m in page.metric}["State"] == "running"
    assert page.multiselect(key="ex_terms").value == ["loss"]
    assert len(page.get("vega_lite_chart")) == 1
    assert page.code[-1].value == "the last line"
    assert len(page.get("image") or page.get("imgs")) == 1
    assert "cannot be read as a picture" in page.error[0].value.replace("\\", "")
    disabled = {one.label: one.disabled for one in page.button}
    assert not disabled["Pause"] and not disabled["Stop"]
    assert disabled["Resume"] and disabled["Resume from checkpoint"]
    button(page, "Pause").click().run()
    assert pending(run) == "pause"
    assert "Asked to pause" in page.info[-1].value
    make(tmp_path, "a", "paused")
    page.run()
    button(page, "Resume").click().run()
    assert pending(run) == "resume"
    make(tmp_path, "a", "running")
    page.run()
    assert not page.info
    button(page, "Stop").click().run()
    assert pending(run) == "stop"
    assert all(button(page, label).disabled for label in ("Pause", "Resume", "Stop"))


def test_a_run_that_ended_early_goes_on_through_the_queue(tmp_path: Path, open_page: Open) -> None:
    run = make(tmp_path, "a", "stopped")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    page = open_page("experiments", tmp_path, run="a")
    button(page, "Resume from checkpoint").click().run()
    job = jobs(tmp_path)[0]
    assert job.arguments == [f"ckpt_path={run}/checkpoints/last.ckpt"]
    assert "It is in the queue" in page.info[0].value
    assert button(page, "Resume from checkpoint").disabled
    write(tmp_path, Job(**{**vars(job), "state": FAILED, "error": "no room"}))
    page.run()
    assert "did not: no room" in page.error[0].value.replace("\\", "")
    assert not button(page, "Resume from checkpoint").disabled
    button(page, "Clone").click().run()
    assert page.text_area(key="ex_arguments").value == "seed=3"


def test_notes_and_tags_are_kept(tmp_path: Path, open_page: Open) -> None:
    run = make(tmp_path, "a", "finished")
    page = open_page("experiments", tmp_path, run="a")
    assert page.multiselect(key=f"ex_tags_{run}").value == ["a"]
    page.text_area(key=f"ex_note_{run}").set_value("good")
    button(page, "Save").click().run()
    assert json.loads((run / "notes.json").read_text()) == {"tags": ["a"], "text": "good"}
    (run / "notes.json").write_text("{")
    page.run()
    assert "notes.json is not JSON" in page.error[0].value.replace("\\", "")


def test_notes_of_another_window_are_not_lost(tmp_path: Path, open_page: Open) -> None:
    run = make(tmp_path, "a", "finished")
    page = open_page("experiments", tmp_path, run="a")
    write_notes(read_run(run), ["b"], "theirs")
    page.text_area(key=f"ex_note_{run}").set_value("mine")
    button(page, "Save").click().run()
    assert read_notes(read_run(run)).text == "theirs"
    assert "Somebody else" in page.warning[0].value and page.text[-1].value == "theirs"
    button(page, "Save").click().run()
    assert read_notes(read_run(run)).text == "mine" and not page.warning


def test_folders_in_the_place_of_files_are_told(tmp_path: Path, open_page: Open) -> None:
    run = make(tmp_path, "a", "finished")
    for name in ("metrics.jsonl", "run.log", "config.yaml"):
        (run / name).mkdir()
    page = open_page("experiments", tmp_path, run="a")
    said = " ".join(one.value.replace("\\", "") for one in page.error)
    assert "metrics.jsonl cannot be read" in said and "config.yaml cannot be read" in said


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"state": 3, "progress": "x", "tags": 5}', "{}", "[" * 10**5]
)
def test_a_foreign_or_damaged_run_breaks_nothing(
    tmp_path: Path, open_page: Open, content: str
) -> None:
    make(tmp_path, "good", "finished")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text(content)
    page = open_page("experiments", tmp_path, run="bad")
    assert len(page.error) <= 1
    page.selectbox(key="run").select("good").run()
    assert not page.exception
    assert not page.error


def test_two_runs_show_two_sets_of_numbers(digits_logs: Path, open_page: Open) -> None:
    """Other weights, other numbers: nothing on the page is made up."""
    seen = []
    for name in ("vae/1", "vae/2"):
        page = open_page("experiments", digits_logs, run=name)
        results = json.loads((digits_logs / name / "run.json").read_text())["optimized"]
        shown = {metric.label.replace("\\", ""): metric.value for metric in page.metric}
        assert f"{results['val/loss']:.4g}" in shown["val/loss, optimised"].replace("\\", "")
        charts = [chart.proto.SerializeToString() for chart in page.get("vega_lite_chart")]
        seen.append((shown["val/loss, optimised"], charts))
    assert seen[0][0] != seen[1][0]
    assert len(seen[0][1]) == 4
    assert all(one != other for one, other in zip(seen[0][1], seen[1][1], strict=True))


def test_jobs_that_wait_in_slurm_are_listed(
    tmp_path: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho '7|PENDING'\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "jobs.json").write_text('{"0": {"directory": "/x/0", "job_id": "7"}}')
    page = open_page("experiments", tmp_path, ex_tab="Queue")
    row = {"job": "7", "state": "PENDING", "run": "/x/0"}
    assert page.dataframe[0].value.to_dict("records") == [row]


def test_an_empty_place_says_what_to_do(tmp_path: Path, open_page: Open) -> None:
    page = open_page("experiments", tmp_path, ex_tab="Run")
    assert "no such run" in page.info[0].value
    page = open_page("experiments", tmp_path, ex_tab="Queue")
    assert "Nothing is queued" in page.info[0].value
