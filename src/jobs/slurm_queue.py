"""Submitting to SLURM and following what becomes of it. Safe to use from several threads at once."""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.jobs.slurm_request import check, parameters, python
from src.runs import slurm
from src.runs.record import write_json
from src.runs.slurm import JOBS_FILE
from src.utils.errors import UserError

log = logging.getLogger(__name__)
# In a multirun's directory: what its jobs are submitted as, print and return.
FOLDER = "slurm"
# Composing and submitting go through state of Hydra's and submitit's that is the process's own.
SUBMITTING = threading.RLock()
# Seconds that a result may take to show on a shared file system after its job has ended.
LATENCY = {"COMPLETED": 15.0, None: 15.0}
HOW = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "ran out of time (cluster.time)",
    "OUT_OF_MEMORY": "ran out of memory (cluster.mem_gb)",
    "NODE_FAIL": "lost its node",
    "PREEMPTED": "had to make way and was not requeued",
    "COMPLETED": "ended without a result",
    "FAILED": "was killed or could not start",
}


@dataclass(eq=False)
class Job:
    """One job in the queue.

    Attributes:
        name: what a person calls it.
        id: SLURM's.
        directory: of its run.
        log: where its first task says what goes wrong.
        value: what it returned; error: why it returned nothing, in a sentence.
    """

    name: str
    id: str
    directory: Path
    result: Path
    log: Path
    state: str = "PENDING"
    done: bool = False
    value: Any = None
    error: str | None = None
    _over_since: float | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """How a person finds it."""
        return f"{self.name} (SLURM job {self.id})"

    def follow(self, state: str | None) -> None:
        """Take note of what the queue says (None: nothing any more) and of the result, once there is one."""
        self.state = state or "GONE"
        said = self._read()
        over = state in slurm.OVER or state is None
        if self.done:
            return
        if said and over:
            self._fail(said)
        elif over or state in slurm.PERHAPS_OVER:
            self._over_since = self._over_since or time.monotonic()
            patience = LATENCY.get(state, 3.0 if over else slurm.PATIENCE_S)
            if time.monotonic() - self._over_since > patience:
                self._fail(said or HOW.get(str(state), f"is gone from the queue ({self.state})"))
        else:
            # Also where it has said that it was stopped: SLURM may have done that to start it again later.
            self._over_since = None

    def _read(self) -> str | None:
        """Take the value that the job has returned, or say what it says went wrong."""
        from submitit.core.utils import pickle_load

        try:
            outcome, value = pickle_load(self.result)
        except (EOFError, FileNotFoundError):  # none yet, or not yet whole on a shared file system
            return None
        if outcome != "success":
            return str(value).strip().splitlines()[-1].split("JobFailed: ")[-1]
        self.done, self.value = True, value
        return None

    def _fail(self, why: str) -> None:
        self.done = True
        self.error = f"{self.title}: {why}; see {self.log}"


