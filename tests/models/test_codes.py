"""Discrete codes: what is rounded to what, gradients through it, probabilities, and a density fitted to them."""

from copy import deepcopy
from itertools import product
from math import log

import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from src.models.posteriors import (
    FiniteScalarQuantised,
    GumbelPosterior,
    LookupFreeQuantised,
    VectorQuantised,
)
from src.models.posteriors.categorical import TokenCategorical
from src.models.posteriors.quantised import perplexity
from src.models.priors import UniformCategorical, UniformCodes
from src.models.samplers import AutoregressiveSampler
from src.runs.loading import load_model, save_model
from src.utils.build import build
from src.utils.errors import UserError

FEATURES, DIM = 6, 8
KINDS = {
    "vq": lambda: VectorQuantised(FEATURES, DIM, codebook_size=7),
    "rq": lambda: VectorQuantised(FEATURES, DIM, codebook_size=5, quantisers=3),
    "fsq": lambda: FiniteScalarQuantised(FEATURES, DIM, levels=[5, 4, 3, 3]),
    "residual_fsq": lambda: FiniteScalarQuantised(FEATURES, DIM, levels=[3, 2], quantisers=2),
    "lfq": lambda: LookupFreeQuantised(FEATURES, DIM),
}
VARIANTS = ["vq_vae", "rq_vae", "fsq_vae", "residual_fsq_vae", "lfq_vae"]
quantised = pytest.mark.parametrize("name", KINDS)


def trained(name: str) -> nn.Module:
    """A posterior whose codebooks, if it has any to learn, have followed some data."""
    posterior = KINDS[name]()
    for _ in range(5):
        posterior(3 * torch.randn(64, FEATURES))
    return posterior.eval()


def spread(books: torch.Tensor) -> torch.Tensor:
    """All sums of one entry from each of two codebooks (2, K, C)."""
    return (books[0][:, None] + books[1]).flatten(0, 1)


@quantised
def test_z_is_that_of_its_codes(name):
    posterior = trained(name)
    q = posterior(3 * torch.randn(2, 5, FEATURES))
    assert q.codes.shape == (2, 5, *posterior.code_shape) and q.codes.dtype == torch.int64
    assert q.codes.min() >= 0 and q.codes.max() < posterior.codebook_size
    assert q.mean.shape == (2, 5, DIM) and len(q.codes.unique()) > 2
    torch.testing.assert_close(posterior.embed(q.codes), q.mean, atol=1e-6, rtol=0)


def test_vq_and_lfq_take_the_nearest_entry_and_rq_the_nearest_to_what_is_left():
    features = 3 * torch.randn(40, FEATURES)
    for name in ("vq", "lfq", "rq"):
        posterior = trained(name)
        rest = posterior.project(features)
        codes = posterior(features).codes.view(40, 2, -1)
        for book, code in zip(posterior.codebooks, codes.unbind(-1), strict=True):
            assert torch.equal(torch.cdist(rest, book.expand(40, -1, -1)).argmin(-1), code)
            rest = rest - book[code]


def test_fsq_rounds_each_dimension_to_evenly_spaced_levels():
    posterior = trained("fsq")
    assert posterior.codebook_size == 5 * 4 * 3 * 3
    assert [len(column.unique()) for column in posterior.codebooks[0].T] == [5, 4, 3, 3]
    h = torch.linspace(-4, 4, 401)[:, None, None].expand(-1, 1, 4)
    rounded = posterior.quantise(h)[0][:, 0]
    for column, levels in zip(rounded.T, (5, 4, 3, 3), strict=True):
        steps = column.unique().diff()
        assert (column.diff() >= 0).all() and len(steps) == levels - 1
        torch.testing.assert_close(steps, steps[:1].expand_as(steps))


def test_more_quantisers_come_closer():
    features, left = 3 * torch.randn(500, FEATURES), []
    for quantisers in (1, 2, 4):
        torch.manual_seed(0)
        posterior = VectorQuantised(FEATURES, DIM, codebook_size=8, quantisers=quantisers)
        for _ in range(30):
            posterior(features)
        h = posterior.eval().project(features).flatten(1)
        left.append(float((posterior(features).mean - h).square().mean().detach()))
    assert left[0] > 1.5 * left[1] > 2 * left[2]
    both = FiniteScalarQuantised(FEATURES, DIM, levels=[3, 2], quantisers=2)
    assert len(spread(both.codebooks).unique(dim=0)) == 36


