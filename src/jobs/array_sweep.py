"""``cluster=slurm_array_sweep``: the workers of one study are the jobs of a SLURM array."""

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from src.jobs.sweeper import StudySweeper
from src.utils.arguments import quoted
from src.utils.errors import UserError

log = logging.getLogger(__name__)


class ArraySweeper(StudySweeper):
    """Opens the study, lets ``cluster.workers`` jobs run this command on it, and writes the report in the end.

    A worker is told nothing of the others: they share the study as any two commands would.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from src.jobs.slurm_request import check, check_machine

        asked: Any = OmegaConf.to_container(config.cluster, resolve=True)
        self.cluster: dict[str, Any] = asked
        if not {"scheduler", "workers"} <= self.cluster.keys():
            raise UserError(
                "hydra/sweeper=array needs to know what to ask for: cluster=slurm_array_sweep"
            )
        if self.cluster["nodes"] * self.cluster["tasks_per_node"] > 1:
            raise UserError(
                "cluster=slurm_array_sweep: a worker is one process on one node, which starts those of its trials "
                "(trainer.devices); leave cluster.nodes and cluster.tasks_per_node at 1"
            )
        check_machine()
        check(self.cluster)
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def _run_all(self) -> None:
        from src.jobs.slurm_queue import FOLDER, earlier, submit, wait
        from src.jobs.slurm_task import run_command

        here = self.directory.absolute()
        script = str(Path(sys.argv[0]).absolute())
        command = ["-u", script, *worker_arguments(sys.argv[1:], here, self.cluster)]
        calls = [
            (f"worker {k}", here, partial(run_command, command))
            for k in range(self.cluster["workers"])
        ]
        there = earlier(here / FOLDER, [name for name, *_ in calls])
        calls = [call for call in calls if call[0] not in there]
        jobs = [
            *there.values(),
            *submit(self.cluster, here / FOLDER, f"{self.study_name}-worker", calls),
        ]
        for job in jobs:
            log.info("%s is SLURM job %s", job.name, job.id)
        if not self.cluster["wait"]:
            return
        try:
            wait(jobs, self.cluster["poll_s"])
        except KeyboardInterrupt:
            log.warning("the workers go on: python -m src.runs cancel %s ends them", here)
            raise
        if all(job.error for job in jobs):
            raise UserError(f"no worker came to its end: {jobs[0].error}")

    def _trials_hear_it(self) -> bool:
        return False  # they are in jobs of their own


def worker_arguments(given: Sequence[str], directory: Path, cluster: dict[str, Any]) -> list[str]:
    """What a worker is given: the same study in the same directory, run on the machine it is on.

    Args:
        given: to this command.
        directory: of the study.
        cluster: the keys of ``conf/cluster/slurm_array_sweep.yaml``.
    """
    gone = ("cluster=", "cluster.", "hydra.sweep.dir=", "hydra/sweeper=")
    kept = [one for one in given if not one.lstrip("+").startswith(gone)]
    # Without cluster=slurm_array_sweep nothing but a search says that this is a study.
    own = ["cluster=none", "hydra/sweeper=study"]
    if not any(one.startswith("hydra/launcher=") for one in kept):
        own.append("hydra/launcher=processes")
    own += [f"cluster.max_requeues={cluster['max_requeues']}"]
    return [*kept, *own, f"hydra.sweep.dir={quoted(str(directory))}"]
