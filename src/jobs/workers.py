"""``hydra/launcher=processes``: jobs in long-lived processes beside the one that was started.

A process runs one job after another, so that Python, torch and Lightning are imported once. A job that takes its
process with it, by the kernel's out-of-memory killer for example, fails alone and the next one gets a new process.
"""

import atexit
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from src.utils.errors import UserError

log = logging.getLogger(__name__)
PATIENCE = 30.0  # seconds in which an interrupted job may write its last checkpoint
SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)


class JobDied(RuntimeError):
    """A job's process ended without an answer."""


@dataclass(frozen=True)
class Job:
    """What a process is told to run.

    Attributes:
        config: composed, with Hydra's own part.
        task: module and name of what the command line calls.
        whitelist: what Hydra may instantiate.
        program: the name under which Hydra knows the command.
    """

    config: DictConfig
    task: tuple[str, str]
    whitelist: Any
    program: str


class Worker:
    """One child process and the pipe to it. It lives as long as the thread that made it."""

    def __init__(self) -> None:
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, os.getpid()))
        self.process.start()
        theirs.close()
        self.jobs = 0
        self._interrupted = 0

    def run(self, job: Job) -> JobReturn:
        """Run a job to its end.

        Raises:
            JobDied: the process ended before the job did.
        """
        self.jobs += 1
        try:
            self.connection.send(job)
            return self.connection.recv()
        except (EOFError, ConnectionError) as error:
            self.process.join()
            raise JobDied(_cause_of_death(self.process.exitcode)) from error

    def interrupt(self) -> None:
        """Ask the running job to stop as Ctrl-C does, once: a second time would end it without saving."""
        if self.process.pid and self.process.is_alive() and self._interrupted < self.jobs:
            self._interrupted = self.jobs
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)

    def answers(self, seconds: float) -> bool:
        """Whether the job has ended after so long at most."""
        with suppress(EOFError, ConnectionError):
            return self.connection.poll(seconds)
        return True

    def close(self) -> None:
        """End the process, and those that its job may have left behind."""
        self.connection.close()
        self.process.join(2)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        self.process.join()


class ProcessLauncher(Launcher):
    """Runs every job in a child process.

    Args:
        n_jobs: how many of one multirun's jobs at a time. A study counts its own.
        jobs_per_process: how many jobs a process runs before a new one takes its place; null for any number.
    """

    runs_here = True  # what signals this process's SLURM step signals the jobs

    def __init__(self, n_jobs: int = 1, jobs_per_process: int | None = None) -> None:
        self.n_jobs, self.jobs_per_process = n_jobs, jobs_per_process
        self._mine = threading.local()
        self._all: set[Worker] = set()
        self._composing = threading.Lock()

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.context = config, hydra_context
        task: Any = getattr(task_function, "__wrapped__", task_function)
        self.task = (task.__module__, task.__qualname__)
        # What it does at exit, which is to wait for children, must be registered before ours.
        import multiprocessing.util  # noqa: F401

        atexit.register(self.close)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs; one that fails, or whose process dies, is returned as failed."""
        configure_log(
            self.config.hydra.hydra_logging,
            self.config.hydra.verbose,
            execution_whitelist=self.context.execution_whitelist,
        )
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        numbered = list(enumerate(job_overrides, initial_job_idx))
        if len(numbered) == 1 or self.n_jobs == 1:
            return [self._launch(*one) for one in numbered]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.n_jobs) as pool:
            futures = [pool.submit(self._launch, *one) for one in numbered]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                self.interrupt()
                raise

    def _launch(self, number: int, overrides: Sequence[str]) -> JobReturn:
        with self._composing:
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
            config.hydra.sweep.dir = str(self.config.hydra.sweep.dir)  # ${now:} is asked once
        log.debug("job %d: %s", number, " ".join(filter_overrides(overrides)))
        job = Job(
            config, self.task, self.context.execution_whitelist, JobRuntime.instance().get("name")
        )
        worker = self._worker()
        try:
            returned = worker.run(job)
        except JobDied as error:
            self._retire(worker)
            returned = JobReturn(overrides=list(overrides), status=JobStatus.FAILED)
            returned.return_value = error
        except BaseException:  # Ctrl-C
            worker.interrupt()
            worker.answers(PATIENCE)
            self._retire(worker)
            raise
        # After an error the memory may be fragmented, or held by what the error refers to.
        spent = self.jobs_per_process is not None and worker.jobs >= self.jobs_per_process
        if spent or returned.status == JobStatus.FAILED:
            self._retire(worker)
        return returned

    def _worker(self) -> Worker:
        worker = getattr(self._mine, "worker", None)
        if worker is None or not worker.process.is_alive():
            worker = self._mine.worker = Worker()
            self._all.add(worker)
        return worker

    def _retire(self, worker: Worker) -> None:
        self._mine.worker = None
        if worker in self._all:
            self._all.discard(worker)
            worker.close()

    def interrupt(self) -> None:
        """Ask every running job to stop as Ctrl-C does."""
        for worker in list(self._all):
            worker.interrupt()

    def close(self) -> None:
        """End all processes."""
        for worker in list(self._all):
            self._all.discard(worker)
            worker.close()


def _cause_of_death(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        hint = "; out of memory, if the kernel did it" if name == "SIGKILL" else ""
        return f"the job's process was ended by {name}{hint}"
    return f"the job's process ended with status {status} and no result"


# In the child.


def serve(connection: Any, parent: int) -> None:
    """Run jobs until the other end of the pipe is closed."""
    _die_with(parent)
    while True:
        try:
            job = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            returned = _run(job)
        except (
            BaseException
        ) as error:  # SystemExit of a stopped run; all that a job raises is its result
            returned = JobReturn(status=JobStatus.FAILED)
            returned.return_value = error
        with suppress(BrokenPipeError):
            connection.send(_portable(returned))
        _free_memory()


def _portable(returned: JobReturn) -> JobReturn:
    """What a job has returned, its error in words where another process could not rebuild it."""
    error = returned._return_value
    if returned.status == JobStatus.FAILED and not isinstance(error, UserError):
        returned.return_value = RuntimeError(f"{type(error).__name__}: {error}")
    return returned


def _die_with(parent: int) -> None:
    """Leave the terminal's signals to the parent, and stop in an orderly way when it is gone."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        with suppress(OSError):  # when memory runs out, the job is to go and not the sweep
            Path("/proc/self/oom_score_adj").write_text("500")
    if os.getppid() != parent:  # it went before it could be asked for
        sys.exit(143)


def _run(job: Job) -> JobReturn:
    from hydra._internal.callbacks import Callbacks
    from hydra.core.utils import JobRuntime, run_job, setup_globals

    from src.jobs import register_plugins
    from src.utils.main import register_resolvers

    setup_globals()
    register_resolvers()
    register_plugins()
    JobRuntime.instance().set("name", job.program)
    module, name = job.task
    command: Any = getattr(import_module(module), name)
    context = HydraContext(
        config_loader=None,  # type: ignore[arg-type]
        callbacks=Callbacks(job.config),
        execution_whitelist=job.whitelist,
    )
    return run_job(
        hydra_context=context,
        task_function=command.task,
        config=job.config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _free_memory() -> None:
    """Give back what the last job's tensors held on a GPU."""
    import gc

    gc.collect()
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()
