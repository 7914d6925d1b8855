"""Reading runs in whatever state they are."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from src.callbacks.run_logger import RunLogger
from src.runs import list_runs, read_run
from src.runs.__main__ import main
from src.runs.reading import SILENCE
from src.runs.record import RunRecord
from src.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def run(directory: Path, **fields) -> Path:
    """A run.json with the fields that matter here."""
    directory.mkdir(parents=True, exist_ok=True)
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "pid_started": psutil.Process().create_time(),
        "updated": time.time(),
    }
    (directory / "run.json").write_text(
        json.dumps({"state": "running", "started": 0} | mine | fields)
    )
    return directory


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("state", ["starting", "running", "paused"])
def test_a_run_whose_process_is_gone_is_dead(tmp_path, state):
    assert read_run(run(tmp_path, state=state)).state == state
    assert read_run(run(tmp_path, state=state, pid=gone())).state == "dead"
    assert (
        read_run(run(tmp_path, state=state, pid_started=1.0)).state == "dead"
    )  # the id belongs to another process now


def test_a_killed_process_that_nobody_has_waited_for_is_dead(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run(tmp_path, pid=process.pid, pid_started=psutil.Process(process.pid).create_time())
    assert read_run(tmp_path).state == "running"
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert read_run(tmp_path).state == "dead"
    process.communicate()


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_an_ended_run_needs_no_process(tmp_path, state):
    assert read_run(run(tmp_path, state=state, pid=gone())).state == state


def test_a_run_elsewhere_is_judged_by_its_silence(tmp_path):
    assert read_run(run(tmp_path, host="node17", pid=gone())).state == "running"
    assert read_run(run(tmp_path, host="node17", updated=time.time() - SILENCE - 5)).state == "dead"


@pytest.mark.parametrize(
    "fields",
    [
        {"pid": None},
        {"pid": "many"},
        {"pid": -4},
        {"pid": float("inf")},
        {"pid": 10**400},
        {"pid_started": None},
        {"pid_started": 10**400},
        {"host": "node17", "updated": 10**400},
        {"host": "node17", "updated": float("nan")},
    ],
)
def test_a_strangers_nonsense_is_a_dead_run(tmp_path, fields):
    assert read_run(run(tmp_path, **fields)).state == "dead"


def test_what_a_record_writes_is_what_is_read(tmp_path):
    record = RunRecord(tmp_path / "a", name="vae_digits", tags=["dev"])
    found = read_run(tmp_path / "a")
    assert (found.state, found.info["name"], found.info["schema"], found.info["pid"]) == (
        "starting",
        "vae_digits",
        1,
        os.getpid(),
    )
    record.update(state="finished", progress={"epoch": 3})
    assert read_run(tmp_path / "a").state == "finished" and read_run(tmp_path / "a").info[
        "progress"
    ] == {"epoch": 3}
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["run.json"]


def test_runs_are_listed_newest_first_wherever_they_lie(tmp_path):
    for number, name in enumerate(("vae/1", "vae/multirun/2/0", "ae/3")):
        run(tmp_path / name, started=number, state="finished")
    assert [str(found.path.relative_to(tmp_path)) for found in list_runs(tmp_path)] == [
        "ae/3",
        "vae/multirun/2/0",
        "vae/1",
    ]
    assert list_runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "content", [b"{half", b"", b"[1]", b"\xff\xfe", b"[" * 10**5, b"1" * 5000], ids=len
)
def test_a_damaged_run_is_named_and_hides_no_other(tmp_path, content, capsys):
    run(tmp_path / "good", state="finished", started=1)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_bytes(content)
    with pytest.raises(UserError, match="bad/run.json (is not JSON|describes no run)"):
        read_run(tmp_path / "bad")
    assert [(found.path.name, found.state) for found in list_runs(tmp_path)] == [
        ("good", "finished"),
        ("bad", "unreadable"),
    ]
    main([str(tmp_path)])
    assert "unreadable" in (shown := capsys.readouterr().out) and "good" in shown


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no run: it has no run.json"):
        read_run(tmp_path)


def test_metrics_are_readable_while_they_are_written(tmp_path):
    run(tmp_path)
    assert list(read_run(tmp_path).metrics()) == [] and read_run(tmp_path).results == {}
    logger = RunLogger(tmp_path)
    logger.log_metrics({"train/loss": 2.5, "epoch": 0}, step=1)
    logger.log_metrics({"train/loss": float("nan"), "lr": float("inf")}, step=2)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "met')
    rows = list(read_run(tmp_path).metrics())
    assert [(row["step"], row["epoch"], row["metrics"]) for row in rows] == [
        (1, 0, {"train/loss": 2.5}),
        (2, None, {"train/loss": None, "lr": None}),
    ]


def test_a_run_resumed_after_a_kill_keeps_its_log_readable(tmp_path):
    run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "metrics": {}}\n{"step": 2, "metr')
    logger = RunLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, step=2)
    logger.log_metrics({"a": 1.0}, step=3)
    assert [row["step"] for row in read_run(tmp_path).metrics()] == [1, 2, 3]


def test_listing_runs_and_composing_a_config_import_no_torch(tmp_path):
    run(tmp_path / "one", state="finished")
    code = f"""
import sys
from src.runs import list_runs, read_run, request
assert [run.state for run in list_runs({str(tmp_path)!r})] == ["finished"]
list(read_run({str(tmp_path / "one")!r}).metrics())
from hydra import compose, initialize_config_dir
from src.utils.main import register_resolvers
register_resolvers()
with initialize_config_dir({str(ROOT / "conf")!r}):
    compose("config", overrides=["model=beta_vae"])
heavy = {{"torch", "lightning", "numpy", "matplotlib", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_runs_are_found_wherever_they_lie_but_not_among_a_run_s_own_files(tmp_path):
    places = ["model/1", "sweep", "sweep/trials/0", "sweep/features x/0"]
    for place in [*places, "sweep/model", "sweep/checkpoints/deep"]:
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "run.json").write_text("{}")
    found = {str(one.path.relative_to(tmp_path)) for one in list_runs(tmp_path)}
    assert found == set(places)


def test_files_that_cannot_be_read_are_told(tmp_path):
    run(tmp_path)
    for name in ("metrics.jsonl", "results.json"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="metrics.jsonl cannot be read: Is a directory"):
        list(read_run(tmp_path).metrics())
    with pytest.raises(UserError, match="results.json cannot be read: Is a directory"):
        _ = read_run(tmp_path).results


def test_what_no_browser_can_be_sent_is_not_read(tmp_path):
    run(tmp_path / "a", state="failed", error="\ud800 and \U0001f600", started=float("nan"))
    run(tmp_path / "b", state="finished", started=5)
    run(tmp_path / os.fsdecode(b"\xff"), state="finished")
    found = {one.path.name: one.info for one in list_runs(tmp_path)}
    assert [*found] == ["b", "a"]
    assert found["a"]["error"] == "? and \U0001f600"
    lines = '{"metrics": {"train/\\ud800": 1}}\n' + "[" * 10**5 + "\n" + "1" * 5000 + "\n"
    (tmp_path / "a" / "metrics.jsonl").write_text(lines)
    assert list(read_run(tmp_path / "a").metrics()) == [{"metrics": {"train/?": 1}}]
