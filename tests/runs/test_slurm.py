"""What runs ask SLURM, with small stand-ins for its commands; tests/e2e/test_slurm.py asks a real one."""

import json
from pathlib import Path

import pytest

from src.runs import slurm
from src.runs.__main__ import main
from src.runs.record import RunRecord, forget_metrics_after
from src.utils.errors import UserError

QUEUE = "12_0|RUNNING\n12_1|PENDING\n12_2|CANCELLED\n13|COMPLETED"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue with some jobs; what is cancelled is written to a file."""
    tools = {
        "squeue": f"case $* in *--jobs=99*) echo slurm_load_jobs error: Invalid job id specified >&2; exit 1;; esac\n"
        f"printf '{QUEUE}\n'",
        "scancel": f"echo $* >> {tmp_path}/cancelled",
        "scontrol": "echo JobId=12 PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=${PREEMPTED:-None} Requeue=1",
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without SLURM."""
    monkeypatch.setenv("PATH", "/nowhere")


def test_the_queue_knows_tasks_of_arrays_and_forgets_old_jobs(cluster: Path) -> None:
    assert slurm.job_states(["12_0", "12_2", "13", "14"]) == {
        "12_0": "RUNNING",
        "12_2": "CANCELLED",
        "13": "COMPLETED",
    }
    assert slurm.job_states(["99"]) == {}
    assert slurm.job_states([]) == {}


def test_what_waits_is_listed_until_it_is_a_run(cluster: Path) -> None:
    jobs = {str(n): {"directory": str(cluster / str(n)), "job_id": f"12_{n}"} for n in range(4)}
    (cluster / "slurm").mkdir()
    (cluster / "slurm" / "jobs.json").write_text(json.dumps(jobs))
    waiting, starting = (cluster / "1", "12_1", "PENDING"), (cluster / "0", "12_0", "RUNNING")
    assert slurm.not_started(cluster) == [starting, waiting]  # one is cancelled, one forgotten
    RunRecord(cluster / "0", name="a")
    assert slurm.not_started(cluster) == [waiting]


def test_without_slurm_the_queue_cannot_be_asked(no_cluster: None) -> None:
    assert not slurm.is_here()
    with pytest.raises(UserError, match="squeue is not found"):
        slurm.job_states(["12"])


