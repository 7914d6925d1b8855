"""What may be asked of a model, for every shipped model."""

import math
import shutil

import pytest
import torch
from lightning.pytorch import Trainer

from src.models.paths import slerp
from src.models.protocol import LatentModel
from src.runs import load_model
from src.runs.loading import portable, save_model
from src.utils.build import build
from src.utils.errors import UserError

MODELS = ["vae", "beta_vae", "ae"]
X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", MODELS)
def test_encoding_decoding_and_reconstructing(tiny_vae, name):
    model = tiny_vae(f"model={name}").eval()
    assert isinstance(model, LatentModel) and model.shape == (1, 8, 8) and model.name == name
    q = model.encode(X)
    assert (q.batch_shape, q.event_shape) == ((3,), (4,))
    px = model.decode(q.rsample((5,)))
    assert (px.batch_shape, px.event_shape) == ((5, 3), (1, 8, 8))
    torch.testing.assert_close(model.reconstruct(X), model.decode(q.mean).mean)
    assert model.reconstruct(X).shape == X.shape


@pytest.mark.parametrize("name", ["vae", "beta_vae"])
def test_sampling_and_scoring(tiny_vae, name):
    model = tiny_vae(f"model={name}").eval()
    assert model.prior().event_shape == (4,)
    assert model.sample(6).shape == (6, 1, 8, 8)
    assert model.log_likelihood(X, 3).shape == model.energy(X).shape == (3,)
    assert torch.isfinite(model.log_likelihood(X, 3)).all()
    assert torch.equal(model.energy(X), model.energy(X))  # no noise
    # β belongs to the training, not to the model: the energy weighs its KL with 1.
    q = model.encode(X)
    kl = (0.5 * (q.mean.square() + q.variance - 1) - q.stddev.log()).sum(-1)
    torch.testing.assert_close(model.energy(X), kl - model.decode(q.mean).log_prob(X))


def test_a_plain_autoencoder_says_what_it_cannot(tiny_vae):
    model = tiny_vae("model=ae").eval()
    for act in (
        model.prior,
        lambda: model.sample(2),
        lambda: model.energy(X),
        lambda: model.log_likelihood(X, 2),
    ):
        with pytest.raises(
            NotImplementedError,
            match=r"no prior.*autoencoder|autoencoder has no prior|sampler is fitted after",
        ):
            act()


def test_what_no_model_can_do_is_said(tiny_vae):
    model = tiny_vae().eval()
    for act in (lambda: model.encode(X, c=X), lambda: model.decode(torch.randn(3, 4), c=X)):
        with pytest.raises(NotImplementedError, match="unconditional"):
            act()
    with pytest.raises(NotImplementedError, match="geodesics need a model with a latent metric"):
        model.interpolate(X, X, 3, "geodesic")
    with pytest.raises(
        UserError, match="path='spline' is unknown; choices: linear, slerp, geodesic"
    ):
        model.interpolate(X, X, 3, "spline")


@pytest.mark.parametrize("path", ["linear", "slerp"])
@pytest.mark.parametrize("name", MODELS)
def test_an_interpolation_ends_at_the_reconstructions(tiny_vae, name, path):
    model, other = tiny_vae(f"model={name}").eval(), X.flip(0)
    way = model.interpolate(X, other, 5, path)
    assert way.shape == (5, 3, 1, 8, 8)
    torch.testing.assert_close(way[0], model.reconstruct(X), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(way[-1], model.reconstruct(other), atol=1e-5, rtol=1e-5)
    # Sample 1 goes from itself to itself.
    torch.testing.assert_close(
        way[:, 1], model.reconstruct(X)[1].expand(5, -1, -1, -1), atol=1e-3, rtol=1e-3
    )


def test_slerp_turns_at_constant_speed_and_lengths_change_linearly():
    z_a, z_b = torch.randn(6, 4, dtype=torch.float64), 3 * torch.randn(6, 4, dtype=torch.float64)
    z = slerp(z_a, z_b, torch.linspace(0, 1, 9, dtype=torch.float64)[:, None, None])
    unit = z / z.norm(dim=-1, keepdim=True)
    angles = (unit[1:] * unit[:-1]).sum(-1).acos()
    total = torch.nn.functional.cosine_similarity(z_a, z_b).acos()
    torch.testing.assert_close(angles, (total / 8).expand(8, 6))
    steps = z.norm(dim=-1).diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand(8, 6))


