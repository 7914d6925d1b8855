"""Hamiltonian latents: volume, energy, and the bound of the augmented model."""

import math

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from src.models.geometry import LearnedMetric
from src.models.latents.hamiltonian import _Space
from src.models.likelihoods import GaussianLikelihood
from src.models.objectives import ELBO
from src.models.vae import VAE
from src.utils.errors import UserError
from tests.models.test_linear_gaussian import SIGMA, B, Decoder, Rough, W


def linear_model(steps=4, step_size=0.15, beta_zero=0.4, metric=None):
    """A linear-Gaussian model whose evidence is known, with a rough posterior to start from."""
    from src.models.priors import StandardNormal

    latent = {
        "_target_": "src.models.latents.HamiltonianLatent",
        "steps": steps,
        "step_size": step_size,
        "beta_zero": beta_zero,
    }
    model = VAE(
        (3,),
        encoder=nn.Identity(),
        decoder=Decoder(),
        posterior=Rough(),
        prior=StandardNormal(2),
        likelihood=GaussianLikelihood((3,), scale="fixed", sigma=SIGMA),
        latent=latent,
        objective=ELBO(),
        metric=metric,
    )
    return model.double().eval()


def log_evidence(x):
    covariance = W @ W.T + SIGMA**2 * torch.eye(3, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(B, covariance).log_prob(x)


def test_the_dynamics_scale_volume_by_the_tempering_alone():
    latent = linear_model().latent
    x = torch.randn(1, 3, dtype=torch.float64)
    space = _Space(None)

    def flow(state):
        z, noise = state[:2].view(1, 1, 2), state[2:].view(1, 1, 2)
        with torch.enable_grad():
            latent.train()
            z, momentum = latent._evolve(x, z, noise, space, None)
        return torch.cat([z.flatten(), momentum.flatten()])

    state = torch.randn(4, dtype=torch.float64)
    # Momentum and noise differ by the factor 1/√β_0 of the start, which the map above contains.
    found = torch.linalg.slogdet(jacobian(flow, state))[1]
    assert torch.allclose(found, torch.zeros_like(found), atol=1e-9)
    assert latent._root_temperature(latent.steps) == pytest.approx(1)


def test_untempered_dynamics_keep_the_energy_to_second_order():
    x = torch.randn(5, 3, dtype=torch.float64)
    z0, noise = torch.randn(1, 5, 2, dtype=torch.float64), torch.randn(1, 5, 2, dtype=torch.float64)
    errors = []
    for step_size, steps in ((0.04, 10), (0.02, 20)):
        latent = linear_model(steps, step_size, beta_zero=1.0).latent

        def energy(z, momentum, latent=latent):
            return (
                0.5 * momentum.square().sum(-1)
                - latent.decode(z).log_prob(x)
                - latent.prior().log_prob(z)
            )

        z, momentum = latent._evolve(x, z0, noise, _Space(None), None)
        errors.append((energy(z, momentum) - energy(z0, noise)).abs().mean())
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("with_metric", [False, True])
def test_the_bound_is_one_and_importance_weights_find_the_evidence(with_metric):
    metric = LearnedMetric((3,), 2, width=8, centroids=30) if with_metric else None
    model = linear_model(metric=metric)
    if metric is not None:
        metric.double()
        points = torch.randn(30, 3, dtype=torch.float64)
        model.latent.refresh_metric(points, points[:, :2])
    x = torch.randn(6, 3, dtype=torch.float64)
    with torch.no_grad():
        evidence = log_evidence(x)
        draw = model.latent.infer(x, k=4000)
        bound = (draw.log_px + draw.log_pz - draw.log_qz).mean(0)
        estimate = model.log_likelihood(x, 8000)
    assert (bound < evidence).all()
    # Volume is preserved exactly without a metric, and as well as the fixed point is found with one.
    assert torch.allclose(estimate, evidence, atol=0.1 if with_metric else 0.05)


def test_moving_along_the_dynamics_tightens_the_bound():
    x = torch.randn(20, 3, dtype=torch.float64)
    bounds = []
    for steps in (1, 8):
        latent = linear_model(steps, 0.2 if steps > 1 else 1e-6, beta_zero=1.0).latent
        with torch.no_grad():
            draw = latent.infer(x, k=2000)
            bounds.append((draw.log_px + draw.log_pz - draw.log_qz).mean())
    assert bounds[1] > bounds[0]


def test_the_first_momentum_has_the_covariance_of_the_metric():
    metric = LearnedMetric((3,), 2, width=8, centroids=20)
    metric.refresh(torch.randn(20, 2), torch.randn(20, 3))
    space = _Space(metric())
    z = torch.randn(1, 2)
    momenta = space.momentum(z.expand(200_000, 2), torch.randn(200_000, 2))
    expected = torch.linalg.inv(metric().inverse(z)[0])
    assert torch.allclose(momenta.T.cov(), expected, rtol=0.05, atol=0.02 * float(expected.max()))
    log_density = space.log_density(space.at(z), momenta[:5])
    exact = torch.distributions.MultivariateNormal(torch.zeros(2), expected)
    assert torch.allclose(log_density, exact.log_prob(momenta[:5]), atol=1e-3)


@pytest.mark.parametrize("name", ["hvae", "rhvae"])
def test_a_hamiltonian_model_trains_every_parameter_and_answers(tiny_vae, name):
    model = tiny_vae(f"model={name}", "model.latent.step_size=0.01")
    x = torch.rand(12, *model.shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model.step(x)[1].loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < sum(losses[:5])
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), parameter_name
    if name == "rhvae":
        model.latent.refresh_metric(x, model.encode(x).mean.detach())
    model.eval()
    with torch.no_grad():
        assert torch.isfinite(model.log_likelihood(x, 4)).all()
        assert model.sample(3).shape == (3, *model.shape)
        assert torch.isfinite(model.energy(x)).all()


def test_the_tempering_scheme_is_the_quadratic_one_of_the_paper():
    latent = linear_model(steps=3, beta_zero=0.3).latent
    start = 1 / math.sqrt(0.3)
    expected = [1 / ((1 - start) * (k / 3) ** 2 + start) for k in (1, 2, 3)]
    assert [latent._root_temperature(k) for k in (1, 2, 3)] == pytest.approx(expected)


def test_a_learned_metric_needs_dynamics_to_learn_from(tiny_vae):
    with pytest.raises(UserError, match="model/latent=hamiltonian"):
        tiny_vae("model=vae", "model/metric=learned")


def test_a_batch_is_its_own_set_of_centroids():
    metric = LearnedMetric((3,), 2, width=8)
    x, means = torch.randn(7, 3), torch.randn(7, 2)
    found = metric.of_batch(x, means)
    assert torch.equal(found.centroids, means)
    matrices = metric.matrices(x)
    assert torch.allclose(matrices, matrices.mT)
    assert (torch.linalg.eigvalsh(matrices) > 0).all()
    # Before the first refresh: Euclidean.
    assert torch.allclose(metric().inverse(means), torch.eye(2).expand(7, 2, 2))
