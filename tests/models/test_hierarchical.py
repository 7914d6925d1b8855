"""Latents in levels: their densities, their KL, and the evidence of a model that has one in closed form."""

from copy import deepcopy
from math import log, pi

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from src.models.distributions import detached
from src.models.latents import LadderLatent
from src.models.latents.hierarchical import Ancestral, Level
from src.models.likelihoods import GaussianLikelihood
from src.models.networks import AutoregressiveFlow
from src.models.posteriors import DiagonalGaussian, FlowPosterior
from src.models.priors import StandardNormal
from src.utils.errors import UserError

VARIANTS = ["ladder_vae", "nvae_small"]
MERGES = ["precision", "residual"]


class Decoder(nn.Module):
    """The sum of z's dimensions, as a vector of one element."""

    def forward(self, z: Tensor) -> Tensor:
        return z.sum(-1)[..., None, None]


def ladder(lower=(1,), dim=1, merge="precision", skip=False, posterior=None, prior=None):
    """A small hierarchy over vectors of 3 elements, in fp64."""
    latent = LadderLatent(
        dim=dim,
        lower=lower,
        in_features=3,
        width=8,
        merge=merge,
        skip=skip,
        act="tanh",
        encoder=nn.Identity(),
        posterior=posterior or DiagonalGaussian(3, dim),
        prior=prior or StandardNormal(dim),
        decoder=Decoder(),
        likelihood=GaussianLikelihood((1,), scale="fixed", sigma=0.7),
    )
    return latent.double()


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_draw_has_all_levels_side_by_side(tiny_vae, name, k):
    model = tiny_vae(f"model={name}", f"model.objective.num_samples={k}")
    x = torch.rand(6, *model.shape)
    draw, terms = model.step(x)
    size = 4 + sum(level.dim for level in model.latent.levels)
    assert draw.z.shape == (k, 6, size) and draw.q.event_shape == draw.p.event_shape == (size,)
    assert draw.log_px.shape == draw.log_qz.shape == draw.log_pz.shape == (k, 6)
    levels = [f"kl_level_{level + 1}" for level in range(len(model.latent.levels) + 1)]
    assert sorted(draw.aux) == levels and all(draw.aux[name].shape == (6,) for name in levels)
    torch.testing.assert_close(sum(draw.aux.values()), terms.values["kl"])
    assert draw.q.mean.shape == (6, size) and draw.p.sample((3,)).shape == (3, size)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns_and_every_call_is_answered(tiny_vae, name):
    model = tiny_vae(f"model={name}")
    x = torch.rand(6, *model.shape)
    model.step(x)[1].loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), parameter_name
    model = deepcopy(model).eval()
    assert model.sample(3).shape == (3, *model.shape)
    assert model.interpolate(x, x.flip(0), 5).shape == (5, 6, *model.shape)
    torch.testing.assert_close(model.energy(x), model.energy(x))
    assert torch.isfinite(model.log_likelihood(x, 9)).all()
    with torch.autocast("cpu", torch.bfloat16):
        draw, terms = model.step(x)
    assert draw.z.dtype == torch.float32 and torch.isfinite(terms.loss)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("top", ["gaussian", "flow"])
def test_the_density_at_own_samples_is_the_density_there(merge, top):
    flow = AutoregressiveFlow(2, width=8, context=4)
    posterior = FlowPosterior(3, 2, 4, flow) if top == "flow" else None
    latent = ladder((3, 2), 2, merge, posterior=posterior)
    x = torch.randn(4, 3, dtype=torch.float64)
    q, p = latent.encode(x), latent.prior_over_z()
    z, log_qz = q.rsample_and_log_prob(torch.Size((5,)))
    assert (z.shape, log_qz.shape) == ((5, 4, 7), (5, 4))
    torch.testing.assert_close(q.log_prob(z), log_qz)
    draw = latent.infer(x, k=5)
    torch.testing.assert_close(draw.log_qz, q.log_prob(draw.z))
    torch.testing.assert_close(draw.log_pz, p.log_prob(draw.z))
    torch.manual_seed(3)
    joint = q.rsample((2, 3))
    torch.manual_seed(3)
    assert torch.equal(joint, q.sample((2, 3))) and not q.sample().requires_grad


