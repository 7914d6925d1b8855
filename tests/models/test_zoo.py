"""Every file of conf/model builds, and every combination either trains or is refused with its reason."""

from itertools import product
from pathlib import Path

import pytest
import torch

from src.models.compat import RULES
from src.utils.errors import UserError

MODEL = Path(__file__).parents[2] / "conf" / "model"
MODELS = sorted(file.stem for file in MODEL.glob("*.yaml"))
GROUPS = {
    folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
    for folder in MODEL.iterdir()
    if folder.is_dir()
}


def check(model: torch.nn.Module) -> None:
    """One step and one evaluation: finite loss, a finite gradient on every parameter, finite metrics."""
    x = torch.rand(6, *model.shape)
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


@pytest.mark.parametrize(("name", "network"), [*product(MODELS, GROUPS["encoder"])])
def test_every_model_trains_with_every_network(tiny_vae, name, network):
    check(tiny_vae(f"model={name}", f"model/encoder={network}", f"model/decoder={network}"))


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
    check(
        tiny_vae(
            f"model={name}",
            f"model/encoder={network}",
            f"model/decoder={network}",
            "data.shape=[90]",
            "data.kind=vector",
        )
    )


@pytest.mark.parametrize(
    "combination",
    [*product(GROUPS["posterior"], GROUPS["prior"], GROUPS["objective"])],
    ids=" ".join,
)
def test_posterior_prior_and_objective_combine_or_are_refused(tiny_vae, combination):
    posterior, prior, objective = combination
    overrides = [
        f"model/posterior={posterior}",
        f"model/prior={prior}",
        f"model/objective={objective}",
    ]
    point, no_prior = posterior == "delta", prior == "none"
    if (objective == "elbo" and (point or no_prior)) or (
        objective == "reconstruction" and point and not no_prior
    ):
        with pytest.raises(UserError) as refused:
            tiny_vae(*overrides)
        assert str(refused.value) in [rule.reason for rule in RULES]
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
def test_every_latent_trains(tiny_vae, latent):
    check(tiny_vae(f"model/latent={latent}", "model.objective.num_samples=3"))
