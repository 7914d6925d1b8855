"""Latent spaces of small untrained models with random held-out data."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.datamodules.base import ArrayDataModule
from src.evaluation.exploring.space import LatentSpace
from src.evaluation.opened import OpenedRun

ROWS = 12


class RandomData(ArrayDataModule):
    """``ROWS`` samples of noise a split, with labels 0 to 3 and two factors."""

    def load(self) -> dict[str, dict[str, Any]]:
        rng = np.random.default_rng(0)
        label = np.arange(ROWS) % 4
        one = {
            "x": rng.random((ROWS, *self.shape), np.float32),
            "label": label,
            "factors": np.stack([label, label // 2], 1),
        }
        return {split: dict(one) for split in ("train", "val", "test")}


def space_of(model: Any, frame: int = 0) -> LatentSpace:
    """The space of a model, which is put into evaluation mode."""
    opened = OpenedRun(Path("nowhere"), model.eval(), Path("nothing"), {"data": {}})
    data = RandomData("random", model.shape, "image", batch_size=4)
    data.setup()
    vars(opened)["data"] = data  # a cached property, which would build what the config names
    return LatentSpace(opened, frame)


def fitted(model: Any) -> Any:
    """The model, its latent metric fitted to random codes, where it has one that is."""
    if model.latent.metric is not None:
        torch.manual_seed(0)
        x = torch.rand(60, *model.shape)
        model.latent.refresh_metric(model.latent.point(x), 2 * torch.randn(60, 4), 0)
    return model