@pytest.mark.parametrize("merge", MERGES)
def test_prior_and_posterior_integrate_to_one(merge):
    latent = ladder(merge=merge)
    with torch.no_grad():  # far from where the levels do not depend on each other
        for parameter in latent.levels.parameters():
            parameter.mul_(1.5)
    grid = torch.linspace(-40, 40, 801, dtype=torch.float64)
    z = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1)
    x = torch.randn(1, 3, dtype=torch.float64)
    for density in (latent.prior_over_z(), latent.encode(x)):
        with torch.no_grad():
            values = density.log_prob(z.view(-1, 1, 2) if density.batch_shape else z).exp()
        values = values.view(len(grid), len(grid))
        mass = torch.trapezoid(torch.trapezoid(values, grid), grid)
        assert float(mass) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("merge", MERGES)
def test_the_kl_of_the_levels_is_the_monte_carlo_one_with_less_noise(merge):
    latent = ladder((2, 2), 2, merge)
    x = torch.randn(3, 3, dtype=torch.float64)
    with torch.no_grad():
        draw = latent.infer(x, k=100_000)
        noisy = draw.log_qz - draw.log_pz
        torch.testing.assert_close(draw.own_kl, noisy.mean(0), atol=0.02, rtol=0)
        few = torch.stack([latent.infer(x, k=10).own_kl for _ in range(200)])
    assert (few.var(0) < 0.5 * noisy.var(0) / 10).all()


def test_one_level_is_the_plain_vae(tiny_vae):
    plain = tiny_vae("model=vae")
    one = tiny_vae("model=vae", "model/latent=ladder", "model.latent.lower=[]")
    one.load_state_dict(plain.state_dict())
    x = torch.rand(6, *plain.shape)
    losses = []
    for model in (plain, one):
        torch.manual_seed(1)
        losses.append(model.step(x)[1].loss)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(one.encode(x).mean, plain.encode(x).mean)


def test_precision_weighting_is_the_product_of_two_gaussians():
    level = Level(2, 3, 4, 8, "precision", "tanh").double()
    above, features = (
        torch.randn(5, 2, dtype=torch.float64),
        torch.randn(5, 4, dtype=torch.float64),
    )
    p, q = level(above, features)
    mean, sigma = level.recognised.moments(features)
    z = torch.randn(7, 5, 3, dtype=torch.float64)
    product = -0.5 * (((z - mean) / sigma) ** 2).sum(-1) + p.log_prob(z)
    difference = q.log_prob(z) - product
    torch.testing.assert_close(difference, difference[:1].expand(7, 5))  # up to the normaliser
    assert (q.variance < p.variance).all() and (q.variance < sigma**2).all()


def test_a_residual_posterior_without_news_is_the_prior():
    level = Level(2, 3, 4, 8, "residual", "tanh").double()
    with torch.no_grad():
        for parameter in level.recognised.parameters():
            parameter.zero_()
    above = torch.randn(5, 2, dtype=torch.float64)
    p, q = level(above, torch.randn(5, 4, dtype=torch.float64))
    torch.testing.assert_close(q.mean, p.mean)
    torch.testing.assert_close(q.variance, p.variance)


def test_ancestral_samples_have_the_moments_of_a_linear_hierarchy():
    latent = linear_ladder()
    p = latent.prior_over_z()
    assert isinstance(p, Ancestral)
    z = p.sample((200_000,))
    torch.testing.assert_close(z.mean(0), p.mean, atol=0.02, rtol=0)
    expected = torch.tensor([[1.0, SLOPE], [SLOPE, SLOPE**2 + NOISE**2]], dtype=torch.float64)
    torch.testing.assert_close(z.T.cov(), expected, atol=0.02, rtol=0)


SLOPE, NOISE, SIGMA = 0.8, 0.6, 0.7


