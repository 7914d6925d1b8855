"""Frames around a background: what is learned before a training, where a model starts, what it minimises."""

from math import log, pi
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from src.evaluation.export import export_model
from src.models.data_compat import check_data
from src.models.draw import Draw
from src.models.networks import BackgroundDecoder, BackgroundEncoder, ConvEncoder
from src.models.networks.background import linear_code, teach
from src.models.objectives import ELBO, ForegroundELBO
from src.models.posteriors import DiagonalGaussian
from src.runs.loading import load_model, save_model
from src.utils.build import build
from src.utils.errors import UserError
from src.utils.main import data_configs

SHAPE, LATENT = (3, 16, 12), 4


class Frames:
    """A datamodule's part that is learned from: a still scene with three blobs that come and go."""

    name, shape = "frames", SHAPE

    def __init__(self, background: Tensor | None = None) -> None:
        g = torch.Generator().manual_seed(3)
        scene = torch.rand(SHAPE, generator=g) * 0.5
        self.x = scene.repeat(60, 1, 1, 1)
        for i in range(3):
            shown = torch.rand(60, generator=g) < 0.4
            self.x[shown, :, 4 * i : 4 * i + 3, 3 * i : 3 * i + 3] = 0.6 + 0.1 * i
        self.background = scene if background is None else background
        self.num_train = len(self.x)

    def spread(self, split: str, count: int) -> Tensor:
        return torch.arange(min(count, len(self.x)))

    def rows(self, split: str, rows: Tensor) -> Tensor:
        return self.x[rows]


@pytest.fixture
def config(tiny_config) -> dict[str, Any]:
    return tiny_config("model=atari_vae", f"data.shape={[*SHAPE]}")


def taught(config: dict[str, Any]) -> tuple[Any, Frames]:
    model, data = build(config), Frames()
    model._trainer = SimpleNamespace(datamodule=data)
    model.setup("fit")
    return model, data


def test_a_decoder_starts_at_its_background():
    decoder, background = BackgroundDecoder(LATENT, SHAPE, parameters=2), torch.rand(SHAPE)
    decoder.background.copy_(background)
    out = decoder(torch.randn(5, LATENT))
    assert out.shape == (5, 2, *SHAPE)
    torch.testing.assert_close(out[:, 0], background.expand(5, *SHAPE))
    assert not out[:, 1].any()


def test_a_model_starts_at_the_linear_code_of_the_smallest_error(config):
    model, data = taught(config)
    frames = data.x.flatten(1)
    mean, directions = linear_code(frames, LATENT)
    u, s, v = torch.linalg.svd(frames - mean, full_matrices=False)
    best = mean + (u * s)[:, :LATENT] @ v[:LATENT]
    torch.testing.assert_close(
        model.eval().reconstruct(data.x).flatten(1).detach(), best, atol=1e-4, rtol=0
    )
    # Three blobs: three dimensions of variance 1 and one that has nothing to say.
    code = model.encode(data.x).mean
    torch.testing.assert_close(code.var(0, correction=0)[:3], torch.ones(3), atol=1e-3, rtol=0)
    assert directions[:3].norm(dim=1).min() > 0.1 and not directions[3].any()


def test_there_are_fewer_directions_than_dimensions():
    mean, directions = linear_code(torch.rand(3, 20), 5)
    assert mean.shape == (20,) and directions.shape == (5, 20)
    assert (directions[:2].norm(dim=1) > 0.01).all() and not directions[2:].any()
    assert not linear_code(torch.rand(1, 20), 5)[1].any()


def test_what_hardly_varies_in_a_training_does_not_drown_what_is_new(config):
    """Rounding errors are no dimension, and a frame unlike all that were seen has no code beyond all bounds."""
    data = Frames()
    _, directions = linear_code(data.x.flatten(1), 8)
    assert (directions[:3].norm(dim=1) > 0.1).all() and not directions[3:].any()
    model, data = taught(config)
    new = data.x[:4].clone()
    new[:, :, 13:, :3] = 1.0
    assert model.eval().encode(new).mean.abs().max() < 10
    assert linear_code(data.x[:1].flatten(1).repeat(50, 1), 4)[1].any().item() is False


