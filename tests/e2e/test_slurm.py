"""The same command on a cluster: a real SLURM of two nodes on this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.runs import list_runs, read_run
from tests.e2e.conftest import ROOT, SMALL, Shell
from tests.e2e.test_endings import EXACT, assert_same_training, contents, step, wait_for
from tests.e2e.test_many_processes import mse_of_the_whole_test_split

pytestmark = pytest.mark.slow
LOCAL = ROOT / "scripts" / "slurm_local.sh"
QUICK = [*SMALL, "logger=none", "callbacks=minimal"]
ASKED = ["cluster=slurm", "cluster.time=10", "cluster.poll_s=0.5"]
LONG = "trainer.max_epochs=100000"


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of this file's own, which every command of these tests finds."""
    missing = [
        tool for tool in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(tool)
    ]
    if missing or os.geteuid() != 0:
        what = (
            f"{missing[0]} (apt-get install slurmctld slurmd slurm-client munge)"
            if missing
            else "root"
        )
        pytest.skip(f"a SLURM of one's own needs {what}")
    folder = tmp_path_factory.mktemp("slurm")
    with open(folder / "started", "w") as output:  # no pipe: the daemons would hold it open
        subprocess.run(
            [LOCAL, "start", folder], stdout=output, stderr=output, check=True, timeout=60
        )
    before = dict(os.environ)
    shown = subprocess.run(
        ["bash", "-c", f"source {folder}/env && env -0"], capture_output=True, text=True, check=True
    )
    os.environ.update(pair.split("=", 1) for pair in shown.stdout.split("\0") if pair)
    yield
    with open(folder / "stopped", "w") as output:
        subprocess.run(
            [LOCAL, "stop", folder], stdout=output, stderr=output, check=True, timeout=60
        )
    os.environ.clear()
    os.environ.update(before)


def slurm(*command: str) -> str:
    """Run a command of SLURM's."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def runs(*arguments: str) -> str:
    """``python -m src.runs``."""
    done = subprocess.run(
        [sys.executable, "-m", "src.runs", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def state(job: str) -> str:
    """The queue's word on a job."""
    return slurm("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")


def release(job: str) -> None:
    """Let a requeued job start, which SLURM would hold for two minutes, counted anew once it has left its nodes."""

    def started() -> bool:
        if state(job) == "PENDING":
            slurm("scontrol", "update", f"jobid={job}", "StartTime=now")
            # Its scheduler looks at a job some seconds after a change, and each change makes it wait again.
            time.sleep(4)
        return state(job) != "PENDING"

    wait_for(lambda: state(job) == "PENDING")
    # A node takes what was signed in the second of the job's end for the job that it has ended, and fails it.
    time.sleep(2)
    wait_for(started, seconds=150)


def info(run: Path) -> dict:
    return read_run(run).info


def rows(run: Path) -> list[tuple]:
    """What was logged, without when."""
    return [(row["step"], row["epoch"], *sorted(row["metrics"])) for row in read_run(run).metrics()]


def test_two_nodes_train_one_run_and_evaluate_it(shell: Shell) -> None:
    sweep = shell.folder / "sweep"
    printed = shell(
        "-m", *ASKED, "cluster.nodes=2", "trainer=ddp", "trainer.max_epochs=2", *QUICK, f"hydra.sweep.dir={sweep}"
    )  # fmt: skip
    run = read_run(sweep / "0")
    assert "RUNNING" in printed and re.search(r"job 0 .* finished: \d", printed)
    assert run.state == "finished" and run.info["device"] == "2 × cpu"
    assert run.info["nodes"] == "n[1-2]" and run.info["restarts"] == 0
    assert "python run_experiment.py -m cluster=slurm" in run.info["command"]
    metrics = {name: row["value"] for name, row in run.results["metrics"].items()}
    assert metrics["test/num_samples"] == 359 and run.info["progress"]["step"] == 10
    assert metrics["test/mse"] == pytest.approx(mse_of_the_whole_test_split(run.path), rel=1e-5)
    assert [one.path for one in list_runs(sweep)] == [run.path]
    assert {file.name for file in run.path.glob("*.log")} == {"run.log", "run_rank1.log"}


def test_a_job_that_makes_way_ends_as_if_it_had_not(shell: Shell) -> None:
    exact = [*SMALL, *EXACT, "trainer.max_epochs=10"]
    whole = shell.start(f"hydra.run.dir={shell.directory('whole')}", *exact)
    sweep = shell.folder / "sweep"
    run = sweep / "0"
    process = shell.start("-m", *ASKED, *exact, f"hydra.sweep.dir={sweep}")
    wait_for(lambda: step(run) >= 100, seconds=120)
    job = info(run)["job_id"]
    slurm("srun", "--partition=hi", "--nodes=2", "--exclusive", "true")
    wait_for(lambda: state(job) == "PENDING")
    waiting = info(run)
    assert waiting["state"] == "stopped" and waiting["requeued"] and waiting["error"] is None
    stopped_at = contents(run)["global_step"]
    assert waiting["progress"]["step"] == stopped_at >= 100
    assert re.search(rf"stopped .* {job} .* PENDING", runs(str(sweep)))
    release(job)
    printed, _ = process.communicate(timeout=150)
    assert process.returncode == 0 and "job 0" in printed, printed[-3000:]
    assert info(run)["state"] == "finished" and info(run)["restarts"] == 1
    whole.communicate(timeout=150)
    other = shell.directory("whole")
    assert_same_training(run, other)
    assert len(set(rows(run))) == len(rows(run))
    # The steps up to the stop have a row of their own where it fell between two.
    assert [row for row in rows(run) if row[0] != stopped_at - 1] == [
        row for row in rows(other) if row[0] != stopped_at - 1
    ]
    assert set(rows(other)) <= set(rows(run))


