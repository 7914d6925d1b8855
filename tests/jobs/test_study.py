"""Who runs which trial, without running any."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage

from src.jobs.outcome import COMPLETE, FAILED, OPEN, PRUNED, Outcome, outcome_of
from src.jobs.owners import ALIVE, DOUBTED, GONE, own_name, owner_state
from src.jobs.space import sampler_factory
from src.jobs.storage import claiming, open_storage
from src.jobs.study import OWNER, SharedStudy, open_study
from src.jobs.sweeper import Interrupted, StudySweeper
from src.utils.errors import UserError

SPACE = {"x": FloatDistribution(0.0, 1.0), "lr": FloatDistribution(1e-4, 1e-1, log=True)}
GRID = {"a": CategoricalDistribution([1, 2]), "b": IntDistribution(0, 4, step=2)}
SETUP = {"overrides": {"data": "digits"}, "space": {"x": "…"}}
NOBODY = f"{socket.gethostname()}:999999:1.00"


def config(name: str, **options: Any) -> Any:
    module = "optuna.samplers"
    return OmegaConf.create({"_target_": f"{module}.{name}", "seed": None, **options})


def shared(
    directory: Path,
    n: int = 5,
    sampler: str = "RandomSampler",
    space: dict | None = None,
    **options: Any,
) -> SharedStudy:
    """A worker's view of the study in a directory."""
    space = SPACE if space is None else space
    storage = open_storage(None, directory)
    study = open_study(storage, "one", ["minimize"], SETUP)
    return SharedStudy(
        study,
        directory,
        n,
        ["loss"],
        space,
        sampler_factory(config(sampler, **options), space, seed=0),
        partial(claiming, storage, None, directory, "one"),
    )


def write_run(directory: Path, number: int, **fields: Any) -> None:
    run = directory / str(number)
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text(json.dumps(fields))


def loss(params: dict[str, float]) -> float:
    return (params["x"] - 0.3) ** 2 + abs(params["lr"] - 1e-2)


def run_all(worker: SharedStudy, most: int = 100) -> list[dict[str, Any]]:
    found = []
    while len(found) < most and (claim := worker.claim(threading.Event())) is not None:
        found.append(claim.params)
        worker.tell(
            claim.number, Outcome(COMPLETE, (float(sum(map(float, claim.params.values()))),))
        )
    return found


@pytest.mark.parametrize(
    "sampler",
    ["TPESampler", "RandomSampler", "CmaEsSampler", "GPSampler", "NSGAIISampler", "QMCSampler"],
)
def test_an_interrupted_study_suggests_what_an_uninterrupted_one_does(
    sampler: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = run_all(shared(tmp_path / "whole", 14, sampler))
    parts: list[dict[str, Any]] = []
    for _ in range(4):  # another sitting each
        parts += run_all(shared(tmp_path / "parts", 14, sampler), most=4)
    assert len({str(params) for params in whole}) == 14
    assert parts == whole


def test_a_grid_gives_every_point_once_to_two_workers(tmp_path: Path) -> None:
    workers = [shared(tmp_path, 6, "GridSampler", GRID, _partial_=True) for _ in range(2)]
    found = []
    for turn in range(6):
        claim = workers[turn % 2].claim(threading.Event())
        assert claim is not None
        found.append((claim.params["a"], claim.params["b"]))
        workers[turn % 2].tell(claim.number, Outcome(COMPLETE, (1.0,)))
    assert sorted(found) == [(a, b) for a in (1, 2) for b in (0, 2, 4)]
    assert [worker.claim(threading.Event()) for worker in workers] == [None, None]


def test_many_threads_never_make_a_trial_too_many(tmp_path: Path) -> None:
    found: list[int] = []

    def work() -> None:
        worker = shared(tmp_path, 9)
        while (claim := worker.claim(threading.Event())) is not None:
            found.append(claim.number)
            worker.tell(claim.number, Outcome(COMPLETE, (loss(claim.params),)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == list(range(9))
    assert len(shared(tmp_path, 9).trials()) == 9


def test_a_trial_whose_worker_is_gone_goes_on_and_one_that_is_at_work_does_not(
    tmp_path: Path,
) -> None:
    worker = shared(tmp_path)
    lost, held = worker.claim(threading.Event()), worker.claim(threading.Event())
    assert lost is not None and held is not None and held.number == 1
    worker.storage.set_trial_system_attr(worker._id(0), OWNER, NOBODY)
    last = tmp_path / "0" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    again = shared(tmp_path).claim(threading.Event())
    assert again is not None
    assert (again.number, again.params, again.checkpoint) == (0, lost.params, last)
    following = shared(tmp_path).claim(threading.Event())
    assert following is not None and following.number == 2


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"state": "finished", "optimized": {"loss": 0.5}}, "COMPLETE"),
        ({"state": "finished", "optimized": {"loss": None}}, "FAIL"),
        ({"state": "stopped", "pruned": 7}, "PRUNED"),
        ({"state": "failed", "error": "OutOfMemoryError: no"}, "FAIL"),
    ],
)
def test_a_run_that_ended_when_its_sweep_was_gone_counts(
    fields: dict, state: str, tmp_path: Path
) -> None:
    worker = shared(tmp_path)
    assert worker.claim(threading.Event()) is not None
    worker.storage.set_trial_system_attr(worker._id(0), OWNER, NOBODY)
    write_run(tmp_path, 0, **fields)
    claim = shared(tmp_path).claim(threading.Event())
    assert claim is not None and claim.number == 1
    trial = worker.trials()[0]
    assert trial.state.name == state
    assert (trial.user_attrs.get("error") is not None) == (state == "FAIL")