def test_only_a_training_learns_from_the_data_and_only_once(config):
    model = build(config)
    model._trainer = SimpleNamespace(datamodule=Frames())
    model.setup("test")
    assert not model.latent.decoder.background.any() and not model.objective.background.any()
    model.setup("fit")
    assert torch.equal(model.latent.encoder.background, Frames().background)
    assert torch.equal(model.objective.background, Frames().background)
    weight = model.latent.decoder.linear.weight.detach().clone()
    with torch.no_grad():
        model.latent.decoder.linear.weight.add_(1)
    teach(model, Frames(torch.ones(SHAPE)), "fit")  # as after model.pretrained
    torch.testing.assert_close(model.latent.decoder.linear.weight, weight + 1)
    assert torch.equal(model.latent.decoder.background, Frames().background)


def test_data_without_a_background_are_refused(config, tiny_config, compose_config):
    plain = {"name": "digits", "kind": "image", "value_range": "unit", "shape": [1, 8, 8]}
    with pytest.raises(UserError, match="model.encoder BackgroundEncoder .* data=digits has none"):
        check_data(config, plain, data_configs)
    with pytest.raises(UserError, match="model.objective ForegroundELBO"):
        check_data(tiny_config("model/objective=foreground"), plain, data_configs)
    named = {
        compose_config(f"data={name}").data.get("background") for name in ("atari", "recordings")
    }
    assert named == {True}
    check_data(config, plain | {"background": True}, data_configs)


def test_without_a_linear_layer_every_posterior_takes_the_convolutions_features(tiny_vae):
    for posterior in ("diagonal_gaussian", "iaf", "delta"):
        extra = ["model/prior=none", "model/objective=reconstruction"]
        model = tiny_vae(
            "model=atari_vae_reference",
            f"model/posterior={posterior}",
            "data.shape=[1,40,28]",
            *(extra if posterior == "delta" else ()),
        )
        assert model.latent.encoder.out_features == 5 * 3 * 12
        assert model.reconstruct(torch.rand(2, 1, 40, 28)).shape == (2, 1, 40, 28)
    with pytest.raises(UserError, match=r"out_features=12: .* the 1920 .*; give 1920"):
        ConvEncoder((1, 40, 28), 12, linear=False)


def test_vectors_are_refused_by_name_where_a_size_follows_from_a_picture(tiny_config):
    config = tiny_config("model=atari_vae_reference", "data.shape=[30]")
    vectors = {"name": "hand_poses", "kind": "vector", "value_range": "real", "shape": [30]}
    with pytest.raises(UserError, match="ConvEncoder takes image data, not 'vector'"):
        check_data(config, vectors, data_configs)


def draw_of(x: Tensor, mean: Tensor) -> Draw:
    z = torch.zeros(len(mean), len(x), 2)
    q = Independent(Normal(z[0] + 0.3, 0.7), 1)
    p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    return Draw(x=x, z=z, q=q, p=p, px=Independent(Normal(mean, 0.1), 3))


def test_the_foreground_is_weighted_and_what_is_reported_is_not():
    x, mean = torch.rand(4, *SHAPE), torch.rand(2, 4, *SHAPE, requires_grad=True)
    objective = ForegroundELBO(SHAPE, weight=3.0, threshold=0.2, beta=0.5)
    objective.background.copy_(torch.rand(SHAPE))
    terms, plain = objective(draw_of(x, mean)), ELBO(beta=0.5)(draw_of(x, mean))
    assert torch.equal(terms.means["recon_nll"], plain.means["recon_nll"])
    total = weights = 0.0
    for i in range(4):
        for at in torch.cartesian_prod(*(torch.arange(n) for n in SHAPE)).tolist():
            at = tuple(at)
            w = 4.0 if abs(x[i][at] - objective.background[at]) > 0.2 else 1.0
            total += w * sum(float(x[i][at] - mean[k, i][at].detach()) ** 2 for k in range(2))
            weights += 2 * w
    size = 3 * 16 * 12
    expected = size / 2 * (log(total / weights) + log(2 * pi) + 1) + 0.5 * float(terms.means["kl"])
    assert terms.loss.item() == pytest.approx(expected, rel=1e-5)
    # The gradient points where the weights say, three more for what moves.
    terms.loss.backward()
    moving = (x - objective.background).abs() > 0.2
    ratio = (mean.grad / (mean - x).detach()).mean(0)
    assert float(ratio[moving].median() / ratio[~moving].median()) == pytest.approx(4.0, rel=1e-3)


