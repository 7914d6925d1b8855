"""A run whose SLURM job is started again goes on in its directory."""

from pathlib import Path

from src.runs import slurm
from src.runs.reading import read_run
from src.runs.record import RUN_FILE


def last_checkpoint(directory: Path) -> Path:
    """Where a run goes on from."""
    return directory / "checkpoints" / "last.ckpt"


def is_restart(directory: Path) -> bool:
    """Whether SLURM has started the job again that the run in ``directory`` belongs to."""
    return (
        slurm.restarts() > 0
        and (directory / RUN_FILE).exists()
        and read_run(directory).info.get("job_id") == slurm.job_id()
    )


def restart_point(directory: Path) -> Path | None:
    """The checkpoint that a job which was started again goes on from; None where it begins anew."""
    last = last_checkpoint(directory)
    return last if is_restart(directory) and last.exists() else None