def test_a_trial_that_brings_down_every_worker_is_given_up(tmp_path: Path) -> None:
    numbers = []
    for _ in range(5):
        worker = shared(tmp_path, 2)
        claim = worker.claim(threading.Event())
        assert claim is not None
        numbers.append(claim.number)
        worker.storage.set_trial_system_attr(worker._id(claim.number), OWNER, NOBODY)
        write_run(tmp_path, claim.number, state="running", pid=0, progress={"step": 0})
    assert numbers == [0, 0, 0, 0, 1]
    assert "interrupted 3 times" in shared(tmp_path, 2).trials()[0].user_attrs["error"]


def test_a_trial_given_back_after_an_error_of_all_is_tried_again(tmp_path: Path) -> None:
    worker = shared(tmp_path)
    assert worker.claim(threading.Event()) is not None
    worker.give_back(0)
    write_run(tmp_path, 0, state="failed", error="UnknownMetric: no")
    again = shared(tmp_path).claim(threading.Event())
    assert again is not None and again.number == 0


def test_the_config_s_own_values_come_first_and_once(tmp_path: Path) -> None:
    own = {"x": 0.5, "lr": 1e-3}
    for _ in range(2):
        worker = shared(tmp_path)
        worker.note_defaults(own, first=True)
    first, second = worker.claim(threading.Event()), worker.claim(threading.Event())
    assert first is not None and second is not None
    assert (first.number, first.params) == (0, own) and second.params != own


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        ({"overrides": {"data": "atari"}}, "begun with data=digits, and now it is atari"),
        ({"overrides": {}}, "begun with data=digits, and now it is nothing"),
        ({"space": {"x": "…", "y": "…"}}, "begun with y=nothing"),
    ],
)
def test_a_resumed_study_must_be_the_same(now: dict, sentence: str, tmp_path: Path) -> None:
    worker = shared(tmp_path)
    claim = worker.claim(threading.Event())
    assert claim is not None
    worker.tell(claim.number, Outcome(COMPLETE, (1.0,)))
    with pytest.raises(UserError, match=sentence):
        open_study(worker.storage, "one", ["minimize"], SETUP | now)
    open_study(
        worker.storage,
        "one",
        ["minimize"],
        SETUP | {"overrides": {"data": "digits", "logger": "wandb"}},
    )


def test_the_state_of_workers_here_and_elsewhere() -> None:
    import time

    away = "elsewhere:17:3.00"
    assert owner_state(own_name(), {}) == ALIVE
    assert owner_state(NOBODY, {}) == owner_state(None, {}) == owner_state(away, {}) == GONE
    assert (
        owner_state(f"{socket.gethostname()}:{os.getpid()}:1.00", {}) == GONE
    )  # the number was given again
    assert owner_state(away, {f"worker:{away}": time.time()}) == ALIVE
    assert owner_state(away, {f"worker:{away}": time.time() - 60}) == DOUBTED


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"state": "finished", "optimized": {"loss": 2}}, Outcome(COMPLETE, (2.0,))),
        ({"state": "finished"}, Outcome(FAILED, error="loss is not a finite number")),
        ({"state": "stopped", "pruned": 0}, Outcome(PRUNED, note="after epoch 0")),
        ({"state": "stopped", "stopped_by": "request"}, Outcome(PRUNED, note="stopped by request")),
        (
            {"state": "stopped", "stopped_by": "SIGTERM"},
            Outcome(OPEN, error="stopped by SIGTERM", note="SIGTERM"),
        ),
        ({"state": "running", "pid": 0}, Outcome(OPEN, error="its run is dead")),
    ],
)
def test_outcome_of_a_run(fields: dict, outcome: Outcome, tmp_path: Path) -> None:
    write_run(tmp_path, 0, **fields | {"host": socket.gethostname()})
    assert outcome_of(tmp_path / "0", ["loss"]) == outcome