def test_without_a_weight_it_is_the_likelihood_at_its_optimal_scale(config):
    model, data = taught(config)
    objective = ForegroundELBO(SHAPE, weight=0.0)
    draw = model.latent.infer(data.x, k=1)
    terms = objective(draw)
    torch.testing.assert_close(terms.loss, ELBO()(draw).loss)


def test_negative_weights_and_short_features_are_refused():
    with pytest.raises(UserError, match=r"weight=-1.0 .* cannot be negative"):
        ForegroundELBO(SHAPE, weight=-1.0)
    with pytest.raises(UserError, match=r"out_features=4 must be more than the 4"):
        BackgroundEncoder(SHAPE, latent_dim=4, out_features=4)
    with pytest.raises(UserError, match=r"residual=true needs .* has 3 features"):
        DiagonalGaussian(3, 4, residual=True)


def test_a_few_steps_beat_the_linear_code_and_the_model_is_kept_with_what_it_learned(
    config, tmp_path
):
    model, data = taught(config)
    # What no linear code can say: one blob that walks along a row.
    for i in range(60):
        data.x[i] = data.background
        data.x[i, :, 8:10, i % 10 : i % 10 + 2] = 1.0
    model = build(config)
    teach(model, data, "fit")
    before = (model.eval().reconstruct(data.x) - data.x).square().mean()
    optimizer = torch.optim.Adam(model.train().parameters(), 3e-3)
    for _ in range(150):
        loss, _ = model.losses(data.x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    after = (model.eval().reconstruct(data.x) - data.x).square().mean()
    assert after < 0.7 * before
    portable = {
        k: v for k, v in config.items() if k not in ("optimizer", "scheduler", "pretrained")
    }
    save_model(model, portable, tmp_path / "model")
    again = load_model(tmp_path)
    assert torch.equal(again.latent.decoder.background, data.background)
    assert torch.equal(again.reconstruct(data.x), model.reconstruct(data.x))


def test_the_reference_has_the_published_number_of_parameters(compose_config):
    cfg = compose_config("model=atari_vae_reference")
    model = build(cfg.model)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1_777_411
    x = torch.rand(2, 3, 64, 64)
    draw, terms = model.step(x)
    squares = (draw.px.mean[0] - x).square().sum((1, 2, 3))
    torch.testing.assert_close(terms.values["recon_nll"], squares + 12288 / 2 * log(pi))
    other = build(compose_config("model=atari_vae_reference", "data.shape=[1,40,28]").model)
    assert other.reconstruct(torch.rand(2, 1, 40, 28)).shape == (2, 1, 40, 28)


def test_the_networks_are_exported(config, tmp_path):
    model, _ = taught(config)
    for name, difference in export_model(model.eval(), tmp_path, "torch_export"):
        assert name.exists() and difference < 1e-4


def test_half_precision_loses_little_of_the_weighted_error(config):
    """A mean square of 10⁻⁵ would be rounded away in bf16, and its logarithm with it."""
    model, data = taught(config)
    x = data.x[:16]
    torch.manual_seed(0)
    whole, _ = model.losses(x)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = model.losses(x)
    assert half.dtype == torch.float32
    assert abs(half - whole) < 0.1 * abs(whole)
