"""Pose networks that see rotations, statistics that are applied once, and the variants made of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from src.models.data_compat import check_data
from src.models.likelihoods import RotationLikelihood, StandardisedGaussian
from src.models.networks import PoseEncoder, ResidualMLPDecoder
from src.models.networks.background import teach
from src.utils.build import build
from src.utils.errors import UserError
from src.utils.main import data_configs
from tests.models.poses import SHAPE, Poses, longer_way, poses

HANDS = ("hand_standard", "hand_so3")
SEES = ("standardised", "rotations")

# The networks, and what they learn from the data.


@pytest.mark.parametrize("see", SEES)
def test_an_encoder_sees_rotations_and_not_how_they_are_written(see):
    encoder = PoseEncoder(SHAPE, out_features=11, width=16, depth=2, see=see).double()
    teach(encoder, Poses(), "fit")
    x = poses(6)
    found = encoder(x)
    assert found.shape == (6, 11) == (6, encoder.out_features)
    torch.testing.assert_close(encoder(longer_way(x)), found)
    # Half a fist is no fist: nothing normalises the pose itself.
    assert ((encoder(x / 2) - found).abs().amax(1) > 1e-3).all()
    at_rest = torch.zeros(1, *SHAPE, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(at_rest).sum(), at_rest)
    assert gradient.isfinite().all() and gradient.any()


def test_poses_are_standardised_once():
    encoder = PoseEncoder(SHAPE, out_features=8, width=8, depth=1)
    x = poses(5).float()
    plain = encoder.net(x.flatten(1))
    torch.testing.assert_close(encoder(x), plain)  # nothing is learned yet
    data = Poses(still=True)
    teach(encoder, data, "test")
    torch.testing.assert_close(encoder(x), plain)
    teach(encoder, data, "fit")
    mean, std = data.x.double().mean(0), data.x.double().std(0, correction=0)
    assert float(encoder.standardise.std[4, 1]) == pytest.approx(1e-3)
    scaled = (x - mean) / std.clamp_min(1e-3)
    expected = encoder.net(scaled.float().flatten(1))
    torch.testing.assert_close(encoder(x), expected, atol=2e-3, rtol=1e-3)
    data.x = data.x + 1
    teach(encoder, data, "fit")  # as after model.pretrained
    torch.testing.assert_close(encoder.standardise.mean, mean.float())


def test_a_decoder_starts_near_zero_where_the_hand_is_flat_or_at_rest():
    decoder = ResidualMLPDecoder(5, SHAPE, parameters=2, width=32, depth=2)
    found = decoder(torch.randn(50, 5))
    assert found.shape == (50, 2, *SHAPE) and 0 < found.abs().max() < 0.5
    likelihood, data = RotationLikelihood(SHAPE), Poses()
    assert likelihood(found).mean.norm(dim=-1).mean() < 0.15
    data.x = 0.9 + 0.1 * (data.x - data.x.mean(0))  # near one pose
    teach(likelihood, data, "test")
    assert likelihood(found).mean.norm(dim=-1).mean() < 0.15
    teach(likelihood, data, "fit")
    mean = [Rotation.from_rotvec(joint).mean().as_rotvec() for joint in data.x.unbind(1)]
    found_mean = likelihood(torch.zeros(2, *SHAPE)).mean
    torch.testing.assert_close(
        found_mean, torch.from_numpy(np.stack(mean)).float(), atol=0.01, rtol=0
    )
    assert likelihood(found).joint_log_prob(data.x[:50]).mean() > 0
    data.x = data.x - 1
    before = likelihood.standardise.mean.clone()
    teach(likelihood, data, "fit")  # as after model.pretrained
    assert torch.equal(likelihood.standardise.mean, before)


@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_dropout_is_noise_in_training_only(network):
    kind = PoseEncoder if network == "encoder" else ResidualMLPDecoder
    size = {"latent_dim": 5} if network == "decoder" else {}
    made = kind(shape=SHAPE, width=16, depth=2, dropout=0.5, **size)
    for block in made.net[1:3]:
        torch.nn.init.normal_(block.body[-1].weight)
    given = torch.randn(4, 5) if network == "decoder" else poses(4).float()
    assert not torch.equal(made(given), made(given))
    made.eval()
    assert torch.equal(made(given), made(given))


# The variants.


@pytest.mark.parametrize("name", HANDS)
def test_the_reference_s_parameters_are_overrides(compose_config, name):
    sizes = {"width": 256, "depth": 3, "dropout": 0.1}
    overrides = [
        f"model.{part}.{k}={v}" for part in ("encoder", "decoder") for k, v in sizes.items()
    ]
    cfg = compose_config(f"model={name}", "model.optimizer.lr=3e-4", *overrides)
    assert cfg.data.value_range == "rotation" and cfg.model.latent_dim == 24
    model = build(cfg.model)
    assert model.latent.encoder.net[0].out_features == 256 == model.latent.encoder.out_features
    assert sum(isinstance(m, torch.nn.Dropout) and m.p == 0.1 for m in model.modules()) == 6
    group = model.configure_optimizers()["optimizer"].param_groups[0]
    assert group["lr"] == 3e-4 and group["weight_decay"] == 1e-4


@pytest.mark.parametrize("name", HANDS)
def test_a_pose_model_with_its_statistics_survives_its_state_dict(tiny_vae, name):
    model, again = tiny_vae(f"model={name}").eval(), tiny_vae(f"model={name}").eval()
    model._trainer = SimpleNamespace(
        datamodule=SimpleNamespace(num_train=500, floats=Poses().floats)
    )
    model.setup("fit")
    x = poses(5).float()
    assert not torch.equal(model.energy(x), again.energy(x))
    again.load_state_dict(model.state_dict())
    assert torch.equal(model.energy(x), again.energy(x))
    torch.testing.assert_close(model.energy(longer_way(x)), model.energy(x), rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("name", HANDS)
def test_a_step_on_poses_is_one_graph_and_bf16_changes_its_loss_by_a_thousandth(tiny_vae, name):
    model, x = tiny_vae(f"model={name}"), poses(16).float()
    teach(model, Poses(), "fit")
    model.losses(x)  # what cannot be traced is remembered, see prepare_to_compile
    whole = torch.compile(type(model).losses, backend="eager", fullgraph=True)

    def loss(step) -> float:
        torch.manual_seed(5)
        return float(step(model, x)[0].detach())

    exact = loss(type(model).losses)
    assert loss(whole) == pytest.approx(exact, rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(type(model).losses) == pytest.approx(exact, rel=1e-3)


def test_weight_decay_leaves_sigma_alone(tiny_vae):
    model = tiny_vae("model=hand_so3", "model.optimizer.lr=0.1", "model.optimizer.weight_decay=0.5")
    optimizer = model.configure_optimizers()["optimizer"]
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    sigma = model.latent.likelihood.raw_log_sigma
    before, weight = sigma.detach().clone(), model.latent.decoder.net[0].weight
    norm = weight.detach().norm()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(sigma.detach(), before) and weight.detach().norm() < 0.96 * norm


@pytest.mark.parametrize(
    "part", ["encoder=pose", "likelihood=rotations", "likelihood=standardised_gaussian"]
)
def test_parts_of_poses_name_the_data_that_they_need(tiny_config, part):
    name, _, option = part.partition("=")
    model = tiny_config(f"model/{part}", "data.shape=[30,3]")
    vectors = {"name": "table", "kind": "vector", "value_range": "real", "shape": [30, 3]}
    message = rf"model.{name} \w+ takes joints as rotation vectors.*data=table.*hand_poses"
    with pytest.raises(UserError, match=message):
        check_data(model, vectors, data_configs)
    check_data(model, vectors | {"value_range": "rotation"}, data_configs)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (RotationLikelihood, {"scale": "per_joints"}, "scale=per_joints is unknown.*per_joint"),
        (RotationLikelihood, {"scale": "predicted"}, "parameters=2: this likelihood has 3"),
        (RotationLikelihood, {"sigma": 0.7}, "sigma=0.7 must lie between"),
        (RotationLikelihood, {"shape": (90,)}, r"data.shape=\[joints, 3\], not \[90\]"),
        (StandardisedGaussian, {"shape": (1, 8, 8)}, r"data.shape=\[joints, 3\], not \[1, 8, 8\]"),
        (StandardisedGaussian, {"parameters": 1}, "parameters=1: this likelihood has 2"),
        (PoseEncoder, {"see": "rotation"}, "model.encoder.see=rotation is unknown.*'rotations'"),
        (PoseEncoder, {"shape": (90,)}, r"data.shape=\[joints, 3\], not \[90\]"),
    ],
)
def test_impossible_settings_name_the_choices(kind, settings, message):
    with pytest.raises(UserError, match=message):
        kind(**({"shape": SHAPE} | settings))
