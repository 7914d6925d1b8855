"""``python -m src.runs.runner <logs>`` works through the queue of the runs below ``<logs>`` until it is empty."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
from filelock import Timeout

from src.runs.queue import PROJECT, command, slots
from src.runs.queue_files import (
    RUNNING,
    WAITING,
    Job,
    changing,
    how_it_ended,
    job_path,
    log_file,
    read,
    runner_lock,
    works,
    write,
    written,
)

# Seconds between two looks at the jobs; a runner that finds another one at work waits PATIENCE_S for its end.
POLL_S, PATIENCE_S = 0.5, 5.0
# A job becomes its command only when its process is on record: no runner can die between the two.
WHEN_TOLD = 'read -r _ && exec "$@" </dev/null'

Children = dict[str, "subprocess.Popen[bytes]"]


def work(root: Path) -> None:
    """Work through the queue until nothing in it waits or runs; nothing where somebody else does already."""
    children: Children = {}
    # Who adds a job after the last look finds the lock taken and starts no runner: hence another look without it.
    while any(job.state in (WAITING, RUNNING) for job in written(root)):
        try:
            with runner_lock(root).acquire(timeout=PATIENCE_S):
                while _step(root, children):
                    time.sleep(POLL_S)
        except Timeout:
            return


def _step(root: Path, children: Children) -> bool:
    """Note which jobs have ended, and start those that there is room for; whether there is anything left to do."""
    for job in written(root):
        if job.state == RUNNING:
            _note_end(root, job, children)
    left = written(root)
    running = sum(job.state == RUNNING for job in left)
    waiting = [job for job in left if job.state == WAITING]
    for job in waiting[: max(0, slots(root) - running)]:
        if child := _start(root, job.id):
            children[job.id] = child
    return bool(running or waiting)


def _note_end(root: Path, job: Job, children: Children) -> None:
    child = children.get(job.id)
    status = child.poll() if child else None
    if status is None and (child or works(job)):
        return
    children.pop(job.id, None)
    state, error, runs = how_it_ended(root, replace(job, status=status))
    ended = replace(job, status=status, state=state, error=error, runs=runs, ended=time.time())
    with changing(root):
        # Somebody may have seen the end first, and forgotten the job.
        if job_path(root, job.id).exists():
            write(root, ended)


def _start(root: Path, name: str) -> "subprocess.Popen[bytes] | None":
    """Start a job; None where it has been cancelled in between, and perhaps forgotten."""
    with changing(root):
        job = read(job_path(root, name))
        if job.state != WAITING:
            return None
        child = _hold(root, job)
        began = psutil.Process(child.pid).create_time()
        now = time.time()
        write(root, replace(job, state=RUNNING, pid=child.pid, pid_started=began, started=now))
    assert child.stdin is not None
    with child.stdin as told:
        told.write(b"\n")
    return child


def _hold(root: Path, job: Job) -> "subprocess.Popen[bytes]":
    """A process in a session of its own that becomes the job's command when it is told to."""
    arguments = command(root, job.arguments)[1:]
    with open(log_file(root, job.id), "wb") as log:
        return subprocess.Popen(
            ["sh", "-c", WHEN_TOLD, "sh", sys.executable, *arguments],
            cwd=PROJECT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


if __name__ == "__main__":
    work(Path(sys.argv[1]))
