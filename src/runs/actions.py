"""What can be done with a run in the state that it is in."""

from collections.abc import Iterable

from src.runs.control import PAUSE, RESUME, STOP, pending
from src.runs.queue_files import RUNNING, WAITING, Job
from src.runs.reading import ALIVE, Run
from src.runs.restart import last_checkpoint
from src.utils.arguments import MULTIRUN, asks_machine, key_of, path_text
from src.utils.errors import UserError

# What a run's arguments say of where and how it ran, which is nothing to a copy of it.
PLACES = ("hydra.", "paths.", "ckpt_path")


def possible_requests(run: Run) -> set[str]:
    """Which of ``pause``, ``resume`` and ``stop`` mean something now; none that has been asked for already."""
    if run.state not in ALIVE:
        return set()
    asked = awaited(run)
    if asked == STOP:
        return set()
    paused = run.state == "paused" if asked is None else asked == PAUSE
    return {RESUME if paused else PAUSE, STOP}


def awaited(run: Run) -> str | None:
    """What a run that is alive was asked for and has not done yet, if anything. The request stays when it has."""
    asked = pending(run.path) if run.state in ALIVE else None
    return None if asked == (PAUSE if run.state == "paused" else RESUME) else asked


def can_go_on(run: Run, jobs: Iterable[Job]) -> bool:
    """Whether a run that has ended early left a checkpoint, and no job of the queue goes on from it already."""
    if run.state not in ("stopped", "failed", "dead") or not last_checkpoint(run.path).exists():
        return False
    job = job_going_on(run, jobs)
    return job is None or job.state not in (WAITING, RUNNING)


def job_going_on(run: Run, jobs: Iterable[Job]) -> Job | None:
    """The last job of the queue that was to go on with ``run``; None where there is none."""
    own = going_on(run)
    return next((job for job in reversed([*jobs]) if job.arguments == own), None)


def going_on(run: Run) -> list[str]:
    """The arguments with which ``run`` goes on, in its own directory."""
    return [f"ckpt_path={path_text(last_checkpoint(run.path.resolve()))}"]


def arguments_of(run: Run) -> list[str]:
    """The arguments that a copy of ``run`` is started with.

    Raises:
        UserError: the run does not say how it was started, or would ask this machine for a value.
    """
    overrides = run.info.get("overrides")
    if not isinstance(overrides, list) or not all(isinstance(one, str) for one in overrides):
        raise UserError(
            f"{run.path} does not say how it was started: its run.json has no overrides"
        )
    kept = [one for one in overrides if one not in MULTIRUN and not key_of(one).startswith(PLACES)]
    for one in kept:
        if asks_machine(one):
            raise UserError(
                f"{run.path / 'run.json'} holds {one}, which would ask this machine for a value"
            )
    return kept
