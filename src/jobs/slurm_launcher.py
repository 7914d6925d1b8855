"""``hydra/launcher=slurm``: the jobs of a multirun, and the trials of a study, are SLURM jobs."""

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from src.utils.errors import UserError

log = logging.getLogger(__name__)


class SlurmLauncher(Launcher):
    """Submits every job with the config it is composed to now, waits for all and returns what each returned.

    Jobs that ask for the same resources are one array. ``launch`` may be called from several threads.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from src.jobs.slurm_request import check, check_machine

        if "scheduler" not in config.get("cluster", {}):
            raise UserError(
                "hydra/launcher=slurm needs to know what to ask for: choose cluster=slurm"
            )
        check_machine()
        check(_plain(config.cluster))
        self.context, self.task, self.config = hydra_context, task_function, config
        self.is_study = not str(config.hydra.sweeper.get("_target_")).endswith(".BasicSweeper")
        self._followed: set[Any] = set()
        if not config.cluster.wait and self.is_study:
            raise UserError(
                "cluster.wait=false does not go with a study, which learns from what its trials return; "
                "use cluster=slurm_array_sweep"
            )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from src.jobs.slurm_queue import SUBMITTING, wait

        with SUBMITTING:
            configs = [
                self._compose(overrides, initial_job_idx + i)
                for i, overrides in enumerate(job_overrides)
            ]
            jobs = self._submit(configs)
        if self.config.cluster.wait:
            self._followed |= set(jobs)
            try:
                wait(jobs, self.config.cluster.poll_s)
            except KeyboardInterrupt:
                if (
                    self.is_study
                ):  # the same command goes on with its trials, which must not be running then
                    self.interrupt()
                else:
                    log.warning(
                        "the jobs go on: python -m src.runs cancel %s ends them", self._sweep_dir
                    )
                raise
            finally:
                self._followed -= set(jobs)
        return [_job_return(config, job) for config, job in zip(configs, jobs, strict=True)]

    def interrupt(self) -> None:
        """Take every job that is waited for out of the queue; one that runs saves its state first."""
        from src.runs.slurm import cancel

        for job in list(self._followed):
            self._followed.discard(job)  # asked twice, it would end without saving
            with suppress(UserError):  # it has just ended
                cancel(job.id)

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
            config.hydra.sweep.dir = str(self._sweep_dir)
        return config

    @property
    def _sweep_dir(self) -> Path:
        return Path(self.config.hydra.sweep.dir).absolute()

    def _submit(self, configs: list[DictConfig]) -> list[Any]:
        from src.jobs.slurm_queue import FOLDER, submit
        from src.jobs.slurm_task import run_composed

        groups: dict[str, list[int]] = {}
        jobs = self._still_there(configs)
        for i, config in enumerate(configs):
            if i in jobs:
                continue
            groups.setdefault(json.dumps(_plain(config.cluster), sort_keys=True), []).append(i)
        how = (self.task, self.context.execution_whitelist, list(sys.argv))
        for key, members in groups.items():
            calls = [
                (
                    _name(configs[i]),
                    self._sweep_dir / str(configs[i].hydra.sweep.subdir),
                    partial(run_composed, configs[i], *how),
                )
                for i in members
            ]
            name = str(configs[members[0]].get("name", "run"))
            found = submit(json.loads(key), self._sweep_dir / FOLDER, name, calls)
            jobs |= dict(zip(members, found, strict=True))
        for i, config in enumerate(configs):
            said = " ".join(filter_overrides(OmegaConf.to_container(config.hydra.overrides.task)))  # type: ignore[arg-type]
            log.info(
                "%s is SLURM job %s in %s: %s", jobs[i].name, jobs[i].id, jobs[i].directory, said
            )
        return [jobs[i] for i in range(len(configs))]

    def _still_there(self, configs: list[DictConfig]) -> dict[int, Any]:
        """The jobs of these runs that an earlier command has submitted and that are still in the queue.

        A study that is taken up again waits for them; in a directory of a run there is never more than one job.
        """
        from src.jobs.slurm_queue import FOLDER, earlier

        found = earlier(self._sweep_dir / FOLDER, [_name(config) for config in configs])
        for job in found.values():
            if not self.is_study:
                raise UserError(
                    f"{job.directory} belongs to SLURM job {job.id}, which is {job.state}: cancel it with "
                    f"python -m src.runs cancel {job.directory}, or choose another hydra.sweep.dir"
                )
            log.info("%s is still SLURM job %s, which is %s", job.name, job.id, job.state)
        return {i: found[name] for i, c in enumerate(configs) if (name := _name(c)) in found}


def _name(config: DictConfig) -> str:
    return f"job {config.hydra.job.num}"


def _plain(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _job_return(config: DictConfig, job: Any) -> JobReturn:
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return JobReturn(
        overrides=list(config.hydra.overrides.task),
        cfg=own,
        hydra_cfg=OmegaConf.masked_copy(config, ["hydra"]),
        working_dir=str(job.directory),
        task_name=str(config.hydra.job.name),
        status=JobStatus.FAILED if job.error else JobStatus.COMPLETED,
        _return_value=UserError(job.error) if job.error else job.value,
    )
