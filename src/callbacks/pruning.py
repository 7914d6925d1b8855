"""A trial tells its study every validation, and ends when the study's pruner gives it up."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from src.jobs.storage import open_storage, quiet_optuna, storage_errors
from src.jobs.trial import TrialInfo
from src.utils.errors import UnknownMetric, nearest

log = logging.getLogger(__name__)


class ReportToStudy(Callback):
    """Reports the optimised metric after each validation, with the epoch as its step. The first process does it.

    A storage that does not answer costs the pruning and not the training.

    Args:
        trial: the one that this run is.
        metrics: the names of what is optimised.
        prune: called with the epoch after which the trial is to end.
    """

    def __init__(
        self, trial: TrialInfo, metrics: Sequence[str], prune: Callable[[int], None]
    ) -> None:
        self.trial, self.metrics, self.prune = trial, metrics, prune
        self._study: Any = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        found = trainer.callback_metrics
        for name in self.metrics:
            if name not in found and not name.startswith("test/"):
                raise UnknownMetric(
                    f"optimized_metric='{name}' is not logged{nearest(name, found)}"
                )
        if self.trial.may_be_pruned and self.metrics[0] in found:
            self._report(trainer.current_epoch, float(found[self.metrics[0]]))

    def _report(self, epoch: int, value: float) -> None:
        try:
            if self._is_given_up(epoch, value):
                log.info("pruned after epoch %d: %s = %.6g", epoch, self.metrics[0], value)
                self.prune(epoch)
        except storage_errors(self.trial.storage) as error:
            log.warning("the study does not hear of epoch %d: %s", epoch, type(error).__name__)

    def _is_given_up(self, epoch: int, value: float) -> bool:
        study = self._study or self._open()
        storage, number = study._storage, self.trial.number
        trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        storage.set_trial_intermediate_value(trial_id, epoch, value)
        # Not Trial.should_prune: making a Trial would ask the sampler for suggestions.
        return bool(study.pruner.prune(study, storage.get_trial(trial_id)))

    def _open(self) -> Any:
        import optuna
        from hydra.utils import instantiate

        quiet_optuna()
        pruner = instantiate(self.trial.pruner, _execution_whitelist_=("optuna.pruners.*",))
        self._study = optuna.load_study(
            study_name=self.trial.study,
            storage=open_storage(self.trial.storage, self.trial.directory),
            pruner=pruner,
        )
        return self._study