@quantised
def test_gradients_go_straight_through(name):
    posterior = KINDS[name]()
    h = (0.5 * torch.randn(9, posterior.tokens, posterior.token_dim)).requires_grad_()
    weights = torch.randn(9, posterior.tokens, posterior.token_dim)
    (found,) = torch.autograd.grad((posterior.quantise(h)[0] * weights).sum(), h)
    if name == "fsq":  # of the bound, half_width · round(half · tanh(h + shift) − offset)
        levels = torch.tensor([5.0, 4, 3, 3])
        half, offset = (levels - 1) * 1.001 / 2, (levels % 2 == 0) / 2
        slope = 1 - torch.tanh(h + torch.atanh(offset / half)).square()
        weights = weights * slope * half / (levels // 2)
    elif name == "residual_fsq":
        weights = weights * (1 - torch.tanh(h / torch.tensor([1.5, 2.0])).square())
    torch.testing.assert_close(found, weights)


@quantised
def test_no_parameter_is_without_a_gradient(name):
    posterior = KINDS[name]()
    q = posterior(torch.randn(9, FEATURES))
    q.mean.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in posterior.parameters())


def test_commitment_is_the_distance_from_every_partial_sum():
    posterior, features = trained("rq"), torch.randn(6, FEATURES)
    q, h = posterior(features), posterior.project(features)
    parts = torch.stack(
        [book[code] for book, code in zip(posterior.codebooks, q.codes.unbind(-1), strict=True)]
    )
    expected = (h - parts.cumsum(0)).square().sum((0, 2, 3))
    torch.testing.assert_close(q.terms["commitment"], expected)
    (of_h,) = torch.autograd.grad(q.terms["commitment"].sum(), posterior.head.bias)
    torch.testing.assert_close(of_h, 2 * (h - parts.cumsum(0)).sum((0, 1)).flatten())


def test_the_entropy_of_lookup_free_codes_is_low_when_they_are_certain_and_various():
    posterior = LookupFreeQuantised(1, 2, token_dim=2, temperature=1.0)
    corners = 3 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    certain, same, unsure = (
        posterior.quantise(h[:, None])[2]["entropy"].mean()
        for h in (corners, corners[:1].expand(4, 2), torch.zeros(4, 2))
    )
    assert certain == pytest.approx(-log(4), abs=1e-2)
    assert (float(same), float(unsure)) == pytest.approx((0, 0), abs=1e-2)
    far = (100 * corners[:, None]).requires_grad_()
    posterior.quantise(far)[2]["entropy"].sum().backward()
    assert torch.isfinite(far.grad).all()
    # Bits are independent given h, each with the probability σ(4h/temperature).
    h = torch.randn(1, 1, 2)
    bits = torch.distributions.Bernoulli(logits=4 * h).entropy().sum()
    p = torch.distributions.Bernoulli(logits=4 * h)
    joint = torch.stack([p.log_prob(torch.tensor(bit)).sum() for bit in corners_01()]).exp()
    assert float(torch.special.entr(joint).sum()) == pytest.approx(float(bits), rel=1e-4)
    two = torch.cat([h, torch.zeros_like(h)])
    mixed = torch.special.entr((joint + 0.25) / 2).sum()
    expected = torch.stack([bits - mixed, torch.tensor(log(4)) - mixed])
    torch.testing.assert_close(posterior.quantise(two)[2]["entropy"], expected)


def corners_01() -> list[list[float]]:
    return [[float(bit) for bit in bits] for bits in product((0, 1), repeat=2)]


def test_perplexity_counts_the_entries_in_use():
    codes = torch.arange(12).view(12, 1) % 4
    assert float(perplexity(codes, 9)) == pytest.approx(4)
    assert float(perplexity(torch.cat([codes, 0 * codes], 1), 9)) == pytest.approx(2.5)


@pytest.mark.parametrize("name", ["vq", "rq"])
def test_codebooks_move_in_training_only(name):
    posterior, features = trained(name), 3 * torch.randn(30, FEATURES)
    before = {key: value.clone() for key, value in posterior.state_dict().items()}
    posterior(features)
    assert all(torch.equal(before[key], value) for key, value in posterior.state_dict().items())
    posterior.train()(features)
    moved = [
        key for key, value in posterior.state_dict().items() if not torch.equal(before[key], value)
    ]
    assert len(moved) >= 3 * posterior.quantisers
    assert not [key for key, _ in posterior.named_parameters() if "head" not in key]


