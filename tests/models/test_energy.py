"""The energy of data under a model: its modes, its gradient, its calibration and what is made of it."""

import json

import pytest
import torch

from src.models.energy import PERCENTS, Energy, calibrate, energy, energy_terms
from src.runs import load_energy
from src.runs.loading import CALIBRATION, checksum, save_model
from src.utils.build import build
from src.utils.errors import UserError

POSE = ("data=hand_poses", "data.shape=[4,3]", "model/encoder=mlp", "model/decoder=mlp")
X = 0.5 * torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def config(tiny_config):
    """A small VAE of rotations whose terms are known joint by joint."""
    found = tiny_config(*POSE, "model/likelihood=rotations", "model.decoder.parameters=2")
    return {k: v for k, v in found.items() if k not in ("optimizer", "scheduler", "compile")}


@pytest.fixture
def model(config):
    return build(config).eval()


def calibrated(model, **changes):
    energies = energy(model, 0.5 * torch.randn(500, 4, 3)).detach()
    return Energy(model, {"mode": "mean", "k": 1} | calibrate(energies) | changes)


def test_the_default_has_no_noise_and_is_what_it_is_made_of(model):
    found = model.energy(X)
    assert found.shape == (6,) and torch.equal(found, model.energy(X))
    terms = energy_terms(model, X)
    torch.testing.assert_close(terms["recon_nll"] + terms["kl"], found)
    torch.testing.assert_close(terms["joints"].sum(1), terms["recon_nll"])
    torch.testing.assert_close(terms["hands"].sum(1), terms["recon_nll"])
    torch.testing.assert_close(terms["hands"][:, 0], terms["joints"][:, :2].sum(1))
    doubled = energy(model, X, beta=2.0)
    torch.testing.assert_close(doubled - found, terms["kl"])


def test_sampled_energies_follow_the_seed_and_tighten(model):
    def of(mode, k):
        torch.manual_seed(4)
        return energy(model, X, mode, k)

    for mode in ("elbo", "iwae"):
        assert torch.equal(of(mode, 5), of(mode, 5))
    bound = of("iwae", 20)
    torch.manual_seed(4)
    torch.testing.assert_close(bound, -model.log_likelihood(X, 20), atol=0, rtol=0)
    assert (of("iwae", 400) < of("elbo", 400)).all()
    # The mean of one-sample bounds, with the KL sampled too, is what elbo has in closed form.
    draw = model.latent.infer(X, k=4000)
    sampled = (draw.log_qz - draw.log_pz - draw.log_px).detach()
    error = 5 * sampled.std(0) / 4000**0.5
    assert ((of("elbo", 4000) - sampled.mean(0)).abs() < error + 0.05).all()


def test_the_gradient_is_that_of_finite_differences(model):
    double = model.double()
    x = X[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda at: double.energy(at), x)
    torch.manual_seed(0)
    noise = torch.get_rng_state()

    def sampled(at):
        torch.set_rng_state(noise)
        return double.energy(at, mode="iwae", k=2)

    assert torch.autograd.gradcheck(sampled, x)


def test_pictures_have_energies_too(tiny_vae):
    model = tiny_vae().eval()
    x = torch.rand(3, 1, 8, 8)
    for mode in ("mean", "elbo", "iwae"):
        assert torch.isfinite(model.energy(x, mode=mode, k=9)).all()
    assert energy_terms(model, x).keys() == {"recon_nll", "kl"}


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"mode": "iwea"}, "energy mode 'iwea' is unknown; nearest: 'iwae'"),
        ({"mode": "elbo", "k": 0}, "k=0: an estimate takes at least 1 sample"),
        ({"mode": "iwae", "beta": 2.0}, "no KL for beta=2.0 to weigh"),
    ],
)
def test_an_energy_that_there_is_not(model, call, reason):
    with pytest.raises(UserError, match=reason):
        energy(model, X, **call)


def test_percentiles_grow_from_0_to_100_and_know_the_tails():
    energies = torch.arange(100_001, dtype=torch.float64)
    content = calibrate(energies.flip(0))
    assert list(PERCENTS) == sorted({*PERCENTS}) and PERCENTS[0] == 0 and PERCENTS[-1] == 100
    assert content["threshold"] == pytest.approx(99_000)
    asked = Energy(torch.nn.Identity(), {"mode": "mean", "k": 1} | content)
    where = torch.linspace(-1e4, 1.2e5, 999, dtype=torch.float64)
    found = asked.percentile_of(where)
    assert (found.diff() >= 0).all()
    torch.testing.assert_close(found, (where / 1000).clamp(0, 100), atol=1e-6, rtol=0)
    assert calibrate(energies, reject_above=99.9)["threshold"] == pytest.approx(99_900)