@pytest.mark.parametrize(
    "z_b",
    [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [2.0, 0.0]],
    ids=["same", "opposite", "zero", "parallel"],
)
def test_slerp_has_no_holes(z_b):
    z_a = torch.tensor([[1.0, 0.0]])
    z = slerp(z_a, torch.tensor([z_b]), torch.linspace(0, 1, 5)[:, None, None])
    assert torch.isfinite(z).all()
    torch.testing.assert_close(z[-1], torch.tensor([z_b]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_twenty_steps_lower_the_loss_of_a_toy_problem(tiny_vae, name):
    # The likelihood's σ is fixed, so that the loss can only fall by a better reconstruction or a smaller KL.
    settings = [
        "data.shape=[2]",
        "data.kind=vector",
        "model.optimizer.lr=0.01",
        "model.likelihood.scale=fixed",
    ]
    model = tiny_vae(f"model={name}", *settings)
    angle = torch.rand(256) * 2 * math.pi
    ring = torch.stack([angle.cos(), angle.sin()], -1)

    def loss() -> float:
        torch.manual_seed(3)
        with torch.no_grad():
            return float(model.eval().step(ring)[1].loss)

    before, optimizer = loss(), model.train().configure_optimizers()
    for _ in range(20):
        optimizer.zero_grad()
        model.step(ring)[1].loss.backward()
        optimizer.step()
    assert loss() < 0.9 * before


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_gives_the_same_numbers(tiny_config, tiny_vae, tmp_path, name):
    model = tiny_vae(f"model={name}")
    model.step(X)[1].loss.backward()  # moves the running σ², which must be saved too
    model.eval()
    save_model(model, portable(tiny_config(f"model={name}")), tmp_path / "model")
    loaded = load_model(tmp_path)
    assert not loaded.training
    torch.testing.assert_close(loaded.reconstruct(X), model.reconstruct(X), rtol=0, atol=0)
    torch.testing.assert_close(
        loaded.decode(X.flatten(1)[:, :4]).log_prob(X),
        model.decode(X.flatten(1)[:, :4]).log_prob(X),
        rtol=0,
        atol=0,
    )
    if name != "ae":
        torch.testing.assert_close(loaded.energy(X), model.energy(X), rtol=0, atol=0)
        scores = []
        for one in (model, loaded):
            torch.manual_seed(1)
            scores.append(one.log_likelihood(X, 12))
        torch.testing.assert_close(*scores, rtol=0, atol=0)


def test_compiling_changes_no_parameter_name(tiny_vae):
    assert tiny_vae("compile=true").state_dict().keys() == tiny_vae().state_dict().keys()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_a_compiled_step_is_the_step_in_one_graph_a_size_whatever_the_weights(tiny_vae):
    parts = ("model/encoder=conv", "model/decoder=conv")
    eager, compiled = tiny_vae(*parts), tiny_vae(*parts, "compile=true")
    compiled.load_state_dict(eager.state_dict())
    counters = torch._dynamo.utils.counters
    counters.clear()
    # The sizes alternate, as they do at the ends of epochs.
    for fraction, size in ((0.0, 3), (0.1, 2), (0.3, 3), (1.0, 2)):
        found = []
        for model in (eager, compiled):
            # The same z on both sides: inductor draws numbers of its own.
            model.latent.posterior.head.bias.data[4:] = -100.0
            model.objective.set_weight("kl", fraction)
            model.zero_grad()
            loss = model.training_step({"x": X[:size]}, 0)
            means = model.window.pop()
            loss.backward()
            gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
            found.append({"loss": loss.detach(), "gradient": gradient} | means)
        for name, value in found[0].items():
            torch.testing.assert_close(found[1][name], value, rtol=2e-3, atol=2e-3, msg=name)
    assert not counters["graph_break"] and counters["stats"]["unique_graphs"] == 2


def test_the_scheduler_is_built_with_its_interval(tiny_vae):
    found = tiny_vae(
        "model/scheduler=cosine", "model.scheduler.interval=step", "trainer.max_epochs=7"
    ).configure_optimizers()
    assert (
        found["lr_scheduler"]["interval"] == "step"
        and found["lr_scheduler"]["scheduler"].T_max == 7
    )


@pytest.mark.parametrize(
    ("optimizer", "clip", "precision", "fused"),
    [
        ("Adam", 1.0, "bf16-mixed", False),
        ("Adam", None, "bf16-mixed", True),
        ("Adam", 1.0, "32-true", True),
        ("Rprop", 1.0, "bf16-mixed", None),
    ],
)
def test_gradients_are_clipped_after_they_are_unscaled(
    tiny_config, optimizer, clip, precision, fused
):
    # A fused optimiser unscales inside its kernel, too late to clip; one that cannot be fused is left alone.
    settings = {"_target_": f"torch.optim.{optimizer}", "lr": 0.1} | (
        {} if fused is None else {"fused": True}
    )
    model = build(tiny_config() | {"optimizer": settings})
    model.trainer = Trainer(
        accelerator="cpu",
        gradient_clip_val=clip,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
    )
    assert model.configure_optimizers().defaults.get("fused") == fused


def test_an_optimiser_setting_that_is_none_is_named(tiny_vae):
    with pytest.raises(
        UserError,
        match="'optimizer.weight_decy' is not a setting of torch.optim.Adam; nearest: 'weight_decay'",
    ):
        tiny_vae("+model.optimizer.weight_decy=0.1")
