"""Samplers fitted to codes whose density is known."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from src.models.priors import PoincarePrior
from src.models.samplers import DensitySampler, MixtureSampler, fit_by_gradient
from src.models.vae import VAE
from src.runs.loading import load_model, save_model
from src.utils.build import build
from src.utils.errors import UserError

SAMPLERS = ["normal", "gmm", "two_stage", "maf", "iaf", "vamp"]


def two_bumps() -> MixtureSameFamily:
    """Far from any single Gaussian: two narrow bumps, tilted in no direction, off the origin."""
    means = torch.tensor([[3.0, 1.0, 0.0, 2.0], [-1.0, 2.0, 1.0, -2.0]])
    bumps = Independent(Normal(means, 0.3), 1)
    return MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7])), bumps)


@pytest.fixture(scope="module")
def sampler(compose_config):
    """``sampler("gmm")`` → the sampler of conf/sampler for four dimensions, its training shortened."""

    def built(name: str):
        cfg = compose_config("model.latent_dim=4", f"sampler@model.sampler={name}")
        if "epochs" in cfg.model.sampler:
            cfg.model.sampler.epochs = 30
        return build(cfg.model).sampler

    return built


@pytest.mark.parametrize("name", ["gmm", "two_stage", "maf", "iaf"])
def test_a_fitted_sampler_is_better_than_one_gaussian_and_draws_what_it_was_fitted_to(
    name, sampler
):
    truth = two_bumps()
    z = truth.sample((1500,))
    found = sampler(name)
    told = found.fit(z, z)
    held_out = truth.sample((500,))
    gaussian = Independent(Normal(z.mean(0), z.std(0)), 1).log_prob(held_out).mean()
    exact, fitted = truth.log_prob(held_out).mean(), found.log_prob(held_out).mean()
    assert gaussian < fitted < exact + 0.05
    assert abs(next(iter(told.values())) + float(fitted)) < 0.5
    drawn = found.sample(4000)
    torch.testing.assert_close(drawn.mean(0), truth.mean, atol=0.35, rtol=0)
    torch.testing.assert_close(drawn.std(0), truth.variance.sqrt(), atol=0.35, rtol=0)


def test_a_mixture_with_the_right_number_of_parts_finds_the_density():
    truth = two_bumps()
    found = MixtureSampler(4, components=2)
    found.fit(truth.sample((4000,)), torch.empty(0))
    held_out = truth.sample((2000,))
    gap = truth.log_prob(held_out).mean() - found.log_prob(held_out).mean()
    assert -0.02 < gap < 0.05


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_answers_only_when_it_is_fitted(name, sampler):
    found = sampler(name)
    assert not found.is_fitted
    with pytest.raises(NotImplementedError, match="fitted after its training"):
        found.sample(3)


@pytest.mark.parametrize(
    ("model", "name", "reason"),
    [
        ("ae", "vamp", "posteriors with a density everywhere"),
        ("planar_vae", "vamp", "posteriors with a density everywhere"),
        ("ae", "hypersphere_uniform", "space 'sphere', and the codes lie in 'euclidean'"),
        ("hyperspherical_vae", "gmm", "space 'euclidean', and the codes lie in 'sphere'"),
        ("vq_vae", "two_stage", "space 'euclidean', and the codes lie in 'codes'"),
        ("vae", "autoregressive", "needs discrete codes"),
        ("ladder_vae", "gmm", "the codes of LadderLatent are not"),
        ("conditional_vae", "gmm", "the codes of ConditionalLatent are not"),
    ],
)
def test_a_sampler_of_another_space_is_refused(tiny_vae, model, name, reason):
    with pytest.raises(UserError, match=reason):
        tiny_vae(f"model={model}", f"sampler@model.sampler={name}")


def test_a_sampler_on_the_ball_learns_its_width(tiny_vae):
    model = tiny_vae("model=poincare_vae", "sampler@model.sampler=poincare").eval()
    narrow = PoincarePrior(4, scale=0.3)().sample((600,))
    model.sampler.fit(narrow, narrow)
    width = float(model.sampler.prior.log_scale.exp())
    assert abs(width - 0.3) < 0.05
    assert model.sample(3).shape == (3, 1, 8, 8)


def test_codes_that_come_in_order_are_held_out_at_random():
    truth = two_bumps()
    z = truth.sample((2000,))
    first_to_last = z[z[:, 0].argsort()]
    found = MixtureSampler(4, components=2).fit(first_to_last, torch.empty(0))["nll"]
    assert abs(found + float(truth.log_prob(z).mean())) < 0.5


def test_too_few_codes_are_refused():
    with pytest.raises(UserError, match="20 codes or more"):
        MixtureSampler(4).fit(torch.randn(5, 4), torch.randn(5, 4))


def test_what_is_kept_is_the_best_on_what_is_held_out():
    """A learning rate at which the last step is the worst."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    x = torch.ones(100, 1)
    best = fit_by_gradient(module, lambda rows: (module(rows) - 1.5)[:, 0] ** 2, x, 3, 90, lr=10.0)
    assert float((module(x[:1]) - 1.5) ** 2) == pytest.approx(best) and best == pytest.approx(0.25)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_fitted_sampler_is_saved_with_its_model_and_draws_in_the_priors_place(
    compose_config, tiny_config, tmp_path, name
):
    model_name = "vae" if name == "vamp" else "ae"
    config = tiny_config(f"model={model_name}", f"sampler@model.sampler={name}")
    for key in ("optimizer", "scheduler", "compile", "pretrained"):
        config.pop(key)
    if "epochs" in config["sampler"]:
        config["sampler"]["epochs"] = 1
    model: VAE = build(config).eval()
    assert not model.can_sample and not model.training
    x = torch.rand(40, 1, 8, 8)
    model.sampler.fit(model.encode(x).mean.detach(), x)
    assert model.can_sample and not any(p.requires_grad for p in model.sampler.parameters())
    save_model(model, config, tmp_path / "model")
    again = load_model(tmp_path)
    torch.manual_seed(0)
    expected = model.sample(5)
    torch.manual_seed(0)
    assert torch.equal(again.sample(5), expected) and expected.shape == (5, 1, 8, 8)


def test_a_density_without_parameters_is_only_scored():
    from src.models.priors import StandardNormal

    sampler = DensitySampler(2, StandardNormal(2), standardise=False)
    z = torch.randn(5000, 2)
    assert abs(sampler.fit(z, z)["nll"] - 2.838) < 0.15  # the entropy of N(0, I) in two dimensions
