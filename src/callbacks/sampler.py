"""The density of the codes, fitted once a model is trained."""

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.utils.seeding import isolated_rng

log = logging.getLogger(__name__)
ROWS = 20_000


class FitSampler(Callback):
    """Fits the sampler of a model that has one, before the test, to codes of the training data."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sampler: Any = pl_module.sampler
        if sampler is None:
            return
        if trainer.is_global_zero:
            # Lightning tests in inference mode, in which nothing can learn.
            with torch.inference_mode(False), isolated_rng(0, pl_module.device):
                found = sampler.fit(*codes(pl_module, trainer.datamodule))  # type: ignore[attr-defined]
            told = ", ".join(f"{name} {value:.4g} nats" for name, value in found.items())
            log.info(
                "sampler: %s fitted to codes of the training data; on a tenth held out: %s",
                type(sampler).__name__,
                told,
            )
        # One process fits, all use the same.
        state = {name: value.cpu() for name, value in sampler.state_dict().items()}
        sampler.load_state_dict(trainer.strategy.broadcast(state))


@torch.no_grad()
def codes(model: Any, data: Any) -> tuple[Tensor, Tensor]:
    """One sample of z for every training row, (N, D), and the rows (N, *shape)."""
    rows = data.spread("train", ROWS)
    x = data.rows("train", rows)
    # What is decoded, which dynamics may have moved on from the posterior's sample.
    drawn = [
        model.latent.infer(part.to(model.device)).z[0] for part in x.split(data.eval_batch_size)
    ]
    return torch.cat(drawn), x