def test_codebooks_follow_the_data_of_all_processes(monkeypatch):
    posterior, features = VectorQuantised(FEATURES, DIM, least_use=0.0), torch.randn(30, FEATURES)
    alone = deepcopy(posterior)
    alone(torch.cat([features, features]))
    # As if another process had the same data.
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: value.mul_(2))
    posterior(features)
    torch.testing.assert_close(posterior.codebooks, alone.codebooks)


def test_unused_entries_start_again_at_the_data():
    posterior = VectorQuantised(FEATURES, DIM, codebook_size=16)
    features = 5 + torch.randn(200, FEATURES)  # far away from where the entries begin
    used = []
    for _ in range(25):
        used.append(float(posterior(features).terms["codebook_perplexity"][0]))
    assert used[0] < 4 < 8 < used[-1]


@quantised
def test_the_bound_is_the_likelihood_and_a_constant(tiny_vae, name):
    posterior = {"residual_fsq": "residual_fsq", "rq": "rq"}.get(name, name)
    levels = ["model.posterior.levels=[4,3]"] if "fsq" in name else []
    model = tiny_vae(f"model/posterior={posterior}", "model/prior=uniform_codes", *levels).eval()
    part, x = model.latent.posterior, torch.rand(5, 1, 8, 8)
    rate = part.tokens * part.quantisers * log(part.codebook_size)
    draw, terms = model.step(x)
    torch.testing.assert_close(terms.values["kl"], torch.full((5,), rate))
    with torch.no_grad():
        bound = model.decode(model.encode(x).mean).log_prob(x) - rate
        # Every sample is the same, so that more of them change nothing.
        torch.testing.assert_close(model.log_likelihood(x, 5), bound, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(-model.energy(x), bound, atol=1e-3, rtol=1e-4)
    other = part.embed((draw.q.codes + 1) % part.codebook_size)
    assert (draw.q.log_prob(draw.q.mean) == 0).all() and (
        draw.q.log_prob(other) == -torch.inf
    ).all()


@quantised
def test_the_uniform_prior_draws_every_code(name):
    posterior, prior = trained(name), UniformCodes()
    prior.borrow_codes(posterior)
    assert not [*prior.state_dict()]
    p = prior()
    z = p.sample((20000,))
    spread_of_mean = 5 * z.std(0).max() / 20000**0.5
    assert z.shape == (20000, DIM) and (z.mean(0) - p.mean).abs().max() < spread_of_mean
    count = posterior.codebook_size ** (posterior.quantisers)
    tokens = z[:, : posterior.token_dim].unique(dim=0)
    assert len(tokens) > 0.9 * min(count, 180)
    assert p.expand((3,)).sample((2,)).shape == (2, 3, DIM) and p.expand((3,)).mean.shape == (
        3,
        DIM,
    )


def test_a_prior_over_codes_needs_codes():
    prior = UniformCodes()
    prior.borrow_codes(nn.Linear(1, 1))
    with pytest.raises(UserError, match="needs a posterior over codes"):
        prior()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VectorQuantised(FEATURES, 10), "latent_dim=10 must be a multiple of the 4"),
        (lambda: VectorQuantised(FEATURES, DIM, codebook_size=1), "codebook_size=1 must be at"),
        (lambda: VectorQuantised(FEATURES, DIM, decay=1.0), "decay=1.0 in"),
        (lambda: FiniteScalarQuantised(FEATURES, DIM, levels=[2, 5]), "each 3 or more"),
        (lambda: FiniteScalarQuantised(FEATURES, DIM, levels=[]), "at least one number"),
        (lambda: LookupFreeQuantised(FEATURES, DIM, temperature=0.0), "temperature=0.0 must"),
        (lambda: GumbelPosterior(FEATURES, DIM, categories=1), "categories=1 must be at least 2"),
    ],
)
def test_impossible_codes_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_saved_model_has_the_same_codes(tiny_config, tmp_path, name):
    config = tiny_config(f"model={name}", "model.latent_dim=8")
    for key in ("optimizer", "scheduler", "compile", "pretrained"):
        config.pop(key)
    model, x = build(config), torch.rand(20, 1, 8, 8)
    for _ in range(3):
        model.step(x)
    save_model(model.eval(), config, tmp_path / "model")
    again = load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(again.encode(x).codes, model.encode(x).codes)
        assert torch.equal(again.reconstruct(x), model.reconstruct(x))
        assert torch.equal(again.prior().mean, model.prior().mean)