def linear_ladder() -> LadderLatent:
    """z_2 ~ N(0, 1), z_1 ~ N(SLOPE z_2, NOISE²), x ~ N(z_1, SIGMA²); the posterior is whatever it is."""
    latent = ladder((1,))
    level = latent.levels[0]
    level.down = nn.Identity()
    level.generated = DiagonalGaussian(1, 1).double()
    with torch.no_grad():
        level.generated.head.weight.copy_(torch.tensor([[SLOPE], [0.0]]))
        raw = 8 * torch.atanh(torch.tensor(log(NOISE) / 8, dtype=torch.float64))
        level.generated.head.bias.copy_(torch.stack([torch.zeros_like(raw), raw]))
    return latent


def test_importance_weights_find_the_evidence_of_a_linear_hierarchy():
    latent = linear_ladder()
    x = torch.randn(5, 1, dtype=torch.float64)
    variance = SLOPE**2 + NOISE**2 + SIGMA**2
    evidence = -0.5 * (x[:, 0] ** 2 / variance + log(2 * pi * variance))
    with torch.no_grad():
        for head in (latent.posterior.head, latent.levels[0].recognised.head):
            head.bias[1] = 0.7  # wider than the true posterior, so that no weight is large
        draw = latent.infer(x.expand(-1, 3), k=100_000)
        log_px = draw.px.log_prob(x)
        log_w = log_px + draw.log_pz - draw.log_qz
    torch.testing.assert_close(log_w.logsumexp(0) - log(100_000), evidence, atol=0.02, rtol=0)
    assert (log_px.mean(0) - draw.own_kl < evidence).all()


def test_at_the_true_posterior_every_sample_gives_the_evidence():
    latent, x = linear_ladder(), torch.randn(5, 1, dtype=torch.float64)
    # p(z_2 | x) from the marginal of x; p(z_1 | z_2, x) by precision weighting with N(x, SIGMA²).
    variance = SLOPE**2 + NOISE**2 + SIGMA**2
    top = torch.tensor([SLOPE / variance, 0.0, 0.0]), 0.5 * log(1 - SLOPE**2 / variance)
    lower = torch.tensor([1.0, 0.0, 0.0]), log(SIGMA)
    latent.up[0] = nn.Identity()
    with torch.no_grad():
        for head, (slope, log_sigma) in (
            (latent.posterior.head, top),
            (latent.levels[0].recognised.head, lower),
        ):
            raw = 8 * torch.atanh(torch.tensor(log_sigma / 8, dtype=torch.float64))
            head.weight.copy_(torch.stack([slope, torch.zeros(3)]))
            head.bias.copy_(torch.stack([torch.zeros_like(raw), raw]))
        draw = latent.infer(x.expand(-1, 3), k=3)
        found = draw.px.log_prob(x) + draw.log_pz - draw.log_qz
    covariance = torch.full((1, 1), variance, dtype=torch.float64)
    evidence = MultivariateNormal(torch.zeros(1, dtype=torch.float64), covariance).log_prob(x)
    torch.testing.assert_close(found, evidence.expand(3, -1))


@pytest.mark.parametrize("skip", [False, True])
def test_the_decoder_sees_the_lowest_level_or_all(skip):
    latent = ladder((2, 1), 3, skip=skip)
    z = torch.randn(5, 4, 6, dtype=torch.float64)
    seen = z if skip else z[..., -2:]
    torch.testing.assert_close(latent.decode(z).mean, seen.sum(-1, keepdim=True))


def test_a_prior_of_posteriors_serves_the_top_level(tiny_vae):
    model = tiny_vae("model=ladder_vae", "model/prior=vamp", "model.prior.components=5")
    model.step(torch.rand(6, *model.shape))[1].loss.backward()
    assert (model.latent.prior.inputs.grad != 0).any()
    assert model.sample(3).shape == (3, *model.shape)


def test_a_density_that_runs_through_networks_cannot_be_frozen():
    with pytest.raises(NotImplementedError, match="runs through a network"):
        detached(ladder().encode(torch.randn(2, 3, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"merge": "sum"}, "model.latent.merge='sum'"), ({"lower": (2, 0)}, "model.latent.lower")],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(UserError, match=named):
        ladder(**arguments)


def test_the_weight_of_the_kl_is_warmed_up(compose_config):
    for name in VARIANTS:
        callbacks = compose_config(f"model={name}").callbacks
        assert callbacks.kl_warmup.duration > 0
    assert compose_config("model=vae").callbacks.kl_warmup.duration == 0
