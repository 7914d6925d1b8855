"""A study that several workers share: each trial is run once, whoever runs it and however often it is interrupted."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.jobs.outcome import COMPLETE, FAILED, OPEN, PRUNED, Outcome, is_alive, outcome_of
from src.jobs.owners import ALIVE, DOUBTED, own_name, owner_state
from src.runs.reading import read_run
from src.runs.restart import last_checkpoint
from src.utils.errors import UserError

log = logging.getLogger(__name__)
OWNER, STARTS, VOID, SETUP, DEFAULTS = "owner", "starts", "void", "setup", "defaults"
# A trial that was interrupted so often without a step in between is what interrupts its workers.
MAX_RETRIES = 3
# Settings that a resumed study may be given anew: they change how trials run, not what they measure.
UNCOMPARED = (
    "logger",
    "cluster",
    "tags",
    "threads",
    "paths",
    "trainer.enable_progress_bar",
    "callbacks.progress",
)


@dataclass(frozen=True)
class Claim:
    """A trial that belongs to this worker until it is told or given back.

    Attributes:
        number: of the trial.
        params: the suggested value of every searched setting.
        checkpoint: where an interrupted trial goes on from.
    """

    number: int
    params: dict[str, Any]
    checkpoint: Path | None


def open_study(storage: Any, name: str, directions: Sequence[Any], setup: dict[str, Any]) -> Any:
    """The Optuna study ``name``, made where there is none.

    Args:
        directions: ``minimize`` or ``maximize`` for every metric.
        setup: what makes its trials comparable: kept with it, and compared when it is resumed.

    Raises:
        UserError: it is resumed with another setup.
    """
    import optuna

    try:
        study = optuna.create_study(study_name=name, storage=storage, directions=[*directions])
        study.set_user_attr(SETUP, setup)
        return study
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
    known = study.user_attrs.get(SETUP)
    began = any(_counts(trial) for trial in study.get_trials(deepcopy=False))
    same_directions = [d.name.lower() for d in study.directions] == list(directions)
    if known is None or (not began and same_directions):
        study.set_user_attr(SETUP, setup)
    else:
        _compare(known, setup, name)
    return study


def _counts(trial: Any) -> bool:
    """Whether a trial has been run, or is being, with the setup of its study."""
    return trial.state.name != "WAITING" and not trial.system_attrs.get(VOID)


def _compare(known: dict[str, Any], now: dict[str, Any], study: str) -> None:
    hint = f"give the same again, or another hydra.sweeper.study_name than '{study}'"
    for part in sorted(known.keys() | now.keys()):
        before, after = known.get(part), now.get(part)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            keys = sorted(before.keys() | after.keys())
            changed = [
                k for k in keys if before.get(k) != after.get(k) and not k.startswith(UNCOMPARED)
            ]
            if not changed:
                continue
            part, before, after = changed[0], before.get(changed[0]), after.get(changed[0])
        raise UserError(
            f"this study was begun with {part}={_word(before)}, and now it is {_word(after)}; {hint}"
        )


def _word(value: Any) -> str:
    return "nothing" if value is None else str(value)


class SharedStudy:
    """The next trial for this worker, and what became of it.

    Args:
        study: Optuna's study.
        directory: of the sweep; trial n is the run in ``<n>``.
        n_trials: how many there are to be in all, whoever runs them.
        metrics: the names of what is optimised.
        space: searched setting → Optuna's distribution.
        sampler: a trial's number → the sampler that suggests it.
        lock: a context in which no other worker of the study claims.
    """

    def __init__(
        self,
        study: Any,
        directory: Path,
        n_trials: int,
        metrics: Sequence[str],
        space: dict[str, Any],
        sampler: Callable[[int], Any],
        lock: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.study, self.directory, self.n_trials = study, directory, n_trials
        self.metrics, self.space, self.sampler, self.lock = metrics, space, sampler, lock
        self.storage, self.name = study._storage, own_name()

    def note_defaults(self, defaults: dict[str, Any], first: bool) -> None:
        """Let the report know the config's own values, and make them the first trial of a study that has none."""
        with self.lock():
            self.study.set_user_attr(DEFAULTS, defaults)
            if first and not self.trials():
                self.study.enqueue_trial(defaults)

    def trials(self) -> list[Any]:
        """All trials as the storage has them now."""
        return self.study.get_trials(deepcopy=False)

    def running(self) -> list[Any]:
        """The trials that some worker is at."""
        return [trial for trial in self.trials() if trial.state.name == "RUNNING"]

    def claim(self, ending: threading.Event) -> Claim | None:
        """The next trial of this worker, an interrupted one first; None when the others are somebody's or done.

        Waits while an interrupted trial's run is still stopping, or its worker elsewhere is overdue.

        Args:
            ending: set when no further trial is wanted.
        """
        while True:
            with self.lock():
                claim, wait = self._interrupted()
                if claim is None:
                    claim = self._new()
            if claim is not None or not wait or ending.wait(1):
                return claim

    def _interrupted(self) -> tuple[Claim | None, bool]:
        beats = self.storage.get_study_system_attrs(self.study._study_id)
        wait = False
        for trial in self.running():
            owner = trial.system_attrs.get(OWNER)
            state = owner_state(owner, beats)
            if state == ALIVE:
                continue
            run = self.directory / str(trial.number)
            if not trial.distributions.items() <= self.space.items():
                self._tell(trial.number, Outcome(FAILED, error="the study was given another space"))
                continue
            if state == DOUBTED or is_alive(run):
                wait = True
                continue
            outcome = outcome_of(run, self.metrics)
            given_back = owner is None
            if outcome.state == OPEN or (given_back and outcome.state == FAILED):
                if self._is_hopeless(trial, run):
                    outcome = Outcome(
                        FAILED, error=f"interrupted {MAX_RETRIES} times at the same step"
                    )
                else:
                    return self._take(trial, run), wait
            self._tell(trial.number, outcome)
            log.info("trial %d had ended: %s", trial.number, outcome.state)
        return None, wait

    def _new(self) -> Claim | None:
        import optuna

        trials = self.trials()
        waiting = [t.number for t in trials if t.state == optuna.trial.TrialState.WAITING]
        if not waiting and len(trials) >= self.n_trials:
            return None
        # Of the number alone, so that a resumed study neither repeats itself nor depends on where it was interrupted.
        self.study.sampler = self.sampler(min(waiting, default=len(trials)))
        trial = self.study.ask(fixed_distributions=self.space)
        self.storage.set_trial_system_attr(trial._trial_id, OWNER, self.name)
        return Claim(trial.number, dict(trial.params), None)

    def _take(self, trial: Any, run: Path) -> Claim:
        import optuna

        self.storage.set_trial_system_attr(trial._trial_id, OWNER, self.name)
        self.storage.set_trial_system_attr(trial._trial_id, VOID, False)
        starts = [*trial.system_attrs.get(STARTS, []), _step(run)]
        self.storage.set_trial_system_attr(trial._trial_id, STARTS, starts)
        self.study.sampler = self.sampler(trial.number)
        again = optuna.trial.Trial(self.study, trial._trial_id)
        for name, distribution in self.space.items():  # what has a value keeps it
            again._suggest(name, distribution)
        last = last_checkpoint(run)
        if not last.exists():  # the steps before its first checkpoint are taken, and logged, anew
            (run / "metrics.jsonl").unlink(missing_ok=True)
        log.info("trial %d was interrupted and goes on", trial.number)
        return Claim(trial.number, dict(again.params), last if last.exists() else None)

    def _is_hopeless(self, trial: Any, run: Path) -> bool:
        starts = trial.system_attrs.get(STARTS, [])[-MAX_RETRIES:]
        return (
            len(starts) == MAX_RETRIES
            and set(starts) == {_step(run)}
            and trial.system_attrs.get(OWNER) is not None
        )

    def tell(self, number: int, outcome: Outcome) -> None:
        """Write how a trial ended into the study."""
        with self.lock():
            self._tell(number, outcome)

    def give_back(self, number: int, void: bool = False) -> None:
        """Leave a trial to whoever comes next; it goes on where it was.

        Args:
            void: what it was run with cannot be run: it does not keep the study from being given another setup.
        """
        self.storage.set_trial_system_attr(self._id(number), VOID, void)
        self.storage.set_trial_system_attr(self._id(number), OWNER, None)

    def _tell(self, number: int, outcome: Outcome) -> None:
        import optuna

        states = optuna.trial.TrialState
        state = {COMPLETE: states.COMPLETE, PRUNED: states.PRUNED}.get(outcome.state, states.FAIL)
        attributes = {
            "error": outcome.error,
            "pruned": outcome.note,
            "directory": str(self.directory / str(number)),
        }
        for name, value in attributes.items():
            if value is not None:
                self.storage.set_trial_user_attr(self._id(number), name, value)
        values = list(outcome.values) if outcome.state == COMPLETE else None
        try:
            self.study.tell(number, values, state=state)
        except RuntimeError as error:
            # A sampler of grids asks a loop of Optuna's own to end; ours counts trials.
            if "Study.stop" not in str(error):
                raise

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)


def _step(run: Path) -> int:
    try:
        return int(read_run(run).info.get("progress", {}).get("step", 0))
    except (UserError, TypeError, ValueError):
        return 0


def is_over(trials: Sequence[Any], n_trials: int) -> bool:
    """Whether no trial is left to be run."""
    return sum(trial.state.is_finished() for trial in trials) >= n_trials