def test_a_job_that_makes_way_is_told_from_one_that_was_cancelled(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not slurm.makes_way("12")
    monkeypatch.setenv("PREEMPTED", "2026-01-01T00:00:00")
    assert slurm.makes_way("12")


def record(path: Path, job: str | None, monkeypatch: pytest.MonkeyPatch, **fields: object) -> Path:
    """A run of a job, finished if nothing else is said."""
    for name, value in (
        ("SLURM_JOB_ID", "77"),
        ("SLURM_JOB_NODELIST", "n[1-2]"),
        ("SLURM_RESTART_COUNT", "2"),
    ):
        monkeypatch.setenv(name, value) if job else monkeypatch.delenv(name, raising=False)
    if job and "_" in job:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", job.split("_")[0])
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", job.split("_")[1])
    RunRecord(path).update(**{"state": "finished"} | fields)
    return path


def test_a_run_records_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads((record(tmp_path / "run", "12_3", monkeypatch) / "run.json").read_text())
    assert (found["job_id"], found["nodes"], found["restarts"]) == ("12_3", "n[1-2]", 2)


def test_runs_are_listed_with_their_jobs_where_there_are_any(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(cluster / "logs" / "here", None, monkeypatch)
    main([str(cluster / "logs")])
    assert "job state" not in capsys.readouterr().out
    record(cluster / "logs" / "there", "12_0", monkeypatch)
    submitted = {"job 1": {"job_id": "12_1", "directory": str(cluster / "logs" / "1")}}
    (cluster / "logs" / "slurm").mkdir()
    (cluster / "logs" / "slurm" / slurm.JOBS_FILE).write_text(json.dumps(submitted))
    main([str(cluster / "logs")])
    lines = capsys.readouterr().out.splitlines()
    assert any("there" in line and "12_0" in line and "RUNNING" in line for line in lines)
    assert any("queued" in line and "12_1" in line and "PENDING" in line for line in lines)


def test_cancelling_ends_a_job_or_says_why_not(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="has no SLURM job to cancel"):
        main(["cancel", str(record(cluster / "here", None, monkeypatch))])
    ended = record(cluster / "ended", "12_2", monkeypatch, state="running")
    with pytest.raises(UserError, match="SLURM job 12_2 is not in the queue: it is CANCELLED"):
        main(["cancel", str(ended)])
    main(["cancel", str(record(cluster / "there", "12_0", monkeypatch, state="running"))])
    assert (cluster / "cancelled").read_text() == "12_0\n"


def test_the_job_of_a_run_that_is_over_is_left_to_whoever_has_it_now(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = {"worker 0": {"job_id": "12_0", "directory": str(cluster / "study")}}
    (cluster / "study" / "slurm").mkdir(parents=True)
    (cluster / "study" / "slurm" / slurm.JOBS_FILE).write_text(json.dumps(study))
    for name, state in (("finished", "finished"), ("stopped", "stopped"), ("dead", "running")):
        pid = {"pid_started": 0} if name == "dead" else {}
        ended = record(cluster / "study" / name, "12_0", monkeypatch, state=state, **pid)
        with pytest.raises(UserError, match=f"is {name} and needs SLURM job 12_0 no more"):
            main(["cancel", str(ended)])
    for name, fields in (
        ("waiting", {"state": "stopped", "requeued": True}),
        ("silent", {"state": "running", "pid_started": 0}),  # on a node that has failed
    ):
        main(["cancel", str(record(cluster / "study" / name, "12_1", monkeypatch, **fields))])
    assert (cluster / "cancelled").read_text() == "12_1\n12_1\n"


def test_a_multirun_is_cancelled_as_a_whole_and_a_waiting_job_of_it_alone(cluster: Path) -> None:
    jobs = {
        f"job {k}": {"job_id": f"12_{k}", "directory": str(cluster / "sweep" / str(k))}
        for k in range(3)
    }
    (cluster / "sweep" / "slurm").mkdir(parents=True)
    (cluster / "sweep" / "slurm" / slurm.JOBS_FILE).write_text(json.dumps(jobs))
    main(["cancel", str(cluster / "sweep" / "1")])
    assert (cluster / "cancelled").read_text() == "12_1\n"
    main(["cancel", str(cluster / "sweep")])
    assert (cluster / "cancelled").read_text() == "12_1\n12_0\n12_1\n"


def test_a_job_that_has_just_ended_keeps_no_other(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cancel(job: str) -> None:
        if job != "12_1":
            raise UserError(f"{job} is over")

    monkeypatch.setattr("src.runs.__main__.jobs_of", lambda place: ["12_0", "12_1", "12_2"])
    monkeypatch.setattr("src.runs.__main__.cancel", cancel)
    main(["cancel", str(cluster)])
    printed = capsys.readouterr()
    assert printed.out == "cancelled SLURM job 12_1\n"
    assert printed.err == "12_0 is over\n12_2 is over\n"
    monkeypatch.setattr("src.runs.__main__.jobs_of", lambda place: ["12_0"])
    with pytest.raises(UserError, match="12_0 is over"):
        main(["cancel", str(cluster)])


@pytest.mark.parametrize("size, kept", [(8, 1), (5, 2), (0, 0), (None, 2), (99, 2)])
def test_what_will_be_logged_again_is_forgotten_by_whole_lines(
    tmp_path: Path, size: int | None, kept: int
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"a":1}\n{"a":2}\n')
    forget_metrics_after(tmp_path, size)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == kept
