"""A queue of trainings that outlives whoever filled it.

It lies in ``<logs>/.queue/``. The process that works through it (``src/runs/runner.py``) starts every job in a session
of its own and ends when nothing is left. Whatever is killed, the app or the runner, the trainings go on; the next
runner takes charge of those that still run, and starts nothing twice.
"""

import secrets
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from filelock import Timeout

from src.runs.queue_files import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    RUNNING,
    SETTINGS,
    WAITING,
    Job,
    changing,
    folder,
    how_it_ended,
    job_file,
    log_file,
    read,
    runner_lock,
    runs_of,
    tail,
    works,
    write,
    written,
)
from src.runs.reading import read_object
from src.runs.record import write_json, writing_into
from src.utils.arguments import MULTIRUN, key_of, path_text
from src.utils.errors import UserError

__all__ = [
    "CANCELLED",
    "ENDED",
    "FAILED",
    "FINISHED",
    "MOST_SLOTS",
    "RUNNING",
    "WAITING",
    "Job",
    "cancel",
    "check_places",
    "command",
    "dismiss",
    "enqueue",
    "ensure_runner",
    "has_runner",
    "is_stranded",
    "jobs",
    "output",
    "runs_of",
    "set_slots",
    "slots",
]
PROJECT = Path(__file__).parents[2]
MOST_SLOTS = 64
# What a runner says, and the seconds that it may take to begin.
RUNNER_LOG, STARTUP_S = "runner.log", 10.0
# What a job may not say itself: its runs would lie where nobody looks for them.
PLACES = (
    "paths.log_dir",
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
    "hydra.searchpath",
)
# What their places are made of.
NAMES = ("name", "hydra.sweeper.folder")
# Seconds for which somebody who only looks whether there is a runner may hold its lock.
LOOKED_S = 0.3


def enqueue(root: str | Path, arguments: Iterable[str]) -> Job:
    """Add a training of ``run_experiment.py`` with ``arguments``, and see that somebody works through the queue.

    Raises:
        UserError: the arguments say where the run is to lie, which is below ``root``, or nothing can be written there.
    """
    arguments = [*arguments]
    check_places(root, arguments)
    now = time.time()
    name = f"{time.strftime('%Y-%m-%d_%H-%M-%S', time.localtime(now))}_{secrets.token_hex(3)}"
    job = Job(name, arguments, created=now)
    with writing_into(folder(root)):
        write(root, job)
        ensure_runner(root)
    return job


def check_places(root: str | Path, arguments: Iterable[str]) -> None:
    """Refuse arguments that say where configs come from or runs go to.

    Raises:
        UserError: naming the first of them.
    """
    for argument in arguments:
        key = key_of(argument)
        option = argument.startswith("-") and argument not in MULTIRUN
        outside = key in NAMES and ".." in argument
        place = any(place == key or place.startswith(f"{key}.") for place in PLACES if key)
        if option or place or outside:
            raise UserError(f"leave {argument} out: runs of this queue lie below {root}")


def command(root: str | Path, arguments: Iterable[str]) -> list[str]:
    """The command line of a job, from the project's root: what a person would type for the same."""
    logs = Path(root).resolve()
    own = [] if logs == PROJECT / "logs" else [f"paths.log_dir={path_text(logs)}"]
    return ["python", "run_experiment.py", *arguments, *own]


def jobs(root: str | Path) -> list[Job]:
    """All jobs in the order in which they were added, in the state that they are truly in.

    A job whose file is damaged is listed as failed. Nothing is written.
    """
    found = written(root)
    # Without a runner nobody has written down that a job has ended.
    return found if has_runner(root) else [_checked(root, job) for job in found]


def _checked(root: str | Path, job: Job) -> Job:
    if job.state != RUNNING or works(job):
        return job
    state, error, runs = how_it_ended(root, job)
    return replace(job, state=state, error=error, runs=runs)


def output(root: str | Path, name: str, most: int = 20_000) -> str:
    """The end of what a job has printed, at most ``most`` bytes of it."""
    job_file(root, name)
    return tail(log_file(root, name), most)


def cancel(root: str | Path, name: str) -> None:
    """Take a job out of the queue that has not begun.

    Raises:
        UserError: there is no such job, or it does not wait.
    """
    with writing_into(folder(root)), changing(root):
        job = read(job_file(root, name))
        if job.state != WAITING:
            raise UserError(f"job {name} is {job.state}: only a waiting job can be cancelled")
        write(root, replace(job, state=CANCELLED, ended=time.time()))


def dismiss(root: str | Path, name: str) -> None:
    """Forget a job that has ended, and what it printed; its runs stay.

    Raises:
        UserError: there is no such job, or it has not ended.
    """
    with writing_into(folder(root)), changing(root):
        file = job_file(root, name)
        job = _checked(root, read(file))
        if job.state not in ENDED:
            raise UserError(f"job {name} is {job.state}: only a job that has ended is forgotten")
        file.unlink()
        log_file(root, name).unlink(missing_ok=True)


def slots(root: str | Path) -> int:
    """How many jobs of the queue run at once; 1 where nothing else is on record."""
    try:
        number = read_object(folder(root) / SETTINGS, "queue").get("slots")
    except (FileNotFoundError, UserError):
        return 1
    return number if isinstance(number, int) and 1 <= number <= MOST_SLOTS else 1


def set_slots(root: str | Path, number: int) -> None:
    """Let ``number`` jobs run at once; those that run already go on.

    Raises:
        UserError: it is less than one or more than ``MOST_SLOTS``, or cannot be written down.
    """
    if not 1 <= number <= MOST_SLOTS:
        raise UserError(f"slots={number} must be between 1 and {MOST_SLOTS}")
    with writing_into(folder(root)):
        folder(root).mkdir(parents=True, exist_ok=True)
        write_json(folder(root) / SETTINGS, {"slots": number})


def has_runner(root: str | Path, patience: float = 0.0) -> bool:
    """Whether somebody works through the queue.

    Args:
        patience: seconds to wait for others that only look, too: while they do, it seems that there is one.
    """
    if not folder(root).exists():
        return False
    try:
        with runner_lock(root).acquire(timeout=patience):
            return False
    except Timeout:
        return True
    except OSError:  # a queue that is not ours to lock is its owner's to look after
        return True


def is_stranded(root: str | Path) -> bool:
    """Whether jobs wait or run, and nobody looks after them: whoever did was killed."""
    log = folder(root) / RUNNER_LOG
    if has_runner(root) or (log.exists() and time.time() - log.stat().st_mtime < STARTUP_S):
        return False
    return any(
        job.state == WAITING or (job.state == RUNNING and works(job)) for job in written(root)
    )


def ensure_runner(root: str | Path) -> None:
    """Start the process that works through the queue, unless there is one. It outlives this process."""
    if has_runner(root, LOOKED_S):
        return
    with open(folder(root) / RUNNER_LOG, "ab") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} started\n".encode())
        log.flush()
        subprocess.Popen(
            [sys.executable, "-m", "src.runs.runner", str(Path(root).resolve())],
            cwd=PROJECT,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
