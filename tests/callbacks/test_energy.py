"""The energy of a model is calibrated when it is tested, and kept beside it."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer

from src.callbacks.energy import CalibrateEnergy
from src.datamodules.base import ArrayDataModule
from src.models.energy import energy
from src.runs import load_energy
from src.runs.loading import save_model
from src.utils.build import build
from src.utils.errors import UserError


class Poses(ArrayDataModule):
    def __init__(self):
        super().__init__("toy", (4, 3), "vector", "rotation", batch_size=50)

    def load(self):
        generator = torch.Generator().manual_seed(0)
        return {
            split: {"x": 0.4 * torch.randn(n, 4, 3, generator=generator).numpy()}
            for split, n in (("train", 301), ("val", 40), ("test", 40))
        }


@pytest.fixture
def config(tiny_config):
    found = tiny_config(
        *("data=hand_poses", "data.shape=[4,3]", "model/encoder=mlp", "model/decoder=mlp"),
        *("model/likelihood=rotations", "model.decoder.parameters=2"),
    )
    return {k: v for k, v in found.items() if k not in ("optimizer", "scheduler", "compile")}


def trainer(*callbacks):
    return Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        max_steps=1,
    )


@pytest.mark.parametrize("mode", ["mean", "iwae"])
def test_a_test_leaves_a_calibration_that_opens_with_the_model(config, tmp_path, mode):
    model, data = build(config), Poses()
    calibration = CalibrateEnergy(str(tmp_path), rows=200, mode=mode, k=3, batch_size=64)
    before = torch.get_rng_state()
    trainer(calibration).test(model, data, verbose=False)
    assert torch.equal(torch.get_rng_state(), before)
    save_model(model, config, tmp_path / "model")  # comes after the test

    asked = load_energy(tmp_path)
    content = json.loads((tmp_path / "model" / "energy.json").read_text())
    assert content["count"] == 200 and content["not_finite"] == 0
    assert len(content["joint_mean"]) == len(content["joint_std"]) == 4
    assert (asked.mode, asked.k) == (mode, 3)
    x = data.rows("train", data.spread("train", 200))
    if mode == "mean":
        energies = energy(model.eval(), x).double()
        assert content["mean"] == pytest.approx(float(energies.mean()), rel=1e-6)
        assert content["threshold"] == pytest.approx(float(energies.quantile(0.99)), rel=1e-6)
        assert float(asked.rejects(x).float().mean()) == pytest.approx(0.01, abs=0.006)
        assert float(asked.percentile(x).mean()) == pytest.approx(50, abs=1)
        assert asked.joint_z_scores(x).mean().abs() < 1e-3


def test_energies_that_are_not_finite_are_told_and_left_out(config, tmp_path, caplog):
    model, data = build(config), Poses()
    data.setup()
    data.splits["train"]["x"][7] = torch.nan
    trainer(CalibrateEnergy(str(tmp_path))).test(model, data, verbose=False)
    content = json.loads((tmp_path / "model" / "energy.json").read_text())
    assert (content["count"], content["not_finite"]) == (300, 1)
    assert "1 of 301 energies of the training data are not finite" in caplog.text


def test_what_cannot_be_calibrated_is_refused_before_a_training(tiny_vae, tmp_path):
    callback = CalibrateEnergy(str(tmp_path))
    with pytest.raises(UserError, match="needs a model with a prior and a density"):
        callback.setup(SimpleNamespace(), tiny_vae("model=ae"), "fit")
    with pytest.raises(UserError, match="without a condition"):
        callback.setup(SimpleNamespace(), tiny_vae("model=conditional_vae"), "fit")
    for wrong, reason in (
        ({"mode": "elob"}, "nearest: 'elbo'"),
        ({"rows": 1}, "rows=1 must be at least 2"),
        ({"reject_above": 0}, "is a percentile"),
    ):
        with pytest.raises(UserError, match=reason):
            CalibrateEnergy(str(tmp_path), **wrong)
