"""``python -m src.runs [root]`` lists runs; ``python -m src.runs pause|resume|stop <run>`` asks one for something.

``python -m src.runs cancel <run>`` takes a run's SLURM job, or those of all runs of a multirun, out of the queue.
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from src.runs import Run, list_runs, read_run, request
from src.runs.reading import ALIVE
from src.runs.slurm import OVER, cancel, is_here, job_states, jobs_of, submitted
from src.utils.errors import UserError

METRICS = ("test/nll", "test/mse")


def main(arguments: list[str]) -> None:
    """List the runs, pass a request on, or cancel jobs."""
    if len(arguments) == 2 and arguments[0] == "cancel":
        cancel_jobs(Path(arguments[1]))
    elif len(arguments) == 2:
        request(arguments[1], arguments[0])
        print(f"asked {arguments[1]} to {arguments[0]}")
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(
            table(Path(*arguments or ["logs"]))
        )


def cancel_jobs(place: Path) -> None:
    """Cancel the job of the run in ``place``, or all jobs of the multirun in ``place``.

    Raises:
        UserError: there is none, it is not the run's any more, or SLURM refuses all.
    """
    _check_it_needs_its_job(place)
    jobs = jobs_of(place)
    refused: list[UserError] = []
    for job in jobs:
        try:
            cancel(job)
            print(f"cancelled SLURM job {job}")
        except UserError as error:  # one that has just ended is no reason to keep the others
            refused.append(error)
    if len(refused) == len(jobs):
        raise refused[-1]
    for one in refused:
        print(one, file=sys.stderr)


def _check_it_needs_its_job(place: Path) -> None:
    """Refuse for a run that is over: its job may be a study's worker, which is busy with another trial."""
    try:
        run = read_run(place)
    except UserError:  # none yet, or a damaged one
        return
    job = run.info.get("job_id")
    if not job or run.state in ALIVE or run.info.get("requeued"):
        return
    # A run that is silent may lie on a node that has failed; then its job waits to go on with it.
    others = [one for one in submitted(place.parent) if one[1] == job and one[0] != place.resolve()]
    if run.state != "dead" or others:
        raise UserError(
            f"{place} is {run.state} and needs SLURM job {job} no more; scancel {job} ends that all the same"
        )


def table(root: Path) -> Table:
    """Every run below ``root``; with its SLURM job and the queue's word on it where there is a SLURM and a job."""
    runs = list_runs(root)
    ids = {str(run.info["job_id"]) for run in runs if run.info.get("job_id")}
    others = [(place, job) for place, job in submitted(root) if job not in ids]
    states = _states([*ids, *(job for _, job in others)])
    shown = Table("run", "state", "epoch", "step", *METRICS)
    if states is not None:
        shown.add_column("job")
        shown.add_column("job state")
    for run in runs:
        job = run.info.get("job_id")
        more = [str(job or ""), states.get(str(job), "")] if states is not None else []
        shown.add_row(*_row(run), *more)
    for place, job in others:
        state = (states or {}).get(job, "COMPLETED")
        if state not in OVER:  # what ended before it became a run is none
            what = "queued" if state == "PENDING" else "starting"
            shown.add_row(str(place), what, "", "", "", "", job, state)
    return shown


def _states(ids: list[str]) -> dict[str, str] | None:
    """What the queue says of jobs; None where nobody can ask it, or there is nothing to ask."""
    if not ids or not is_here():
        return None
    try:
        return job_states(ids)
    except UserError as error:
        print(f"{error}; the jobs' states are not shown", file=sys.stderr)
        return None


def _row(run: Run) -> list[str]:
    progress, metrics = run.info.get("progress", {}), run.results.get("metrics", {})
    values = [metrics.get(name, {}).get("value") for name in METRICS]
    return [
        str(run.path),
        run.state,
        str(progress.get("epoch", "")),
        str(progress.get("step", "")),
        *("" if value is None else f"{value:.4g}" for value in values),
    ]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
