"""Lightning's many-process launch under Hydra, mended.

Lightning starts the other ranks by repeating the command line, which resolves the output directory again and,
in a multirun, makes every rank run the whole sweep by itself: different trials train on different ranks. Here
the other ranks run the one job that rank 0 has composed, from the config that Hydra saved for it. Where one of them
dies, Lightning kills rank 0 without a word; here rank 0 says what happened first.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.utils.errors import UserError

log = logging.getLogger(__name__)
VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Tells the processes that a rank 0 starts whose death is to be theirs.
STARTED_BY = "LATENT_LAB_STARTED_BY"
# Seconds that a process may take to notice by itself, in a collective that fails, that another is gone.
GRACE = 5.0


class LostProcess(UserError):
    """Another process of the training is gone or does not answer."""


def child_command(local_rank: int) -> tuple[Sequence[str], str]:
    """The command and working directory of another rank of the job that runs in this process."""
    from hydra.core.hydra_config import HydraConfig

    config = HydraConfig.get()
    script = str(Path(__file__).parents[2] / "run_experiment.py")
    output = os.path.abspath(config.runtime.output_dir)
    command = [
        sys.executable,
        script,
        f"--config-path={output}/.hydra",
        "--config-name=config",
    ]
    command += [f"hydra.run.dir='{output}'", "hydra.mode=RUN", "hydra.output_subdir=null"]
    # The saved config holds the task's settings only; what conf/config.yaml says of logging is said again.
    command += [f"hydra.job.name=run_rank{local_rank}"]
    return command, os.getcwd()


class Watch(threading.Thread):
    """Notices the death of a process that this one trains together with.

    Where the training does not come to its end by itself within ``GRACE``, because it waits for the dead one in a
    collective that no signal interrupts, the loss is told and this process ends.

    Args:
        children: the ranks that this process has started, in their order.
        tell: is given the sentence before the process ends.
    """

    def __init__(
        self, children: list["subprocess.Popen[bytes]"], tell: Callable[[str], None]
    ) -> None:
        super().__init__(daemon=True, name="watch-ranks")
        self.children, self.tell = children, tell
        self.parent = os.getppid() if os.environ.get(STARTED_BY) == str(os.getppid()) else None
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            if self.loss() and not self.over.wait(GRACE):
                sentence = str(self.loss())
                log.error(sentence)
                self.end_children(0.0)
                try:
                    self.tell(sentence)
                finally:  # a full disk is no reason to wait for ever
                    os._exit(1)

    def loss(self, patience: float = 0.0) -> str | None:
        """What has happened to another process, in a sentence; waits ``patience`` seconds for it to show."""
        end = time.monotonic() + patience
        while True:
            if self.parent is not None and os.getppid() != self.parent:
                return "process 0 of this training was killed; the last checkpoint is kept"
            for rank, child in enumerate(self.children, start=1):
                if child.poll():
                    how = _how(child.returncode, rank)
                    return f"process {rank} of this training {how}; the last checkpoint is kept"
            if time.monotonic() >= end:
                return None
            time.sleep(0.05)

    def end_children(self, patience: float) -> None:
        """Wait ``patience`` seconds for the children, and kill those that are still there."""
        end = time.monotonic() + patience
        for child in self.children:
            try:
                child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


def _how(status: int, rank: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status} (see run_rank{rank}.log)"


@contextmanager
def many_processes(tell: Callable[[str], None] = log.error) -> Iterator[None]:
    """Let a job inside start other ranks, and leave no process group or variable behind for the next job.

    Args:
        tell: is given one sentence where this process has to be ended because another one is gone.

    Raises:
        LostProcess: the training failed because another process died or did not answer in time.
    """
    import lightning.pytorch.strategies.launchers.subprocess_script as launcher

    before = {name: os.environ.get(name) for name in (*VARIABLES, STARTED_BY)}
    watch = Watch([], tell)
    # The names were imported into this module; the ones they came from are not looked at any more.
    launcher._hydra_subprocess_cmd = child_command
    launcher._launch_process_observer = watch.children.extend  # type: ignore[assignment]
    os.environ[STARTED_BY] = str(os.getpid())
    watch.start()
    try:
        yield
    except BaseException as error:
        loss = _why(error, watch) if _failed_together(error) else None
        _leave_group()
        watch.end_children(0.0 if loss else GRACE)
        if loss:
            raise LostProcess(loss) from error
        raise
    finally:
        watch.over.set()
        _leave_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _failed_together(error: BaseException) -> bool:
    """Whether what failed is a collective, which can be another process's fault; memory that is short is our own."""
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    said = str(error)
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError)
        and any(word in said for word in ("gloo", "NCCL", "by peer"))
    )


def _why(error: BaseException, watch: Watch) -> str:
    _leave_group()  # so that those who wait for this process notice
    said = str(error).splitlines()[0].rsplit("] ", 1)[-1]  # without where in gloo it was said
    if "imed out" in said or "imeout" in said:
        return (
            "a process of this training has not answered within trainer.strategy.timeout_s; "
            f"the last checkpoint is kept ({said})"
        )
    # One that fails has to find out first that nobody else did.
    known = watch.loss(patience=GRACE if watch.children else 0.5)
    return (
        known or f"another process of this training is gone; the last checkpoint is kept ({said})"
    )


def cluster_environment() -> list[Any]:
    """What tells Lightning of the other processes in a SLURM job; empty elsewhere, where it finds out by itself.

    Several tasks of ``srun`` are the ranks; a single one starts its ranks as on a laptop. Lightning's own requeueing is
    off: the run's state does that.
    """
    from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment

    if slurm_tasks() > 1:
        return [SLURMEnvironment(auto_requeue=False)]
    return [LightningEnvironment()] if "SLURM_JOB_ID" in os.environ else []


def slurm_tasks() -> int:
    """How many processes ``srun`` has started, this one among them; 0 where it has started none."""
    in_step = os.environ.get("SLURM_STEP_ID", "").isdigit()
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) if in_step else 0


def slurm_rank() -> int:
    """Which of the processes that ``srun`` has started this one is."""
    return int(os.environ.get("SLURM_PROCID") or 0) if slurm_tasks() else 0


def _leave_group() -> None:
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