def test_trials_are_told_with_their_values(tmp_path: Path) -> None:
    worker = shared(tmp_path, 2)
    for outcome in (Outcome(FAILED, error="no"), Outcome(COMPLETE, (3.0,))):
        claim = worker.claim(threading.Event())
        assert claim is not None
        worker.tell(claim.number, outcome)
    study = optuna.load_study(study_name="one", storage=worker.storage)
    assert isinstance(worker.storage, JournalStorage)
    assert study.best_trial.number == 1 and study.trials[0].user_attrs["error"] == "no"
    assert study.trials[1].user_attrs["directory"] == str(tmp_path / "1")


def test_a_worker_that_is_killed_while_it_claims_keeps_nobody_out(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from src.jobs.storage import claiming, open_storage\n"
        "folder = Path(sys.argv[1])\n"
        "with claiming(open_storage(None, folder), None, folder, 'one'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        claimed: list[Any] = []
        waiting = threading.Thread(
            target=lambda: claimed.append(shared(tmp_path).claim(threading.Event()))
        )
        waiting.start()
        waiting.join(1)
        assert not claimed  # it is held
        holder.kill()
    waiting.join(10)
    assert [claim.number for claim in claimed] == [0]


def test_a_worker_that_waits_for_another_s_trial_can_be_ended(tmp_path: Path) -> None:
    worker = shared(tmp_path, n=1)
    assert worker.claim(threading.Event()) is not None
    worker.storage.set_trial_system_attr(worker._id(0), OWNER, "elsewhere:1:1.00")
    beat = time.time() - 60  # overdue, and not given up yet
    worker.storage.set_study_system_attr(worker.study._study_id, "worker:elsewhere:1:1.00", beat)
    ending, found = threading.Event(), []
    thread = threading.Thread(target=lambda: found.append(shared(tmp_path, n=1).claim(ending)))
    thread.start()
    thread.join(2)
    assert thread.is_alive()
    ending.set()
    thread.join(5)
    assert found == [None]


def test_a_study_is_not_changed_under_a_trial_that_runs(tmp_path: Path) -> None:
    worker = shared(tmp_path)
    claim = worker.claim(threading.Event())
    assert claim is not None
    other = SETUP | {"overrides": {"data": "images"}}
    storage = open_storage(None, tmp_path)
    with pytest.raises(UserError, match="this study was begun with data=digits"):
        open_study(storage, "one", ["minimize"], other)
    worker.give_back(claim.number, void=True)  # what it was run with could not be run
    assert open_study(storage, "one", ["minimize"], other).user_attrs["setup"] == other


@pytest.mark.parametrize("in_job", [False, True], ids=["on a login node", "in a job"])
def test_a_trial_whose_job_is_not_requeued_ends_only_a_sweep_in_the_same_job(
    in_job: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Launched:
        def launch(self, overrides: Any, initial_job_idx: int) -> list[JobReturn]:
            write_run(tmp_path, initial_job_idx, state="stopped", stopped_by="SIGUSR1")
            returned = JobReturn(status=JobStatus.FAILED)
            returned.return_value = UserError("job 0: SLURM wants the place of job 12")
            return [returned]

    if in_job:
        monkeypatch.setenv("SLURM_JOB_ID", "12")
    one: dict[str, Any] = {"study_name": "one", "n_trials": 1, "n_jobs": 1, "max_failure_rate": 1}
    none = dict.fromkeys(("sampler", "pruner", "storage", "params", "folder"))
    sweeper = StudySweeper(**one, **none, direction="minimize", defaults_first=False)
    sweeper.shared, sweeper.directory, sweeper.metrics = shared(tmp_path, 1), tmp_path, ["loss"]
    sweeper.launcher, sweeper.fixed = Launched(), []
    with pytest.raises(Interrupted) if in_job else nullcontext():
        sweeper._run_all()
    (trial,) = sweeper.shared.trials()
    assert trial.state.name == ("RUNNING" if in_job else "FAIL")
    assert trial.system_attrs[OWNER] is None or not in_job
    assert ("SLURM wants the place" in trial.user_attrs.get("error", "")) is not in_job
