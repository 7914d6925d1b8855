"""Bounds from several samples: their values, their limits, and what their gradients are in expectation."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from src.models.draw import Draw
from src.models.objectives import (
    ELBO,
    DoublyReparametrised,
    ImportanceWeighted,
    PartiallyImportanceWeighted,
)
from src.models.priors import StandardNormal
from src.utils.errors import UserError
from tests.models.test_linear_gaussian import SIGMA, B, Rough, W, evidence, posterior_mean


def draw_of(x: Tensor, q: Independent, k: int, weight: Tensor = W) -> Draw:
    """x = W z + b + ε, seen through q."""
    z = q.rsample((k,))
    px = Independent(Normal(z @ weight.T + B, SIGMA), 1)
    return Draw(x=x, z=z, q=q, p=StandardNormal(weight.shape[1]).double()(), px=px)


def rough_draw(n: int, k: int) -> Draw:
    x = torch.randn(n, 2, dtype=torch.float64) @ W.T + B
    x = x + SIGMA * torch.randn_like(x)
    return draw_of(x, Rough()(x), k)


def elbo_of(draw: Draw) -> float:
    """The ELBO's loss with its Monte-Carlo KL, that of the same samples."""
    draw.own_log_qz = draw.q.log_prob(draw.z)
    return float(ELBO()(draw).loss)


def test_with_one_sample_a_bound_is_the_elbo():
    draw, several = rough_draw(5, 1), rough_draw(5, 6)
    assert float(ImportanceWeighted(1)(draw).loss) == pytest.approx(elbo_of(draw), rel=1e-12)
    miwae = ImportanceWeighted(1, groups=6)(several)
    assert float(miwae.loss) == pytest.approx(elbo_of(several), rel=1e-12)
    assert float(miwae.means["recon_nll"] + miwae.means["kl"]) == pytest.approx(float(miwae.loss))


@pytest.mark.parametrize(("groups", "samples"), [(1, 6), (2, 3), (3, 2)])
def test_the_bound_averages_weights_within_groups_and_logarithms_between_them(groups, samples):
    draw = rough_draw(4, 6)
    weights = (draw.log_px + draw.log_pz - draw.log_qz).exp()
    expected = torch.stack([part.mean(0).log() for part in weights.split(samples)]).mean()
    objective = ImportanceWeighted(samples, groups)
    assert objective.num_samples == 6
    torch.testing.assert_close(objective(draw).loss, -expected)


def test_ciwae_lies_between_iwae_and_elbo():
    draw = rough_draw(5, 6)
    losses = [float(ImportanceWeighted(6, elbo_share=s)(draw).loss) for s in (0.0, 0.25, 1.0)]
    iwae = float(ImportanceWeighted(6)(draw).loss)
    assert losses[0] == iwae and losses[2] == pytest.approx(elbo_of(draw), rel=1e-12)
    assert losses[1] == pytest.approx(0.75 * iwae + 0.25 * losses[2]) and iwae < losses[2] - 0.1


def test_the_bound_rises_with_k_to_the_evidence():
    draws = {k: rough_draw(4000, k) for k in (1, 4, 16, 128)}
    gaps = [
        float(ImportanceWeighted(k)(draw).loss + evidence(draw.x).mean())
        for k, draw in draws.items()
    ]
    assert gaps[0] > gaps[1] + 0.05 > gaps[2] + 0.06 and gaps[2] > gaps[3]
    assert gaps[3] == pytest.approx(0, abs=0.01)


