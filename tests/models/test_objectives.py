"""Objectives against hand computations, Monte Carlo and finite differences."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from src.models.draw import Draw
from src.models.objectives import ELBO, Reconstruction
from src.models.objectives.elbo import kl
from src.utils.errors import UserError

MEAN = torch.tensor([[0.1, 2.0, 0.0], [0.3, -1.0, 0.0]])
STD = torch.tensor([[0.9, 0.5, 1.0], [1.0, 0.2, 1.0]])
KL = 0.5 * (MEAN.square() + STD.square() - 1) - STD.log()  # (B, D), by hand


def draw_of(mean: Tensor = MEAN, std: Tensor = STD, k: int = 3) -> Draw:
    """x ~ N(z, 0.5²) seen through a posterior N(mean, std²)."""
    q = Independent(Normal(mean, std), 1)
    z = q.rsample((k,))
    p = Independent(Normal(torch.zeros(mean.shape[1]), torch.ones(mean.shape[1])), 1)
    return Draw(x=torch.ones_like(mean), z=z, q=q, p=p, px=Independent(Normal(z, 0.5), 1))


def test_the_kl_is_exact_where_a_closed_form_exists():
    draw = draw_of(k=200_000)
    torch.testing.assert_close(kl(draw), KL.sum(-1))
    estimates = draw.log_qz - draw.log_pz
    assert (
        (estimates.mean(0) - kl(draw)).abs() < 4 * estimates.std(0) / len(estimates) ** 0.5
    ).all()


def test_the_kl_is_estimated_where_there_is_none():
    draw = draw_of(k=100_000)
    draw.q = MultivariateNormal(MEAN, torch.diag_embed(STD.square()))
    with pytest.raises(NotImplementedError):
        kl_divergence(draw.q, draw.p)
    assert torch.equal(kl(draw), (draw.log_qz - draw.log_pz).mean(0))
    torch.testing.assert_close(kl(draw), KL.sum(-1), atol=0.03, rtol=0)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_beta_scales_the_kl_alone(beta):
    draw = draw_of()
    terms = ELBO(beta=beta)(draw)
    recon = -draw.px.log_prob(draw.x).mean(0)
    torch.testing.assert_close(terms.values["recon_nll"], recon)
    torch.testing.assert_close(terms.values["kl"], KL.sum(-1))
    torch.testing.assert_close(terms.loss, recon.mean() + beta * KL.sum(-1).mean())


@pytest.mark.parametrize(
    ("mode", "clamped"),
    [
        ("per_sample", KL.clamp_min(0.3).sum(-1).mean()),
        ("batch_mean", KL.mean(0).clamp_min(0.3).sum()),
    ],
)
def test_free_bits_put_a_floor_under_each_dimension(mode, clamped):
    mean = MEAN.clone().requires_grad_()
    draw = draw_of(mean)
    terms = ELBO(beta=2.0, free_bits=0.3, free_bits_mode=mode)(draw)
    torch.testing.assert_close(terms.loss, terms.values["recon_nll"].mean() + 2 * clamped)
    torch.testing.assert_close(
        terms.values["kl"], KL.sum(-1)
    )  # what is reported stays the plain KL
    (gradient,) = torch.autograd.grad(2 * terms.penalties["kl"].mean(), mean)
    torch.testing.assert_close(gradient[:, 1], MEAN[:, 1])  # above the floor: 2 · μ / B
    assert (gradient[:, [0, 2]] == 0).all()  # below it: free


def test_the_two_kinds_of_free_bits_differ():
    # Dimension 0 of these two samples: KL 0.02 and 0.8; its batch mean is above 0.3, one sample is not.
    draw = draw_of(torch.tensor([[0.2], [1.26]]), torch.ones(2, 1))
    losses = {
        mode: float(ELBO(free_bits=0.3, free_bits_mode=mode)(draw).loss)
        for mode in ("per_sample", "batch_mean")
    }
    assert losses["per_sample"] - losses["batch_mean"] == pytest.approx((0.3 - 0.02) / 2, abs=1e-4)


@pytest.mark.parametrize(("capacity", "direction"), [(1.0, 1), (10.0, -1)])
def test_capacity_pulls_the_batch_mean_kl_to_itself(capacity, direction):
    mean = MEAN.clone().requires_grad_()
    objective = ELBO(beta=5.0, capacity=capacity)
    terms = objective(draw_of(mean))
    gap = KL.sum(-1).mean() - capacity
    torch.testing.assert_close(terms.loss, terms.values["recon_nll"].mean() + 5 * gap.abs())
    torch.testing.assert_close(terms.values["kl"], KL.sum(-1))
    (gradient,) = torch.autograd.grad(terms.penalties["kl"].mean(), mean)
    torch.testing.assert_close(gradient, direction * MEAN / 2)


def test_capacity_is_a_weight_that_a_schedule_can_raise():
    objective = ELBO(capacity=8.0).train()
    objective.set_weight("capacity", 0.25)
    draw = draw_of()
    torch.testing.assert_close(
        objective(draw).penalties["kl"], (KL.sum(-1).mean() - 2).abs().expand(2)
    )
    torch.testing.assert_close(
        objective.eval()(draw).penalties["kl"], (KL.sum(-1).mean() - 8).abs().expand(2)
    )


def test_a_schedule_moves_training_and_leaves_evaluation_at_the_target():
    objective, draw = ELBO(beta=4.0), draw_of()
    recon, rate = objective(draw).values["recon_nll"].mean(), KL.sum(-1).mean()
    for fraction in (0.0, 0.25, 1.0):
        objective.set_weight("kl", fraction)
        torch.testing.assert_close(objective.train()(draw).loss, recon + 4 * fraction * rate)
        torch.testing.assert_close(objective.eval()(draw).loss, recon + 4 * rate)


def test_terms_of_the_latent_enter_the_loss_with_their_weight_and_are_reported_without():
    for weights, expected in (({"commitment": 0.5}, 1.0), (None, 0.0)):
        for objective in (ELBO(beta=0.0, terms=weights), Reconstruction(terms=weights)):
            draw = draw_of()
            draw.aux = {"commitment": torch.tensor([1.0, 3.0])}
            terms = objective(draw)
            torch.testing.assert_close(terms.loss, terms.values["recon_nll"].mean() + expected)
            assert float(terms.means["commitment"]) == 2.0


def test_reconstruction_knows_no_kl():
    draw = draw_of()
    draw.p = None
    terms = Reconstruction()(draw)
    assert list(terms.values) == ["recon_nll"]
    torch.testing.assert_close(terms.loss, -draw.log_px.mean())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: ELBO().set_weight("KL", 0.5), "ELBO has no weight 'KL' to schedule"),
        (lambda: ELBO().set_weight("capacity", 0.5), "no weight 'capacity'.*kl"),
        (lambda: Reconstruction().set_weight("kl", 0.5), "Reconstruction has no weight 'kl'"),
        (
            lambda: ELBO(free_bits_mode="batch"),
            "free_bits_mode='batch' is unknown; choices: per_sample, batch_mean",
        ),
        (lambda: ELBO(free_bits=0.1, capacity=1.0), "free_bits and capacity both rewrite the KL"),
    ],
)
def test_impossible_requests_are_refused(act, message):
    with pytest.raises(UserError, match=message):
        act()


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.objective.beta=3"],
        ["model.objective.free_bits=0.02", "model.objective.num_samples=3"],
        ["model.objective.free_bits=0.02", "model.objective.free_bits_mode=per_sample"],
        ["model.objective.capacity=2"],
        ["model=ae", "model/encoder=resnet", "model/decoder=resnet"],
        ["model/likelihood=bernoulli", "model/encoder=conv", "model/decoder=conv"],
        ["model/likelihood=laplace"],
        ["model.likelihood.scale=per_pixel", "model.likelihood.parameters=2"],
    ],
    ids=" ".join,
)
def test_gradients_agree_with_finite_differences(tiny_vae, overrides):
    model = tiny_vae(*overrides).double()
    for part in (
        model.latent.encoder,
        model.latent.decoder,
    ):  # kinks of ReLU would spoil the difference quotient
        for name, module in list(part.named_modules()):
            if isinstance(module, torch.nn.ReLU):
                part.set_submodule(name, torch.nn.Softplus())
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    start = parameters_to_vector(model.parameters()).detach()
    direction = torch.randn_like(start)

    def loss(step: float) -> Tensor:
        vector_to_parameters(start + step * direction, model.parameters())
        torch.manual_seed(1)
        return model.step(x)[1].loss

    with torch.no_grad():
        numeric = (loss(1e-6) - loss(-1e-6)) / 2e-6
    gradients = torch.autograd.grad(loss(0.0), list(model.parameters()))
    torch.testing.assert_close(
        parameters_to_vector(gradients) @ direction, numeric, rtol=1e-5, atol=1e-6
    )
