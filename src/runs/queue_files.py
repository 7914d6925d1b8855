"""The files of a queue of trainings, ``<logs>/.queue/``: one JSON file a job, and what the job printed beside it."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from filelock import FileLock

from src.runs.reading import Run, is_moment, is_running, list_runs, made_by, read_object
from src.runs.record import write_json
from src.utils.errors import UserError

WAITING, RUNNING, FINISHED, FAILED, CANCELLED = STATES = (
    "waiting",
    "running",
    "finished",
    "failed",
    "cancelled",
)
ENDED = (FINISHED, FAILED, CANCELLED)
SETTINGS = "settings.json"
MOST_PROCESSES = 2**31  # no system counts them further


@dataclass(frozen=True)
class Job:
    """One command of the queue.

    Attributes:
        id: its name in the queue.
        arguments: of ``run_experiment.py``, as they were asked for.
        state: waiting, running, finished, failed or cancelled.
        created, started, ended: seconds since 1970.
        pid, pid_started: its process, and when that began (s since 1970).
        status: with which it ended, negative for a signal; None where nobody saw that.
        error: why it failed, in a sentence.
        runs: the directories of its runs below the logs, once it has ended.
    """

    id: str
    arguments: list[str]
    state: str = WAITING
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    pid_started: float | None = None
    status: int | None = None
    error: str | None = None
    runs: list[str] = field(default_factory=list)


def folder(root: str | Path) -> Path:
    """Where the queue of the runs below ``root`` lies."""
    return Path(root) / ".queue"


def job_path(root: str | Path, name: str) -> Path:
    """Where a job is on record, if it is."""
    return folder(root) / f"{name}.json"


def job_file(root: str | Path, name: str) -> Path:
    """The file of a job.

    Raises:
        UserError: there is none of this name.
    """
    file = job_path(root, name)
    if file.parent != folder(root) or not file.exists() or file.name == SETTINGS:
        raise UserError(f"there is no job {name} in {folder(root)}")
    return file


def log_file(root: str | Path, name: str) -> Path:
    """What a job has printed."""
    return folder(root) / f"{name}.log"


def runner_lock(root: str | Path) -> FileLock:
    """Held by the process that works through the queue."""
    return FileLock(folder(root) / "runner.lock")


def changing(root: str | Path) -> FileLock:
    """Held while a job's state is looked at and changed: it is not started while it is cancelled."""
    return FileLock(folder(root) / "change.lock")


def write(root: str | Path, job: Job) -> None:
    """Put a job on record."""
    folder(root).mkdir(parents=True, exist_ok=True)
    write_json(job_path(root, job.id), asdict(job))


def read(file: Path) -> Job:
    """The job in a file; a failed one where the file is damaged."""
    try:
        content = read_object(file, "job")
        job = Job(**{one.name: content[one.name] for one in fields(Job) if one.name in content})
        if job.id == file.stem and _is_sound(job):
            return job
        error = f"{file} describes no job"
    except FileNotFoundError:
        error = f"{file} is gone"
    except UserError as problem:
        error = str(problem)
    except TypeError:  # without what every job has
        error = f"{file} describes no job"
    return Job(file.stem, [], FAILED, error=error)


def _is_sound(job: Job) -> bool:
    moments = (job.created, job.started, job.ended, job.pid_started)
    return (
        job.state in STATES
        and isinstance(job.arguments, list)
        and isinstance(job.runs, list)
        and all(isinstance(text, str) for text in [*job.arguments, *job.runs])
        and isinstance(job.error, str | None)
        and all(moment is None or is_moment(moment) for moment in moments)
        and all(isinstance(number, int | None) for number in (job.pid, job.status))
        and (job.pid is None or 0 < job.pid <= MOST_PROCESSES)
    )


def written(root: str | Path) -> list[Job]:
    """All jobs as they are on record, in the order in which they were added."""
    found = [read(file) for file in folder(root).glob("*.json") if file.name != SETTINGS]
    return sorted(found, key=lambda job: (job.created, job.id))


def works(job: Job) -> bool:
    """Whether the job's process is there."""
    return job.pid is not None and is_running(job.pid, job.pid_started or 0.0)


def runs_of(job: Job, runs: Iterable[Run]) -> list[Run]:
    """Those of ``runs`` that the job's own process has made or gone on with."""
    if job.pid is None or job.pid_started is None:
        return []
    return [run for run in runs if made_by(run.info, job.pid, job.pid_started)]


def how_it_ended(root: str | Path, job: Job) -> tuple[str, str | None, list[str]]:
    """The state of a job that has ended, why it failed, and its runs.

    Its status decides; where nobody has seen that, its runs do.
    """
    own = runs_of(job, list_runs(root))
    ended_well = bool(own) and all(run.state in ("finished", "stopped") for run in own)
    well = ended_well if job.status is None else job.status == 0
    places = [str(run.path.relative_to(root)) for run in own]
    return (FINISHED, None, places) if well else (FAILED, _why(root, job, own), places)


def _why(root: str | Path, job: Job, own: list[Run]) -> str:
    """Why a job failed, in one sentence."""
    lines = [line.strip() for line in tail(log_file(root, job.id)).splitlines() if line.strip()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    told += [str(run.info["error"]) for run in own if run.info.get("error")]
    if told:
        return told[0]
    if job.status is not None and job.status < 0:
        return f"it was killed by signal {-job.status}"
    if not lines:
        return "it ended before it said anything"
    return lines[-1] if job.status else f"nobody saw how it ended; its last words: {lines[-1]}"


def tail(file: Path, most: int = 20_000) -> str:
    """The end of a text file, at most ``most`` bytes of it; empty where there is none.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(file, "rb") as content:
            content.seek(max(0, os.fstat(content.fileno()).st_size - most))
            return content.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
