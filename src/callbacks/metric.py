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
    network learns is refreshed before every validation.

    Args:
        first_epoch: after how many epochs for the first time.
        every_n_epochs: how often from there.
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
        if every_n_epochs < 1 or first_epoch < 1 or points < 2:
            raise UserError(
                f"callbacks.metric: first_epoch={first_epoch} and every_n_epochs={every_n_epochs} must be at least 1, "
                f"points={points} at least 2"
            )
        self.first_epoch, self.every_n_epochs = first_epoch, every_n_epochs
        self.until, self.points = until, points

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        latent: Any = pl_module.latent
        if trainer.state.fn != "fit" or latent.metric is None or not self._due(trainer, latent):
            return
        if trainer.is_global_zero:
            self.refresh(latent, trainer.datamodule, pl_module.device)  # type: ignore[attr-defined]
            log.info("metric: refreshed after epoch %d", trainer.current_epoch + 1)
        # One process fits, all use the same: k-means need not come out alike everywhere.
        for part in (latent.metric, latent.prior):
            if part is not None:
                part.load_state_dict(trainer.strategy.broadcast(part.state_dict()))

    def _due(self, trainer: Trainer, latent: Any) -> bool:
        if getattr(latent.metric, "learned", False):
            return True
        done = trainer.current_epoch + 1
        limit = trainer.max_epochs
        late = limit is not None and limit > 0 and done > max(self.until * limit, self.first_epoch)
        since = done - self.first_epoch
        return not late and since >= 0 and since % self.every_n_epochs == 0

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
