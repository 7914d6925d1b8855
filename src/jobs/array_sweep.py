"""``cluster=slurm_array_sweep``: the workers of one study are the jobs of a SLURM array."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from src.jobs.sweeper import StudySweeper, quoted
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
        if "workers" not in self.cluster:
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
        calls = [
            (f"worker {k}", here, partial(run_command, self._command(here)))
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

    def _command(self, directory: Path) -> list[str]:
        """This command as a worker runs it: on the machine it is on, in the study's directory."""
        gone = ("cluster=", "cluster.", "hydra.sweep.dir=")
        given = [one for one in sys.argv[1:] if not one.lstrip("+").startswith(gone)]
        script = str(Path(sys.argv[0]).absolute())
        place = f"hydra.sweep.dir={quoted(str(directory))}"
        limit = f"cluster.max_requeues={self.cluster['max_requeues']}"
        return [sys.executable, "-u", script, *given, "cluster=none", limit, place]
