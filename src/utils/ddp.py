"""Lightning's many-process launch under Hydra, mended.

Lightning starts the other ranks by repeating the command line, which resolves the output directory again and,
in a multirun, makes every rank run the whole sweep by itself: different trials train on different ranks. Here
the other ranks run the one job that rank 0 has composed, from the config that Hydra saved for it.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


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


@contextmanager
def many_processes() -> Iterator[None]:
    """Let a job inside start other ranks, and leave no process group or variable behind for the next job."""
    import lightning.pytorch.strategies.launchers.subprocess_script as launcher
    import torch.distributed

    # The name was imported into this module; the one it came from is not looked at any more.
    launcher._hydra_subprocess_cmd = child_command
    before = {name: os.environ.get(name) for name in VARIABLES}
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
