"""Hamiltonian Monte Carlo: integrator, acceptance, what it samples."""

import pytest
import torch

from src.models.geometry import hmc, leapfrog, riemannian_target
from tests.models.geometry.metrics import random_metric, scaled_metric

DOUBLE = torch.float64


def test_the_gradient_of_the_target_is_that_of_autograd():
    log_density, gradient = riemannian_target(random_metric())
    z = torch.randn(9, 4, dtype=DOUBLE, requires_grad=True)
    (expected,) = torch.autograd.grad(log_density(z).sum(), z)
    torch.testing.assert_close(gradient(z), expected, rtol=1e-10, atol=1e-10)


def test_the_leapfrog_finds_its_way_back():
    _, gradient = riemannian_target(random_metric())
    z, momentum = torch.randn(2, 9, 4, dtype=DOUBLE)
    there, with_momentum = leapfrog(gradient, z, momentum, 0.05, 20)
    assert (there - z).abs().max() > 0.1
    back, reversed_momentum = leapfrog(gradient, there, -with_momentum, 0.05, 20)
    torch.testing.assert_close(back, z, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(reversed_momentum, -momentum, rtol=1e-11, atol=1e-11)


def test_its_energy_error_falls_with_the_square_of_the_step():
    log_density, gradient = riemannian_target(random_metric())
    z, momentum = torch.randn(2, 64, 4, dtype=DOUBLE)

    def error(steps):
        end, final = leapfrog(gradient, z, momentum, 1.0 / steps, steps)
        kinetic = 0.5 * (final.square() - momentum.square()).sum(-1)
        return float((log_density(z) - log_density(end) + kinetic).abs().mean())

    coarse, fine, finest = error(20), error(40), error(80)
    assert coarse / fine == pytest.approx(4, rel=0.3) and fine / finest == pytest.approx(4, rel=0.1)


def test_it_preserves_volume():
    _, gradient = riemannian_target(random_metric(dim=2))
    state = torch.randn(4, dtype=DOUBLE)
    jacobian = torch.autograd.functional.jacobian(
        lambda s: torch.cat(leapfrog(gradient, s[:2], s[2:], 0.1, 5)), state
    )
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_nearly_all_proposals_are_accepted_in_16_dimensions(temperature):
    """The reference's force, right in one dimension only, is accepted 0 % and 32 % of the time here."""
    metric = scaled_metric(temperature)
    chains = hmc(*riemannian_target(metric), metric.centroids, steps=40)
    assert chains.acceptance.shape == (50,) and chains.samples.shape == (40, 50, 16)
    assert chains.acceptance.mean() > 0.9
    log_density, _ = riemannian_target(metric)
    torch.testing.assert_close(chains.log_density, log_density(chains.samples))


@pytest.mark.parametrize("dim", [1, 2])
def test_samples_are_distributed_like_the_target(dim):
    metric = random_metric(3, dim, 0.7)
    target = riemannian_target(metric)
    start = torch.randn(1000, dim, dtype=DOUBLE)
    chains = hmc(*target, start, 80, 10, 0.1, burn_in=20, thin=5, jitter=0.3)
    assert chains.samples.shape == (12, 1000, dim)
    # Cells of the first coordinate, the others integrated out.
    edges = torch.linspace(-6, 6, 61, dtype=DOUBLE)
    counts = torch.histc(chains.samples[..., 0].flatten(), 60, -6, 6)
    fine = torch.linspace(-6, 6, 1201, dtype=DOUBLE)
    grid = torch.cartesian_prod(*[fine] * dim).view(-1, dim)
    mass = target[0](grid).exp().view(1201, -1).sum(1)
    cells = torch.bucketize(fine, edges, right=True).clamp(1, 60) - 1
    expected = torch.zeros(60, dtype=DOUBLE).index_add(0, cells, mass)
    distance = 0.5 * (counts / counts.sum() - expected / expected.sum()).abs().sum()
    assert distance < 0.04


def test_what_is_not_finite_is_rejected():
    chains = hmc(
        lambda z: torch.where(z[..., 0] > 0, -0.5 * z.square().sum(-1), torch.nan),
        lambda z: -z,
        torch.full((200, 1), 0.1),
        steps=20,
        step_size=0.2,
    )
    assert (chains.samples > 0).all() and chains.log_density.isfinite().all()
    assert 0.2 < chains.acceptance.mean() < 0.8
