"""``hydra/sweeper=study``: Optuna's studies over runs, pruned, shared by workers and resumed to the trial."""

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from src.jobs.space import fix, overrides_of
from src.utils.arguments import quoted
from src.utils.ddp import slurm_tasks
from src.utils.errors import UserError

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """SIGTERM to the sweep; as with Ctrl-C its trials stay to be continued."""


class StudySweeper(Sweeper):
    """Runs trials one after another, each alone, until the study has ``n_trials``.

    What a trial has become is read from its run's directory, so that a killed sweep is taken up where it was.

    Args:
        sampler, pruner: configs of classes of ``optuna.samplers`` and ``optuna.pruners``.
        direction: ``minimize`` or ``maximize``, or a list of them.
        storage: see ``src.jobs.storage``; study_name: of the study in it.
        n_trials: in all, whoever ran them and when.
        n_jobs: how many at a time.
        max_failure_rate: part of this session's trials that may fail before it ends.
        params: setting → search space.
        defaults_first: the config's own values are the first trial, where they lie in the space.
        folder: of the study below the experiment's; read by ``hydra.sweep.dir``.
    """

    def __init__(
        self,
        sampler: DictConfig,
        pruner: DictConfig | None,
        direction: Any,
        storage: str | None,
        study_name: str,
        n_trials: int,
        n_jobs: int,
        max_failure_rate: float,
        params: DictConfig | None,
        defaults_first: bool,
        folder: str,
    ) -> None:
        from src.jobs.trial import directions

        self.sampler, self.pruner = sampler, pruner
        self.directions = directions(direction)
        self.storage, self.study_name = storage, study_name
        self.n_trials, self.n_jobs, self.max_failure_rate = n_trials, n_jobs, max_failure_rate
        self.params: Any = params or {}
        self.defaults_first = defaults_first
        self.config: DictConfig
        self.launcher: Launcher
        self._ending = threading.Event()
        self._failures = 0
        self._error: BaseException | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        from src.jobs.space import check_settings

        counts = {name: getattr(self, name) for name in ("n_trials", "n_jobs", "max_failure_rate")}
        self.metrics = check_settings(config, self.directions, counts, bool(self.pruner))
        fix(config, "hydra.sweep.dir", str(config.hydra.sweep.dir))
        fix(config, "hydra.sweeper.study_name", self.study_name)
        self.config, self.context = config, hydra_context
        self.directory = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        if self.n_jobs > 1 and type(self.launcher).__name__ == "BasicLauncher":
            raise UserError(
                f"hydra.sweeper.n_jobs={self.n_jobs} needs processes to run in: hydra/launcher=processes"
            )

    def sweep(self, arguments: list[str]) -> None:
        from src.jobs.storage import first_line, masked, quiet_optuna, storage_errors

        quiet_optuna()
        before = signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            self._open(arguments)
            log.info("study %s in %s", self.study_name, self.directory)
            self._run_shared()
            if self._ending.is_set():
                raise Interrupted(signal.SIGTERM.name)
        except KeyboardInterrupt as stop:
            log.info("stopped; the same command goes on with the study")
            sys.exit(143 if isinstance(stop, Interrupted) else 130)
        except storage_errors(self.storage) as error:
            where = masked(self.storage) if self.storage else self.directory
            raise UserError(
                f"the study's storage {where} was lost ({first_line(error)}); "
                "the same command goes on with the study"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)
            close = getattr(self.launcher, "close", None)
            if close:
                close()
        self._report()

    def _open(self, arguments: Sequence[str]) -> None:
        from src.jobs import space as spaces
        from src.jobs.storage import claiming, open_storage
        from src.jobs.study import SharedStudy, open_study

        given = [*(f"{name!s}={value}" for name, value in self.params.items()), *arguments]
        space, fixed, deletions = spaces.parse_space(given)
        if not space:
            raise UserError(
                "there is nothing to search: give hydra.sweeper.params, or an argument such as "
                "model.latent_dim=choice(4,8,16) or model.optimizer.lr=tag(log,interval(1e-4,1e-2))"
            )
        self.fixed = [*(f"{name}={value}" for name, value in fixed.items()), *deletions]
        for point in spaces.examples(
            space
        ):  # a setting that does not exist, before there is a study
            self._compose([*spaces.overrides_of(point), *self.fixed])
        size = spaces.grid_size(self.sampler, space)
        self.n_trials = min(self.n_trials, size or self.n_trials)
        make = spaces.sampler_factory(self.sampler, space, int(self.config.get("seed") or 0))
        setup = {
            "overrides": fixed | {name: "deleted" for name in deletions},
            "space": {name: str(distribution) for name, distribution in space.items()},
            "hydra.sweeper.direction": list(self.directions),
            "optimized_metric": self.metrics,
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        storage = open_storage(self.storage, self.directory)
        lock = partial(claiming, storage, self.storage, self.directory, self.study_name)
        with lock():
            study = open_study(storage, self.study_name, self.directions, setup)
        self.shared = SharedStudy(
            study, self.directory, self.n_trials, self.metrics, space, make, lock
        )
        defaults = spaces.defaults_in(space, self.config)
        if defaults:  # a grid comes to them by itself
            self.shared.note_defaults(defaults, first=self.defaults_first and size is None)

    def _compose(self, overrides: Sequence[str]) -> None:
        self.context.config_loader.load_sweep_config(self.config, list(overrides))

    # Running.

    def _run_shared(self) -> None:
        from src.jobs.owners import heartbeat
        from src.jobs.storage import storage_errors

        errors, study_id = storage_errors(self.storage), self.shared.study._study_id
        with heartbeat(self.shared.storage, study_id, self.shared.name, errors):
            self._run_all()

    def _run_all(self) -> None:
        done = sum(trial.state.is_finished() for trial in self.shared.trials())
        self._session = max(self.n_trials - done, 1)
        if (
            self.n_jobs == 1
        ):  # on the main thread, where a launcher without processes can be interrupted
            self._work()
            return
        threads = [
            threading.Thread(target=self._guarded, name=f"job{k}") for k in range(self.n_jobs)
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.2)
        except KeyboardInterrupt:
            # Again and again: a job may just have been about to start.
            while any(thread.is_alive() for thread in threads):
                self._end()
                for thread in threads:
                    thread.join(0.5)
            raise
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        try:
            self._work()
        except BaseException as error:  # raised again on the main thread
            self._error = self._error or error
            self._end()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if not self._trials_hear_it():
            raise Interrupted(signal.Signals(number).name)
        # They stop by themselves, and another signal would end them unsaved.
        # In a thread: this one may hold the event's lock.
        threading.Thread(target=self._ending.set).start()

    def _trials_hear_it(self) -> bool:
        """Whether trials get the signals that this process gets, as all processes of a step of SLURM's do."""
        return slurm_tasks() > 0 and getattr(self.launcher, "runs_here", False)

    def _end(self) -> None:
        self._ending.set()
        interrupt = getattr(self.launcher, "interrupt", None)
        if interrupt:
            interrupt()

    def _work(self) -> None:
        while not self._ending.is_set():
            claim = self.shared.claim(self._ending)
            if claim is None:
                return
            if self._ending.is_set():
                self.shared.give_back(claim.number)
                return
            self._run(claim)

    def _run(self, claim: Any) -> None:
        from src.jobs.outcome import started
        from src.jobs.storage import storage_errors

        overrides = [*overrides_of(claim.params), *self.fixed]
        if claim.checkpoint:
            overrides.append(f"ckpt_path={quoted(str(claim.checkpoint))}")
        log.info("trial %d: %s", claim.number, " ".join(overrides_of(claim.params)))
        before = started(self.directory / str(claim.number))
        try:
            returned = self.launcher.launch([overrides], initial_job_idx=claim.number)[0]
        except SystemExit as exit:  # of a launcher that runs jobs in this process
            if isinstance(exit.code, int) and exit.code > 128:  # stopped by a signal
                self.shared.give_back(claim.number)
                raise (KeyboardInterrupt if exit.code == 130 else Interrupted)() from None
            returned = _failed(exit)
        except BaseException:
            with suppress(*storage_errors(self.storage)):  # what ends the sweep is what is told
                self.shared.give_back(claim.number)
            raise
        self._judge(claim.number, returned, before)

    def _judge(self, number: int, returned: JobReturn, before: float | None) -> None:
        from src.jobs.outcome import COMPLETE, FAILED, OPEN, Outcome, outcome_of, started
        from src.runs.slurm import MAKE_WAY, job_id

        run = self.directory / str(number)
        outcome = outcome_of(run, self.metrics)
        if before is not None and started(run) == before:  # what is there is an earlier start's
            outcome = Outcome(OPEN, error="its run could not begin")
        error = returned._return_value if returned.status == JobStatus.FAILED else None
        if outcome.is_config_error:
            self.shared.give_back(number, void=True)
            raise UserError(str(outcome.error).split(": ", 1)[1])
        if outcome.state == OPEN:
            # Not where only the trial's job has to, and this process is elsewhere.
            makes_way = outcome.note == MAKE_WAY and job_id() is not None
            # A signal that was sent to all processes of a job may reach this one after the trial's.
            if self._ending.wait(2.0 if outcome.note else 0.0) or makes_way:
                self.shared.give_back(number)
                if makes_way:
                    raise Interrupted(MAKE_WAY)
                return
            told = outcome.note and outcome.note != MAKE_WAY  # of that the job itself says more
            reason = outcome.error if told else error or outcome.error
            outcome = Outcome(FAILED, error=" ".join(str(reason).split()))
        self.shared.tell(number, outcome)
        log.info("trial %d %s", number, outcome.told(self.metrics))
        if outcome.state == FAILED:
            self._failures += 1
            if self._failures > self.max_failure_rate * self._session:
                raise UserError(
                    f"{self._failures} of the {self._session} trials of this session failed, more than "
                    f"hydra.sweeper.max_failure_rate={self.max_failure_rate} allows; the last one: {outcome.error}"
                )
        elif outcome.state == COMPLETE and len(self.metrics) == 1:
            log.info("best so far: trial %d", self.shared.study.best_trial.number)

    def _report(self) -> None:
        from src.jobs.storage import shown
        from src.jobs.study import is_over
        from src.jobs.study_report import report

        trials = self.shared.trials()
        if not is_over(trials, self.n_trials):
            log.info(
                "%d trials are with other workers; the last of them writes the report",
                len(self.shared.running()),
            )
            return
        report(self.shared.study, self.directory, self.metrics, shown(self.storage, self.directory))


def _failed(error: BaseException) -> JobReturn:
    returned = JobReturn()
    returned.status, returned.return_value = JobStatus.FAILED, error
    return returned
