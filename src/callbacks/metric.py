"""The latent metric follows the encodings while a model trains."""

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from src.utils.errors import UserError

log = logging.getLogger(__name__)


class RefreshMetric(Callback):
    """Fits the latent metric to encodings of the training data before a validation, so that a checkpoint holds the
    metric it was validated with. Models without a metric are left alone.

    A fitted metric is refreshed in the first part of the training only, because the objective moves with it; one that a
    network learns is refreshed before every validation. A metric that ``model.pretrained.metric`` has brought stays as
    it is. Encodings that no metric can be fitted to, such as those of a collapsed posterior, leave the one before in
    place, with a warning.

    Args:
        first_epoch: after how many epochs for the first time; at ``until`` where a training is shorter than that.
        every_n_epochs: how often from there, at the next validation.
        until: part of ``trainer.max_epochs`` after which the metric stays as it is.
        points: training samples that are encoded, spread over the whole split.
    """

    def __init__(
        self,
        first_epoch: int = 5,
        every_n_epochs: int = 5,
        until: float = 0.5,
        points: int = 4000,
    ) -> None:
        if every_n_epochs < 1 or first_epoch < 1 or points < 2 or not 0 < until <= 1:
            raise UserError(
                f"callbacks.metric: first_epoch={first_epoch} and every_n_epochs={every_n_epochs} must be at least 1, "
                f"points={points} at least 2, until={until} in (0, 1]"
            )
        self.first_epoch, self.every_n_epochs = first_epoch, every_n_epochs
        self.until, self.points = until, points
        self.made = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        latent: Any = pl_module.latent
        if latent.metric is not None and _brought(pl_module):
            log.info("metric: stays as model.pretrained.metric has brought it")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        latent: Any = pl_module.latent
        if trainer.state.fn != "fit" or latent.metric is None or _brought(pl_module):
            return
        if not getattr(latent.metric, "learned", False) and not self._due(trainer):
            return
        if trainer.is_global_zero:
            try:
                self.refresh(latent, trainer.datamodule, pl_module.device)  # type: ignore[attr-defined]
                log.info("metric: refreshed after epoch %d", trainer.current_epoch + 1)
            except UserError as error:
                log.warning(
                    "metric: not refreshed after epoch %d: %s", trainer.current_epoch + 1, error
                )
        # One process fits, all use the same: k-means need not come out alike everywhere.
        for part in (latent.metric, latent.prior):
            if part is not None:
                buffers = {name: value.cpu() for name, value in part.named_buffers()}
                part.load_state_dict(trainer.strategy.broadcast(buffers), strict=False)

    def state_dict(self) -> dict[str, Any]:
        """How many refreshes of the plan have been made, so that a resumed training goes on with it."""
        return {"made": self.made}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.made = state_dict["made"]

    def _due(self, trainer: Trainer) -> bool:
        # Validations may come in the middle of an epoch, or not after every one.
        epochs = trainer.current_epoch + int(trainer.is_last_batch)
        planned = self._planned(epochs, trainer.max_epochs)
        due, self.made = planned > self.made, max(planned, self.made)
        return due

    def _planned(self, epochs: int, limit: int | None) -> int:
        """How many refreshes the schedule has in the first ``epochs`` of a training of ``limit``."""
        last = max(1, int(self.until * limit)) if limit is not None and limit > 0 else epochs
        first = min(self.first_epoch, last) if limit is not None and limit > 0 else self.first_epoch
        reached = min(epochs, last)
        return 0 if reached < first else 1 + (reached - first) // self.every_n_epochs

    @torch.no_grad()
    def refresh(self, latent: Any, data: Any, device: torch.device) -> None:
        """Encode training data and refresh the metric."""
        was_training = latent.training
        latent.eval()
        points, means = [], []
        for rows in data.spread("train", self.points).split(data.eval_batch_size):
            seen = latent.point(data.rows("train", rows).to(device))
            means.append(latent.encode_point(seen).mean)
            if getattr(latent.metric, "learned", False):  # only that one looks at the data again
                points.append(seen)
        latent.refresh_metric(torch.cat(points) if points else None, torch.cat(means))
        latent.train(was_training)


def _brought(pl_module: Any) -> bool:
    return bool(pl_module.pretrained.get("metric")) and pl_module.latent.metric.is_fitted