class Queue:
    """Asks the queue about all jobs that this process follows in one call, whichever thread asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: set[str] = set()
        self._states: dict[str, str] | None = None
        self._asked = float("-inf")

    def states(self, jobs: Sequence[Job], every_s: float) -> dict[str, str] | None:
        """The states of the jobs, no older than ``every_s``; None where SLURM does not answer."""
        with self._lock:
            wanted = {job.id for job in jobs}
            if time.monotonic() - self._asked > every_s or not wanted <= self._ids:
                self._ids |= wanted
                try:
                    self._states = slurm.job_states(self._ids)
                except UserError as error:
                    log.warning("%s; asking again", error)
                    self._states = None
                self._asked = time.monotonic()
            return self._states

    def forget(self, job: Job) -> None:
        """The job has ended."""
        with self._lock:
            self._ids.discard(job.id)


QUEUE = Queue()


def submit(
    cluster: Mapping[str, Any],
    folder: Path,
    name: str,
    calls: Sequence[tuple[str, Path, Callable[[], Any]]],
) -> list[Job]:
    """Put calls into the queue, several as one array.

    Args:
        cluster: the keys of ``conf/cluster/slurm.yaml``.
        folder: where the calls, their logs and results are kept; every node must see it.
        name: of the jobs.
        calls: name, run directory and function of every job.

    Raises:
        UserError: a key is wrong, or SLURM refuses.
    """
    check(cluster)
    if not calls:
        return []
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    with SUBMITTING:
        executor = SlurmExecutor(folder, python=python(cluster))
        executor.update_parameters(**parameters(cluster, name))
        try:
            submitted = executor.submit_array([call for _, _, call in calls])
        except (FailedJobError, FailedSubmissionError) as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            raise UserError(f"SLURM refuses the jobs: {said[-1] if said else error}") from error
        jobs = [
            Job(
                name,
                one.job_id,
                directory,
                one.task(0).paths.result_pickle,
                one.task(0).paths.stderr,
            )
            for (name, directory, _), one in zip(calls, submitted, strict=True)
        ]
        _note(folder, jobs)
    return jobs


def _note(folder: Path, jobs: Sequence[Job]) -> None:
    """Write down which job is which run's, for those that have not started and cannot say so themselves."""
    file = folder / JOBS_FILE
    known = json.loads(file.read_text()) if file.exists() else {}
    known |= {job.name: {"job_id": job.id, "directory": str(job.directory)} for job in jobs}
    write_json(file, known)


def earlier(folder: Path, names: Sequence[str]) -> dict[str, Job]:
    """The jobs of these names that were submitted from ``folder`` before and are not over.

    One that is just ending is waited for: it may have been cancelled, or be on its way back into the queue.
    """
    from submitit.core.utils import JobPaths

    file = folder / JOBS_FILE
    known = json.loads(file.read_text()) if file.exists() else {}
    known = {name: known[name] for name in names if name in known}
    states = _settled([job["job_id"] for job in known.values()])
    found = {}
    for name, job in known.items():
        paths, state = JobPaths(folder, job["job_id"], 0), states.get(job["job_id"])
        if state is not None and state not in slurm.OVER:
            place = Path(job["directory"])
            found[name] = Job(name, job["job_id"], place, paths.result_pickle, paths.stderr, state)
    return found


def _settled(ids: Sequence[str]) -> dict[str, str]:
    while True:
        states = slurm.job_states(ids)
        ending = [one for one in ids if states.get(one) in slurm.ENDING]
        if not ending:
            return states
        log.info("SLURM job %s is just ending", ", ".join(ending))
        time.sleep(1)


def wait(jobs: Sequence[Job], poll_s: float) -> None:
    """Until every job has ended, saying what happens; one that fails ends no other."""
    left = list(jobs)
    try:
        with _progress(jobs) as show:
            while left:
                time.sleep(min(1.0, poll_s))
                states = QUEUE.states(left, poll_s)
                for job in left if states is not None else []:
                    _follow(job, states.get(job.id))  # type: ignore[union-attr]
                left = [job for job in left if not job.done]
                show(jobs)
    finally:
        for job in jobs:
            QUEUE.forget(job)


def _follow(job: Job, state: str | None) -> None:
    before = job.state
    job.follow(state)
    if job.error:
        log.error("%s", job.error)
    elif job.done:
        value = "" if job.value is None else f": {job.value}"
        log.info("%s finished%s", job.title, value)
    elif job.state != before:
        log.info("%s: %s", job.title, job.state)


def _progress(jobs: Sequence[Job]) -> Any:
    """A bar with the states of several jobs, where a person watches."""
    import sys

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    main = threading.current_thread() is threading.main_thread()
    if len(jobs) < 2 or not main or not sys.stdout.isatty():
        return nullcontext(lambda jobs: None)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )

    class Shown(Progress):
        def __enter__(self) -> Any:
            super().__enter__()
            task = self.add_task("submitted", total=len(jobs))

            def show(jobs: Sequence[Job]) -> None:
                words = Counter(
                    "failed" if job.error else "finished" if job.done else job.state.lower()
                    for job in jobs
                )
                text = ", ".join(f"{count} {word}" for word, count in words.items())
                self.update(task, completed=sum(job.done for job in jobs), description=text)

            return show

    return Shown(*columns)