def test_a_calibrated_energy_in_raw_radians(model):
    asked = calibrated(model)
    torch.testing.assert_close(asked(X), model.energy(X), atol=0, rtol=0)
    assert torch.equal(asked(X.flatten(1)), asked(X))
    order = asked(X).argsort()
    for score in (asked.z_score(X), asked.percentile(X)):
        assert (score[order].diff() >= 0).all()
    wild = torch.cat([X, 3 * torch.randn(6, 4, 3)])
    assert asked.rejects(wild).equal(asked(wild) > asked.threshold)
    x = X.clone().requires_grad_()
    asked.z_score(x).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.any()


def test_ranks_keep_the_order_of_ties_and_put_nan_last(model):
    asked = calibrated(model)
    broken = X.clone()
    broken[2, 1, 0] = torch.nan
    broken[5] = broken[0]
    ranks = asked.rank(broken)
    assert ranks.sort().values.equal(torch.arange(6)) and ranks[-1] == 2
    assert ranks.tolist().index(5) == ranks.tolist().index(0) + 1
    energies = asked(broken)[ranks[:-1]]
    assert (energies.diff() >= 0).all()
    both = asked.rank(torch.stack([broken, broken.flip(0)]))
    assert both.shape == (2, 6) and both[0].equal(ranks) and both[1, -1] == 3
    assert asked(broken).isnan().sum() == 1 and bool(asked.rejects(broken)[2])
    assert asked.percentile(broken)[2].isnan()


@pytest.mark.parametrize(
    "poses", [X[:, :3], X[0, 0], X[None], X.long()], ids=["joints", "vector", "batches", "ints"]
)
def test_what_is_no_batch_of_poses_is_refused(model, poses):
    asked = calibrated(model)
    for score in (asked, asked.per_joint):
        with pytest.raises(UserError, match=r"takes floats of shape \[B, 4, 3\] or \[B, 12\]"):
            score(poses)


def test_poses_of_another_precision_and_device_are_brought_to_the_model_s(model):
    asked = calibrated(model)
    assert asked(X.double()).dtype == torch.float32 and torch.equal(asked(X.double()), asked(X))
    elsewhere = asked.to("meta")
    assert {score(X).device.type for score in (elsewhere, elsewhere.per_joint)} == {"meta"}


def test_terms_a_joint_point_at_the_joint(model):
    asked = calibrated(model, joint_mean=[0.0] * 4, joint_std=[2.0] * 4)
    torch.testing.assert_close(asked.joint_z_scores(X), asked.per_joint(X) / 2)
    bent = X.clone()
    bent[:, 3] += 2.5
    worse = asked.per_joint(bent) - asked.per_joint(X)
    assert (worse.mean(0).argmax() == 3).all()


def test_an_energy_survives_a_file_exactly(model, config, tmp_path):
    save_model(model, config, tmp_path / "model")
    with pytest.raises(UserError, match=r"there is no .*energy.json: .*evaluate.py"):
        load_energy(tmp_path)
    asked = calibrated(model)
    file = tmp_path / "model" / CALIBRATION
    content = asked.calibration | {"weights": checksum(model.state_dict())}
    file.write_text(json.dumps(content))
    again = load_energy(tmp_path)
    assert torch.equal(again(X), asked(X)) and torch.equal(again.percentile(X), asked.percentile(X))
    x = X.clone().requires_grad_()
    again(x).sum().backward()
    assert x.grad.any() and all(parameter.grad is None for parameter in again.parameters())
    file.write_text(json.dumps(content | {"std": None}))
    with pytest.raises(UserError, match="needs 'std', and has None"):
        load_energy(tmp_path)
    with torch.no_grad():
        model.latent.decoder.net[-1].bias += 1
    file.write_text(json.dumps(content))
    save_model(model, config, tmp_path / "model")
    with pytest.raises(UserError, match="made with other weights"):
        load_energy(tmp_path / "model")
    file.write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load_energy(tmp_path)
