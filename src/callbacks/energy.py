"""What a model's energy is on the data that it has learned from, kept beside the model."""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.models.energy import Mode, calibrate, check_setting, energy, energy_terms
from src.runs.loading import CALIBRATION, checksum
from src.runs.record import write_json
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

log = logging.getLogger(__name__)


class CalibrateEnergy(Callback):
    """Writes ``model/energy.json`` when a model has been tested: the energies of its training data, and a threshold.

    ``src.runs.load_energy`` opens it with the model. The energies are those of the tested weights, in evaluation mode
    and the weights' own precision, of rows spread over the training split.

    Args:
        directory: the run's directory.
        rows: how many of them at most.
        mode, k: of the energy, see ``src.models.energy.energy``.
        reject_above: the percentile, in %, above which an energy is rejected.
        batch_size: rows at once.
    """

    def __init__(
        self,
        directory: str,
        rows: int = 200_000,
        mode: Mode = "mean",
        k: int = 1,
        reject_above: float = 99.0,
        batch_size: int = 8192,
    ) -> None:
        if rows < 2 or batch_size < 1:
            raise UserError(
                f"callbacks.energy: rows={rows} must be at least 2 and batch_size={batch_size} at least 1"
            )
        check_setting(mode, k, reject_above)
        self.directory, self.rows, self.batch_size = Path(directory), rows, batch_size
        self.mode, self.k, self.reject_above = mode, k, reject_above

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse, before anything is trained, a model whose energy does not tell one sample from another."""
        latent: Any = pl_module.latent
        if latent.condition_key is not None:
            raise UserError(
                "callbacks.energy calibrates models without a condition: leave it out with callbacks.energy=null"
            )
        if not latent.has_bound:
            raise UserError(
                "callbacks.energy needs a model with a prior and a density: leave it out with callbacks.energy=null"
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        model: Any = pl_module
        with torch.no_grad(), isolated_rng(0, model.device):
            energies, joints = self._measure(model.eval(), trainer.datamodule)  # type: ignore[attr-defined]
        content = calibrate(energies, joints, self.reject_above)
        if content["not_finite"]:
            log.warning(
                "%d of %d energies of the training data are not finite, and are left out of the calibration",
                content["not_finite"],
                len(energies),
            )
        facts = {"mode": self.mode, "k": self.k, "weights": checksum(model.state_dict())}
        folder = self.directory / "model"
        folder.mkdir(parents=True, exist_ok=True)  # the portable model comes after the test
        write_json(folder / CALIBRATION, facts | content)

    def _measure(self, model: Any, data: Any) -> tuple[Tensor, Tensor | None]:
        """Energies (N,) and, where there are any, terms a joint (N, J) of training rows."""
        energies, joints = [], []
        for rows in data.spread("train", self.rows).split(self.batch_size):
            x = data.rows("train", rows).to(model.device)
            terms = energy_terms(model, x)
            at_mean = self.mode == "mean"  # whose terms these are
            found = (
                terms["recon_nll"] + terms["kl"] if at_mean else energy(model, x, self.mode, self.k)
            )
            energies.append(found.cpu())
            if "joints" in terms:
                joints.append(terms["joints"].cpu())
        return torch.cat(energies), torch.cat(joints) if joints else None