def test_more_samples_a_bound_are_better_than_more_bounds():
    draw = rough_draw(2000, 16)
    losses = [float(ImportanceWeighted(k, 16 // k)(draw).loss) for k in (1, 2, 4, 8, 16)]
    assert losses == sorted(losses, reverse=True)


def test_the_weight_of_the_kl_stands_within_the_logarithm():
    draw, one = rough_draw(5, 6), rough_draw(5, 1)
    terms = ImportanceWeighted(1, beta=3.0)(one)
    torch.testing.assert_close(terms.loss, terms.means["recon_nll"] + 3 * terms.means["kl"])
    objective = ImportanceWeighted(6, beta=0.5)
    objective.set_weight("kl", 0.5)  # a warm-up
    for beta, mode in ((0.25, True), (0.5, False)):
        weights = draw.log_px.exp() * (draw.log_pz - draw.log_qz).exp() ** beta
        torch.testing.assert_close(objective.train(mode)(draw).loss, -weights.mean(0).log().mean())


# The encoder's gradient. Every one of n copies of one x has its own q, so that a backward pass gives n gradients.

X = torch.tensor([[0.9, -0.3, 1.1]], dtype=torch.float64)


def gradients(objective: ImportanceWeighted, n: int = 20_000, shift: float = 0.3) -> Tensor:
    """n independent draws of the gradient for the mean and log σ of q, (n, 4)."""
    mean = (posterior_mean(X) + shift).repeat(n, 1).requires_grad_()
    log_sigma = torch.full((n, 2), -0.5, dtype=torch.float64).requires_grad_()
    q = Independent(Normal(mean, log_sigma.exp()), 1)
    draw = draw_of(X.expand(n, -1), q, objective.num_samples)
    (n * objective(draw).loss).backward()
    return torch.cat([mean.grad, log_sigma.grad], 1)


@pytest.mark.parametrize(
    ("samples", "groups", "beta"), [(1, 1, 1.0), (1, 2, 0.5), (5, 1, 1.0), (3, 2, 0.4)]
)
def test_the_gradient_of_dreg_and_stl_is_that_of_the_bound_in_expectation(samples, groups, beta):
    plain = gradients(ImportanceWeighted(samples, groups, beta=beta))
    other = gradients(DoublyReparametrised(samples, groups, beta))
    error = ((plain.var(0) + other.var(0)) / len(plain)).sqrt()
    assert ((plain.mean(0) - other.mean(0)).abs() < 4 * error).all()
    # The test could tell: at this precision the gradient is not zero, nor that of another number of samples.
    assert (plain.mean(0).abs() > 10 * error).any()


@pytest.mark.parametrize("samples", [1, 8])
def test_dreg_and_stl_have_less_variance_close_to_the_optimum(samples):
    plain = gradients(ImportanceWeighted(samples), shift=0.05).var(0).sum()
    assert gradients(DoublyReparametrised(samples), shift=0.05).var(0).sum() < 0.7 * plain


@pytest.mark.parametrize("samples", [1, 4])
def test_at_the_true_posterior_dreg_and_stl_are_still(samples):
    weight = W[:, :1]  # one latent dimension: the true posterior is factorised
    variance = 1 / (1 + weight.square().sum() / SIGMA**2)
    mean = ((X - B) @ weight * variance / SIGMA**2).requires_grad_()
    sigma = variance.sqrt().requires_grad_()
    for objective in (DoublyReparametrised, ImportanceWeighted):
        draw = draw_of(X, Independent(Normal(mean, sigma), 1), samples, weight)
        found = torch.autograd.grad(objective(samples)(draw).loss, [mean, sigma])
        still = all((part.abs() < 1e-12).all() for part in found)
        # The bound's own vanishes in expectation only.
        assert still == (objective is DoublyReparametrised)


def test_the_decoders_gradient_under_dreg_is_the_bounds_own():
    weight = W.clone().requires_grad_()
    draw = draw_of(X, Rough()(X), 6, weight)
    draw.z.requires_grad_()  # as an encoder's samples do
    objectives = ImportanceWeighted(6), DoublyReparametrised(6)
    losses = [objective(draw).loss for objective in objectives]
    torch.testing.assert_close(*losses)
    found = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses]
    torch.testing.assert_close(*found)


# PIWAE: one backward pass against two.


def step(model: nn.Module, x: Tensor, objective: ImportanceWeighted) -> Tensor:
    model.objective = objective
    if hasattr(objective, "borrow_latent"):
        objective.borrow_latent(model.latent)
    torch.manual_seed(3)
    return model.step(x)[1].loss


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=vae"],  # the optimal σ, which ties all samples together
        ["model=vae", "model.likelihood.scale=learned", "model/decoder=conv"],
        ["model=vae", "model/posterior=iaf"],
        ["model=vanilla_sequence", "model/latent=sequence", "data.shape=[3,1,8,8]"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_piwae_gives_encoder_and_decoder_the_gradients_of_two_bounds(tiny_vae, overrides, beta):
    model = tiny_vae(*overrides).double()
    x = torch.rand(5, *model.shape, dtype=torch.float64)
    of_encoder = [*model.latent.encoder.parameters(), *model.latent.posterior.parameters()]
    known = {id(parameter) for parameter in of_encoder}
    of_decoder = [p for p in model.latent.parameters() if id(p) not in known]
    wanted = []
    for objective, inputs in (
        (ImportanceWeighted(3, 2, beta=beta), of_encoder),
        (ImportanceWeighted(6, beta=beta), of_decoder),
    ):
        loss = step(model, x, objective)
        wanted += torch.autograd.grad(loss, inputs)
    found = step(model, x, PartiallyImportanceWeighted(3, 2, beta))
    torch.testing.assert_close(found, loss)  # what is reported is the decoder's bound
    separate = torch.autograd.grad(found, [*of_encoder, *of_decoder])
    for one, other in zip(separate, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    # The test could tell: the encoder's gradient under the decoder's bound is another one.
    other = torch.autograd.grad(step(model, x, ImportanceWeighted(6, beta=beta)), of_encoder)
    assert any(not torch.allclose(a, b) for a, b in zip(other, separate, strict=False))


def test_what_piwae_decodes_a_second_time_is_not_observed_twice(tiny_vae):
    models = [tiny_vae("model=vae"), tiny_vae("model=vae")]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.rand(5, 1, 8, 8)
    for model, objective in zip(
        models, (ImportanceWeighted(6), PartiallyImportanceWeighted(3, 2)), strict=True
    ):
        step(model, x, objective)
    variances = [model.latent.likelihood.running_variance for model in models]
    assert variances[0] == variances[1] != 0.1**2


@pytest.mark.parametrize("name", ["iwae", "miwae", "ciwae", "piwae", "dreg_iwae", "stl_vae"])
def test_weights_that_differ_by_thousands_of_nats_have_finite_gradients(tiny_vae, name):
    model = tiny_vae(f"model={name}", "model.likelihood.scale=fixed", "model.likelihood.sigma=0.01")
    loss = model.step(5 * torch.randn(8, 1, 8, 8))[1].loss
    loss.backward()
    assert loss > 1e5
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("settings", [{"num_samples": 0}, {"groups": 0}, {"elbo_share": 1.5}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="must be at least 1, and elbo_share"):
        ImportanceWeighted(**settings)
