"""Every file of conf/model builds, and every combination either trains or is refused with its reason."""

from itertools import product
from pathlib import Path

import pytest
import torch

from src.models.compat import RULES
from src.models.latents import LongitudinalLatent
from src.runs.loading import load_model, save_model
from src.utils.build import build
from src.utils.errors import UserError

MODEL = Path(__file__).parents[2] / "conf" / "model"
MODELS = sorted(file.stem for file in MODEL.glob("*.yaml"))
SEQUENCE_MODELS = ("gp_vae", "hybrid", "lvae_iaf", "riemannian_flow", "vanilla_sequence")
GROUPS = {
    folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
    for folder in MODEL.iterdir()
    if folder.is_dir()
}


def check(model: torch.nn.Module) -> None:
    """One step and one evaluation: finite loss, a finite gradient on every parameter, finite metrics."""
    x = torch.rand(6, *model.shape)
    for _ in range(2 if isinstance(model.latent, LongitudinalLatent) else 1):  # two frames j
        loss = model.step(x)[1].loss
        loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    model.eval()
    model.evaluation_step({"x": x})
    metrics = model.sums.pop(lambda total: total)
    assert {"loss", "recon_nll", "mse", "psnr", "pixel_accuracy", "active_units"} <= metrics.keys()
    assert all(torch.isfinite(value) for value in metrics.values())


def of_sequences(name: str) -> bool:
    """Whether a model chooses sequences by itself."""
    return name in SEQUENCE_MODELS


@pytest.mark.parametrize(("name", "network"), [*product(MODELS, GROUPS["encoder"])])
def test_every_model_trains_with_every_network(tiny_vae, name, network):
    overrides = ["data.shape=[3,1,8,8]"] if of_sequences(name) else []
    networks = [f"model/encoder={network}", f"model/decoder={network}"]
    model = tiny_vae(f"model={name}", *networks, *overrides)
    check(model)
    # The network that was asked for is the one that is used.
    kind = type(model.latent.encoder).__name__.lower()
    assert kind == f"{network}encoder" and type(model.latent.decoder).__name__.lower() == (
        f"{network}decoder"
    )


@pytest.mark.parametrize(
    ("likelihood", "decoder"), [*product(GROUPS["likelihood"], GROUPS["decoder"])]
)
def test_every_likelihood_trains_with_every_decoder(tiny_vae, likelihood, decoder):
    check(
        tiny_vae(
            f"model/likelihood={likelihood}", f"model/decoder={decoder}", "data.shape=[3,9,12]"
        )
    )


@pytest.mark.parametrize("network", ["mlp", "resnet"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_vectors(tiny_vae, name, network):
    shape = ["data.shape=[4,10]"] if of_sequences(name) else ["data.shape=[90]", "data.kind=vector"]
    check(tiny_vae(f"model={name}", f"model/encoder={network}", f"model/decoder={network}", *shape))


@pytest.mark.parametrize(
    "combination",
    [*product(GROUPS["posterior"], GROUPS["prior"], GROUPS["objective"])],
    ids=" ".join,
)
@pytest.mark.parametrize("metric", ["none", "fitted"])
def test_posterior_prior_and_objective_combine_or_are_refused(tiny_vae, combination, metric):
    posterior, prior, objective = combination
    overrides = [
        f"model/posterior={posterior}",
        f"model/prior={prior}",
        f"model/objective={objective}",
        f"model/metric={metric}",
        "model.prior.components=5" if prior == "vamp" else "model.latent_dim=4",
    ]
    point, no_prior = posterior == "delta", prior == "none"
    meaningless = (objective == "elbo" and (point or no_prior)) or (
        objective == "reconstruction" and point and not no_prior
    )
    metric_missing = metric == "none" and "riemannian" in (posterior, prior)
    if meaningless or metric_missing or prior == "gaussian_process":
        with pytest.raises(UserError) as refused:
            tiny_vae(*overrides)
        assert str(refused.value) in [rule.reason for rule in RULES]
    elif objective == "reconstruction" and prior == "vamp":
        # Nothing in this loss looks at the pseudo-inputs.
        assert torch.isfinite(tiny_vae(*overrides).step(torch.rand(6, 1, 8, 8))[1].loss)
    else:
        check(tiny_vae(*overrides))


@pytest.mark.parametrize(
    ("optimizer", "scheduler"), [*product(GROUPS["optimizer"], GROUPS["scheduler"])]
)
def test_every_optimiser_and_scheduler_takes_a_step(tiny_vae, optimizer, scheduler):
    model = tiny_vae(f"model/optimizer={optimizer}", f"model/scheduler={scheduler}")
    found = model.configure_optimizers()
    built = found["optimizer"] if isinstance(found, dict) else found
    before = [parameter.clone() for parameter in model.parameters()]
    model.step(torch.rand(6, 1, 8, 8))[1].loss.backward()
    built.step()
    assert all((old != new).any() for old, new in zip(before, model.parameters(), strict=True))
    assert isinstance(found, dict) == (scheduler != "none")


@pytest.mark.parametrize("latent", GROUPS["latent"])
@pytest.mark.parametrize("posterior", GROUPS["posterior"])
@pytest.mark.parametrize("prior", GROUPS["prior"])
def test_every_latent_trains_with_every_posterior_and_prior_or_refuses(
    tiny_vae, latent, posterior, prior
):
    sequence = latent in ("sequence", "longitudinal", "frames")
    base = ["model=vanilla_sequence", "data.shape=[3,1,8,8]"] if sequence else ["model=vae"]
    overrides = [
        *base,
        f"model/latent={latent}",
        f"model/posterior={posterior}",
        f"model/prior={prior}",
        "model/metric=fitted",
        "model.objective.num_samples=3",
        "model.prior.components=5" if prior == "vamp" else "model.latent_dim=4",
    ]
    coupled = prior == "gaussian_process" and latent != "frames"
    if posterior == "delta" or prior == "none" or coupled:
        with pytest.raises(UserError) as refused:
            tiny_vae(*overrides)
        assert str(refused.value) in [rule.reason for rule in RULES]
    else:
        check(tiny_vae(*overrides))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_the_same_after_being_saved_and_opened(tiny_config, tmp_path, name):
    shape = ["data.shape=[3,1,8,8]"] if of_sequences(name) else []
    config = tiny_config(f"model={name}", *shape)
    for key in ("optimizer", "scheduler", "compile", "pretrained"):
        config.pop(key)
    model = build(config).eval()
    x = torch.rand(30, *model.shape)
    if model.latent.metric is not None:
        points = model.latent.point(x)
        model.latent.refresh_metric(points, torch.randn(len(points), 4))
    save_model(model, config, tmp_path / "model")
    again = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(again.reconstruct(x), model.reconstruct(x))
        if model.latent.prior is not None:
            torch.manual_seed(0)
            expected = model.log_likelihood(x[:3], 4)
            torch.manual_seed(0)
            assert torch.equal(again.log_likelihood(x[:3], 4), expected)
