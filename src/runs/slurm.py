"""SLURM as runs see it: which job a process belongs to, what the queue says, and how a job makes way for another."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from src.utils.errors import UserError

# What SLURM is told to send before it ends a job: seconds before the time limit, or when another job takes its place.
MAKE_WAY = "SIGUSR1"
# States in which a job is over, whatever it left; SLURM may queue one of the second kind again by itself.
OVER = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"}
PERHAPS_OVER = {"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"}
# States of a job whose processes are being ended, whatever comes after.
ENDING = {"COMPLETING", "SIGNALING"}
PATIENCE_S = 30.0
# In a multirun's folder of submissions: which job is which run's.
JOBS_FILE = "jobs.json"


def job_id() -> str | None:
    """The job that this process belongs to, ``12_3`` in an array; None outside SLURM."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def nodes() -> str | None:
    """The nodes of this process's job, as SLURM writes them: ``n[1-2]``."""
    return os.environ.get("SLURM_JOB_NODELIST")


def restarts() -> int:
    """How often SLURM has started this process's job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def is_here() -> bool:
    """Whether this machine can ask a SLURM about its queue."""
    return shutil.which("squeue") is not None


def job_states(ids: Iterable[str]) -> dict[str, str]:
    """What the queue says of jobs (``PENDING``, ``RUNNING``, …); one that it no longer knows is left out.

    Raises:
        UserError: SLURM does not answer.
    """
    wanted = set(ids)
    whole = sorted({one.split("_")[0] for one in wanted})
    if not whole:
        return {}
    options = ["--noheader", "--array", "--states=all", f"--jobs={','.join(whole)}"]
    try:
        shown = _call("squeue", *options, "--format=%i|%T")
    except UserError as error:  # what squeue says of a single job that it has forgotten
        if "Invalid job id" in str(error):
            return {}
        raise
    rows = (line.split("|") for line in shown.splitlines() if "|" in line)
    return {name: state for name, state in rows if name in wanted}


def cancel(job: str) -> None:
    """Take a job out of the queue, or end it where it runs.

    Raises:
        UserError: it is not in the queue, or SLURM refuses.
    """
    state = job_states([job]).get(job)
    if state is None or state in OVER:
        raise UserError(
            f"SLURM job {job} is not in the queue" + (f": it is {state}" if state else "")
        )
    _call("scancel", job)


def submitted(root: Path) -> list[tuple[Path, str]]:
    """The directory and the job of everything that was submitted below ``root``, started or not."""
    found: list[tuple[Path, str]] = []
    for file in Path(root).rglob(JOBS_FILE):
        try:
            jobs = json.loads(file.read_text(encoding="utf-8"))
            found += [
                (Path(job["directory"]).resolve(), str(job["job_id"])) for job in jobs.values()
            ]
        # Damaged, not ours, or gone since it was found.
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return found


def not_started(root: Path) -> list[tuple[Path, str, str]]:
    """The directory, the job and its state of what was submitted below ``root``, is in the queue and is no run yet.

    Raises:
        UserError: SLURM does not answer.
    """
    places = [one for one in submitted(root) if not (one[0] / "run.json").exists()]
    states = job_states(job for _, job in places)
    return [(p, job, states[job]) for p, job in places if job in states and states[job] not in OVER]


def jobs_of(place: Path) -> list[str]:
    """The job of the run in ``place``, or the jobs in the queue of the multirun in ``place``.

    Raises:
        UserError: there are none.
    """
    own = _job_of_run(place)
    jobs = [own] if own else [job for _, job in submitted(place)]
    if (
        not jobs and (file := place.parent / "slurm" / JOBS_FILE).exists()
    ):  # a job that has not started
        jobs = [job for run, job in submitted(file.parent) if run == place.resolve()]
    if not jobs:
        raise UserError(
            f"{place} has no SLURM job to cancel: python -m src.runs stop {place} stops a run anywhere"
        )
    if own:
        return jobs
    states = job_states(jobs)
    left = [job for job in jobs if job in states and states[job] not in OVER]
    if not left:
        raise UserError(f"no job of {place} is in the queue")
    return left


def _job_of_run(place: Path) -> str | None:
    try:
        job = json.loads((place / "run.json").read_text(encoding="utf-8")).get("job_id")
    except (OSError, ValueError, AttributeError):
        return None
    return str(job) if job else None


def requeue(job: str) -> None:
    """Put a running job back into the queue; SLURM then ends its processes.

    Raises:
        UserError: SLURM refuses, as for a job that sbatch did not start.
    """
    _call("scontrol", "requeue", job)


def make_way(first: bool) -> str:
    """Put this process's job back into the queue and wait for SLURM to end the process.

    Args:
        first: whether this is the process that speaks for all of the job's; the others only wait.

    Returns:
        Why the process has to end by itself, in a sentence.
    """
    job = job_id()
    if first:
        try:
            requeue(str(job))
        except UserError as error:
            return f"SLURM job {job} could not be requeued: {error}"
    time.sleep(PATIENCE_S * 10 if first else PATIENCE_S)
    return f"SLURM job {job} was to be requeued, but SLURM has not ended its processes"


def makes_way(job: str) -> bool:
    """Whether SLURM is ending this job because another one takes its place."""
    try:
        shown = _call("scontrol", "show", "job", "-o", job)
    except UserError:
        return False
    found = re.search(r"\bPreemptTime=(\S+)", shown)
    return found is not None and found[1] not in ("None", "Unknown", "N/A")


def _call(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError as error:
        raise UserError(f"there is no SLURM on this machine: {command[0]} is not found") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"SLURM does not answer: {' '.join(command)}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UserError(f"{command[0]}: {said[-1]}")
    return done.stdout