@pytest.mark.parametrize("name", [*VARIANTS, "gumbel_vae"])
def test_half_precision_changes_neither_the_rounding_nor_its_precision(tiny_vae, name):
    model, x = tiny_vae(f"model={name}", "model.latent_dim=8"), torch.rand(20, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        draw, terms = model.step(x)
    terms.loss.backward()
    assert draw.z.dtype == torch.float32 and torch.isfinite(terms.loss)
    posterior = model.latent.posterior.eval()
    if name != "gumbel_vae":
        with torch.autocast("cpu", torch.bfloat16):
            features = model.latent.encoder(x)
            q = posterior(features)
        torch.testing.assert_close(posterior.embed(q.codes), q.mean, atol=1e-6, rtol=0)


# Categories.


def test_the_kl_of_categories_is_that_of_the_discrete_distribution():
    q = TokenCategorical(2 * torch.randn(3, 4, 5))
    p = TokenCategorical(torch.randn(4, 5))
    z = q.sample((100_000,))
    ratio = q.log_prob(z) - p.log_prob(z)
    closed = kl_divergence(q, p)
    assert ((ratio.mean(0) - closed).abs() < 5 * ratio.std(0) / 100_000**0.5).all()
    uniform = kl_divergence(q, UniformCategorical(20, 5)())
    entropy = torch.special.entr(q.logits.exp()).sum((-2, -1))
    torch.testing.assert_close(uniform, 4 * log(5) - entropy)


def test_the_masses_of_one_hot_codes_add_up_to_one():
    posterior = GumbelPosterior(FEATURES, 6, categories=3).eval()
    q = posterior(torch.randn(4, FEATURES))
    every = posterior.embed(torch.tensor([*product(range(3), repeat=2)]))
    torch.testing.assert_close(q.log_prob(every[:, None]).logsumexp(0), torch.zeros(4))
    torch.testing.assert_close(
        (q.log_prob(every[:, None]).exp()[..., None] * every[:, None]).sum(0), q.mean
    )
    z = q.sample((7,))
    assert ((z == 0) | (z == 1)).all() and (z.unflatten(-1, (2, 3)).sum(-1) == 1).all()
    assert torch.equal(q.codes, q.mean.unflatten(-1, (2, 3)).argmax(-1))


def test_a_relaxed_sample_becomes_discrete_as_the_temperature_falls():
    posterior = GumbelPosterior(FEATURES, 40, categories=4)
    features, largest = torch.randn(50, FEATURES), []
    for temperature in (10.0, 1.0, 0.05):
        posterior.temperature.fill_(temperature)
        z = posterior(features).rsample()
        torch.testing.assert_close(z.unflatten(-1, (10, 4)).sum(-1), torch.ones(50, 10))
        largest.append(float(z.detach().unflatten(-1, (10, 4)).amax(-1).mean()))
    assert largest[0] < 0.35 < largest[1] < 0.9 < 0.95 < largest[2]


def test_the_largest_number_of_a_relaxed_sample_is_distributed_as_the_category():
    # Maddison et al. 2017, proposition 1b, at every temperature.
    q = TokenCategorical(torch.tensor([[[1.0, 0.0, -1.0]]]), torch.tensor(3.0))
    found = q.rsample((100_000,)).argmax(-1).flatten()
    share = torch.bincount(found, minlength=3) / 100_000
    torch.testing.assert_close(share, q.mean[0], atol=5e-3, rtol=0)


def test_hard_samples_are_one_hot_with_a_gradient():
    posterior = GumbelPosterior(FEATURES, DIM, categories=4, hard=True)
    z = posterior(torch.randn(5, FEATURES)).rsample((3,))
    torch.testing.assert_close(z, z.round())
    (z * torch.randn_like(z)).sum().backward()
    assert posterior.head.weight.grad.abs().sum() > 0


def test_a_relaxed_sample_claims_no_probability():
    posterior = GumbelPosterior(FEATURES, DIM)
    q = posterior(torch.randn(5, FEATURES))
    with pytest.raises(NotImplementedError, match="relaxed sample is no code"):
        q.log_prob(q.rsample())


def test_the_importance_weighted_bound_of_categories_reaches_the_evidence(tiny_vae):
    model = tiny_vae("model=gumbel_vae", "model.latent_dim=4").eval()
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        codes = torch.arange(4)[:, None]
        z = model.latent.posterior.embed(codes)
        evidence = (model.decode(z[:, None].expand(4, 3, 4)).log_prob(x) - log(4)).logsumexp(0)
        torch.testing.assert_close(model.log_likelihood(x, 3000), evidence, atol=0.05, rtol=0)
        draw, terms = model.step(x)
    assert (terms.values["kl"] >= 0).all() and (terms.values["kl"] <= log(4)).all()


# The density fitted after training.


def patterned(model: nn.Module, count: int) -> torch.Tensor:
    """Pictures of a few kinds, so that some codes are frequent and others never seen."""
    kinds = torch.rand(3, *model.shape)
    return (kinds[torch.arange(count) % 3] + 0.05 * torch.rand(count, *model.shape)).clamp(0, 1)


def sampler_of(model: nn.Module, **settings: float) -> AutoregressiveSampler:
    sampler = AutoregressiveSampler(model.latent_dim, width=16, **settings)
    sampler.borrow_latent(model.latent)
    return sampler


@pytest.mark.parametrize("name", ["vq_vae", "gumbel_vae", "lfq_vae"])
def test_the_fitted_masses_of_all_codes_add_up_to_one(tiny_vae, name):
    size = ["model.posterior.codebook_size=5"] if name == "vq_vae" else []
    model = tiny_vae(f"model={name}", "model.latent_dim=8", *size)
    x = patterned(model, 60)
    model.step(x)
    sampler = sampler_of(model, epochs=2)
    assert "nll" in sampler.fit(torch.zeros(60, 8), x)
    posterior = model.latent.posterior
    every = torch.tensor([*product(range(posterior.codebook_size), repeat=2)])
    log_mass = sampler.log_prob(posterior.embed(every))
    assert float(log_mass.logsumexp(0)) == pytest.approx(0, abs=1e-4)
    assert log_mass.std() > 0.01


@pytest.mark.parametrize("name", ["vq_vae", "rq_vae"])
def test_the_fitted_density_knows_the_codes_better_than_the_uniform(tiny_vae, name):
    model = tiny_vae(f"model={name}", "model.latent_dim=8", "model.posterior.codebook_size=16")
    x = patterned(model, 900)
    for _ in range(20):
        model.step(x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sampler = sampler_of(model, epochs=20, lr=0.01)
    found = sampler.fit(torch.zeros(900, 8), x)
    codes = model.eval().encode(x).codes.flatten(1)
    shares = torch.stack([torch.bincount(column, minlength=16) for column in codes.T]) / 900
    # Better than every place by itself, because the kind of picture ties them together.
    assert found["nll"] < float(torch.special.entr(shares).sum()) - 0.5 < found["nll_uniform"]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    drawn = sampler.sample_codes(500)
    surprise = torch.tensor(found["nll"])
    torch.testing.assert_close(-sampler.log_mass(drawn).mean(), surprise, atol=1, rtol=0.2)
    assert sampler.sample(6).shape == (6, 8)
    if name == "rq_vae":
        with pytest.raises(NotImplementedError, match="does not tell its codes"):
            sampler.log_prob(sampler.sample(2))


def test_samples_follow_the_fitted_masses(tiny_vae):
    model = tiny_vae("model=lfq_vae", "model.latent_dim=4", "model.posterior.token_dim=2")
    x = patterned(model, 60)
    sampler = sampler_of(model, epochs=3, lr=0.01)
    sampler.fit(torch.zeros(60, 4), x)
    every = torch.tensor([*product(range(4), repeat=2)])
    drawn = sampler.sample_codes(20_000)
    share = torch.bincount(4 * drawn[:, 0] + drawn[:, 1], minlength=16) / 20_000
    torch.testing.assert_close(share, sampler.log_mass(every).exp(), atol=0.015, rtol=0)


def test_the_autoregressive_sampler_needs_codes(tiny_vae):
    with pytest.raises(UserError, match="needs discrete codes"):
        sampler_of(tiny_vae("model=vae"))
