"""What can be done with a run in its state."""

import json
import os
from pathlib import Path

import psutil
import pytest

from src.runs import read_run, request
from src.runs.actions import arguments_of, awaited, can_go_on, going_on, possible_requests
from src.runs.queue import FAILED, WAITING, Job
from src.runs.reading import Run
from src.utils.arguments import joined, split
from src.utils.errors import UserError


def make(path: Path, state: str, **info: object) -> Run:
    me = psutil.Process()
    content = {"state": state, "host": os.uname().nodename, "pid": me.pid}
    path.mkdir(exist_ok=True)
    content |= {"pid_started": me.create_time()}
    (path / "run.json").write_text(json.dumps(content | info))
    return read_run(path)


@pytest.mark.parametrize(
    ("state", "possible"),
    [
        ("starting", {"pause", "stop"}),
        ("running", {"pause", "stop"}),
        ("paused", {"resume", "stop"}),
        ("finished", set()),
        ("stopped", set()),
        ("failed", set()),
    ],
)
def test_requests_mean_something_while_a_run_is_alive(
    tmp_path: Path, state: str, possible: set[str]
) -> None:
    assert possible_requests(make(tmp_path, state)) == possible


def test_what_has_been_asked_for_is_awaited_and_not_asked_again(tmp_path: Path) -> None:
    run = make(tmp_path, "running")
    assert awaited(run) is None
    request(run.path, "pause")
    assert awaited(run) == "pause"
    assert possible_requests(run) == {"resume", "stop"}
    paused = make(tmp_path, "paused")
    assert awaited(paused) is None
    request(run.path, "resume")
    assert awaited(paused) == "resume"
    assert possible_requests(paused) == {"pause", "stop"}
    assert awaited(run) is None  # the request is still there, and done
    assert possible_requests(run) == {"pause", "stop"}
    request(run.path, "stop")
    assert (awaited(run), possible_requests(run)) == ("stop", set())
    assert awaited(make(tmp_path, "stopped")) is None


def test_a_run_goes_on_from_its_checkpoint_once(tmp_path: Path) -> None:
    run = make(tmp_path / "a b", "stopped")
    assert not can_go_on(run, [])
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "last.ckpt").touch()
    assert can_go_on(run, [])
    assert can_go_on(make(run.path, "failed"), [])
    assert can_go_on(make(run.path, "running", pid_started=1.0), [])  # dead
    assert not can_go_on(make(run.path, "running"), [])
    assert not can_go_on(make(run.path, "finished"), [])
    assert not can_go_on(run, [Job("x", going_on(run), WAITING)])
    assert can_go_on(run, [Job("x", going_on(run), FAILED)])
    assert going_on(run) == [f"ckpt_path='{run.path}/checkpoints/last.ckpt'"]
    assert (
        going_on(make(tmp_path / "a", "stopped"))[0]
        == f"ckpt_path={tmp_path}/a/checkpoints/last.ckpt"
    )


def test_a_copy_has_the_choices_of_a_run_but_not_its_place(tmp_path: Path) -> None:
    places = ["paths.log_dir=/x", "hydra.run.dir=/y", "ckpt_path=z", "hydra/launcher=slurm"]
    kept = ["model=beta_vae", "data.path='/a b'", "~callbacks.figures", "train=false"]
    run = make(tmp_path, "finished", overrides=[*places[:2], *kept, *places[2:]])
    assert arguments_of(run) == [*kept, "hydra/launcher=slurm"]


@pytest.mark.parametrize(
    "overrides", [None, "model=vae", [1], ["name=${oc.env:SECRET}"], ["name=${oc.env:\nA}"]]
)
def test_a_strangers_run_asks_this_machine_for_nothing(tmp_path: Path, overrides: object) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        arguments_of(make(tmp_path, "finished", overrides=overrides))


def test_a_copy_may_be_written_as_text(tmp_path: Path) -> None:
    run = make(tmp_path, "finished", overrides=["name='a b'", "seed=1"])
    assert split(joined(arguments_of(run))) == ["name='a b'", "seed=1"]