def test_a_cancelled_job_is_not_the_end_of_the_others(shell: Shell) -> None:
    sweep = shell.folder / "sweep"
    process = shell.start(
        "-m", *ASKED, *QUICK, "trainer.max_epochs=1,2,3,100000", f"hydra.sweep.dir={sweep}"
    )  # fmt: skip
    wait_for(lambda: step(sweep / "3") >= 10, seconds=120)
    last = info(sweep / "3")
    assert re.fullmatch(r"\d+_3", last["job_id"]) and state(last["job_id"]) == "RUNNING"
    assert f"cancelled SLURM job {last['job_id']}" in runs("cancel", str(sweep / "3"))
    printed, _ = process.communicate(timeout=150)
    assert process.returncode == 1 and "Traceback" not in printed
    assert re.search(rf"^error: job 3 \(SLURM job {last['job_id']}\): ", printed, re.MULTILINE)
    found = {run.path.name: run.state for run in list_runs(sweep)}
    assert found == {"0": "finished", "1": "finished", "2": "finished", "3": "stopped"}
    assert contents(sweep / "3")["global_step"] >= 10
    # A job's result is there before its processes have ended.
    array = last["job_id"].partition("_")[0]
    wait_for(lambda: {*state(array).split()} <= {"COMPLETED", "CANCELLED"})
    assert state(last["job_id"]) == "CANCELLED"
    assert "no job of" in runs("cancel", str(sweep))
    assert "3 is stopped and needs SLURM job" in runs("cancel", str(sweep / "3"))


def test_the_template_trains_on_several_processes_and_goes_on_after_a_signal(shell: Shell) -> None:
    job = slurm(
        "sbatch", "--parsable", "--ntasks-per-node=2", f"--output={shell.folder}/out", "scripts/train.sbatch",
        *QUICK, "trainer=ddp", "trainer.max_epochs=30", f"paths.log_dir={shell.folder}/logs",
    )  # fmt: skip
    run = shell.folder / "logs" / "vae_digits" / f"slurm_{job}_0"
    wait_for(lambda: step(run) >= 10, seconds=120)
    slurm("scancel", "--signal=USR1", job)
    release(job)
    wait_for(lambda: info(run)["state"] == "finished", seconds=150)
    assert info(run)["restarts"] == 1 and info(run)["progress"]["step"] == 150
    assert read_run(run).results["metrics"]["test/num_samples"]["value"] == 359
    assert {file.name for file in run.glob("*.log")} == {"run.log", "run_rank1.log"}
    assert len(list_runs(shell.folder)) == 1


def test_a_job_that_may_not_be_requeued_says_so_and_keeps_its_state(shell: Shell) -> None:
    sweep = shell.folder / "sweep"
    once = ["cluster.wait=false", "cluster.max_requeues=0"]
    printed = shell("-m", *ASKED, *once, *QUICK, LONG, f"hydra.sweep.dir={sweep}")
    job = re.search(rf"job 0 is SLURM job (\d+) in {sweep}/0", printed)[1]
    wait_for(lambda: step(sweep / "0") >= 10, seconds=120)
    again = shell("-m", *ASKED, *once, *QUICK, LONG, f"hydra.sweep.dir={sweep}", status=1)
    assert f"belongs to SLURM job {job}, which is RUNNING" in again
    slurm("scancel", "--signal=USR1", job)
    wait_for(lambda: info(sweep / "0")["state"] == "stopped")
    assert "cluster.max_requeues=0" in info(sweep / "0")["error"]
    assert not info(sweep / "0").get("requeued") and contents(sweep / "0")["global_step"] >= 10
    wait_for(lambda: state(job) == "FAILED")


@pytest.mark.parametrize(
    "asked",
    [
        [*ASKED, "hydra.sweeper.n_jobs=2"],
        ["cluster=slurm_array_sweep", "cluster.workers=2", *ASKED[1:]],
    ],
    ids=["trials", "workers"],
)
def test_a_study_runs_as_jobs(shell: Shell, asked: list[str]) -> None:
    search = ["hparams_search=beta_vae_random", "hydra.sweeper.n_trials=2", "trainer.max_epochs=1"]
    shell("-m", *asked, *search, *SMALL, f"hydra.sweep.dir={shell.folder}/study", timeout=170)
    study = shell.folder / "study"
    found = list_runs(study)
    assert {run.path.name: run.state for run in found} == {"0": "finished", "1": "finished"}
    jobs = {run.info["job_id"] for run in found}
    assert len(jobs) == 2 and all(re.fullmatch(r"\d+(_[01])?", str(job)) for job in jobs)
    assert json.loads((study / "study.json").read_text())["trials"] == 2


BAD: list[tuple[list[str], str]] = [
    (["-m", *ASKED, "cluster.time=soon"], "cluster.time=soon is no time"),
    (["-m", *ASKED, "cluster.partition=nowhere"], "SLURM refuses the jobs: sbatch: error: "),
]


@pytest.mark.parametrize("arguments, sentence", BAD, ids=[sentence for _, sentence in BAD])
def test_what_cannot_be_submitted_is_refused_in_one_sentence(
    shell: Shell, arguments: list[str], sentence: str
) -> None:
    printed = shell(*arguments, *QUICK, f"hydra.sweep.dir={shell.folder}/x", status=1)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and sentence in errors[0] and "Traceback" not in printed
