"""The density of a metric: its normaliser against numeric integration, its samples."""

from math import log

import pytest
import torch

from src.models.geometry import (
    CentroidMetric,
    FittedMetric,
    RiemannianDensity,
    draw_resampled,
    fit_metric,
    log_normaliser,
)
from src.models.geometry.density import Proposal
from tests.models.geometry.metrics import random_metric, scaled_metric

DOUBLE = torch.float64


def grid_of(dim, points=801):
    axis = torch.linspace(-7, 7, points, dtype=DOUBLE)
    cell = float(axis[1] - axis[0]) ** dim
    return torch.cartesian_prod(*[axis] * dim).view(-1, dim), cell


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("dim", [1, 2])
def test_the_normaliser_is_the_integral(dim, temperature, diagonal):
    metric = random_metric(4, dim, temperature, diagonal)
    grid, cell = grid_of(dim)
    mass = RiemannianDensity(metric, 0.0).log_prob(grid).logsumexp(0) + log(cell)
    found = log_normaliser(metric)
    assert abs(float(found.log_z - mass)) < 4 * float(found.standard_error)
    assert found.standard_error < 0.02 and found.effective_samples > 5000
    density = RiemannianDensity(metric, found.log_z)
    total = density.log_prob(grid).exp().sum() * cell
    assert float(total) == pytest.approx(1, abs=4 * float(found.standard_error))


@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_the_standard_error_is_that_of_repeated_estimates(temperature):
    metric = scaled_metric(temperature)
    found = [log_normaliser(metric, samples=4096, seed=seed) for seed in range(6)]
    log_z = torch.stack([one.log_z for one in found])
    said = torch.stack([one.standard_error for one in found]).mean()
    assert log_z.std() < 2.5 * said < 0.2


def test_overlapping_bumps_in_many_dimensions_are_found():
    """Where p_R lies between the centroids, proposals at the centroids alone are worth a handful of samples."""
    metric = fit_metric(torch.randn(1500, 24), temperature_factor=0.5)
    assert log_normaliser(metric, samples=8192).effective_samples > 400


def test_a_constant_metric_has_an_exact_normaliser():
    assert log_normaliser(FittedMetric(5)()).log_z == 0
    flat = CentroidMetric(torch.zeros(1, 3), torch.zeros(1, 3), 1.0, 0.25)
    found = log_normaliser(flat)
    assert float(found.log_z) == pytest.approx(1.5 * log(0.25)) and found.standard_error == 0


def test_the_normaliser_is_reproducible_and_leaves_random_numbers_alone():
    metric, state = scaled_metric(0.7), torch.get_rng_state()
    first, second, third = (log_normaliser(metric, 1024, seed) for seed in (3, 3, 4))
    assert first.log_z == second.log_z != third.log_z
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_a_proposal_is_a_density_that_draws_from_itself(temperature):
    metric = random_metric(4, 2, temperature)
    grid, cell = grid_of(2, 201)
    first = Proposal.of(metric)
    for proposal in (first, first.adapted(metric)):
        density = proposal.log_prob(grid).exp() * cell
        assert float(density.sum()) == pytest.approx(1, abs=1e-3)
        z = proposal.sample(40_000)
        mean = (density[:, None] * grid).sum(0)
        spread = (density[:, None] * (grid - mean).square()).sum(0).sqrt()
        torch.testing.assert_close(z.mean(0), mean, atol=0.03, rtol=0)
        torch.testing.assert_close(z.std(0), spread, atol=0.03, rtol=0)


@pytest.mark.parametrize("dim", [1, 2])
def test_samples_have_the_moments_of_the_density(dim):
    metric = random_metric(4, dim, 0.6)
    grid, cell = grid_of(dim)
    density = RiemannianDensity(metric, log_normaliser(metric).log_z)
    mass = density.log_prob(grid).exp() * cell
    mean = (mass[:, None] * grid).sum(0)
    spread = (mass[:, None] * (grid - mean).square()).sum(0).sqrt()
    for z in (draw_resampled(metric, 20_000), density.sample((20_000,))):
        assert z.shape == (20_000, dim)
        torch.testing.assert_close(z.mean(0), mean, atol=0.05, rtol=0)
        torch.testing.assert_close(z.std(0), spread, atol=0.05, rtol=0)


def test_samples_in_16_dimensions_agree_with_importance_weights():
    metric = scaled_metric(3.0)
    z = RiemannianDensity(metric, 0.0).sample((2000,))
    assert z.dtype == torch.float32 and not z.requires_grad
    proposal = Proposal.of(metric).adapted(metric)
    points = proposal.sample(40_000)
    log_weight = RiemannianDensity(metric, 0.0).log_prob(points) - proposal.log_prob(points)
    weight = log_weight.softmax(0)
    for statistic in (lambda z: metric.half_logdet_inverse(z), lambda z: z.square().sum(-1)):
        expected, spread = weight @ statistic(points), statistic(z).std()
        assert abs(float(statistic(z).mean() - expected)) < 0.1 * float(spread)


def test_it_is_a_distribution():
    metric = random_metric(dtype=torch.float32)
    density = RiemannianDensity(metric, 0.5)
    assert (density.batch_shape, density.event_shape) == ((), (4,))
    z = torch.randn(5, 3, 4)
    normal = torch.distributions.MultivariateNormal(torch.zeros(4), torch.eye(4)).log_prob(z)
    expected = metric.half_logdet_inverse(z) + normal - 0.5
    torch.testing.assert_close(density.log_prob(z), expected)
    wide = density.expand((3,))
    assert wide.batch_shape == (3,) and wide.sample((2,)).shape == (2, 3, 4)
    torch.testing.assert_close(wide.log_prob(z), expected)
    assert wide.log_prob(z[0, 0]).shape == (3,) and density.sample().shape == (4,)
    assert not density.has_rsample
    with pytest.raises(NotImplementedError, match="average samples"):
        _ = density.mean
