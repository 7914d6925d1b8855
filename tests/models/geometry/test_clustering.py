"""k-medoids, on any distances and on those of a metric."""

import itertools

import numpy as np
import pytest
import torch

from src.models.geometry import fit_metric, kmedoids, riemannian_kmedoids
from src.utils.errors import UserError


def distances_of(points):
    return torch.cdist(points, points).double().numpy()


def test_a_small_problem_is_solved_to_optimality():
    distances = distances_of(torch.randn(14, 2))
    best = min(
        distances[:, list(medoids)].min(1).sum() for medoids in itertools.combinations(range(14), 3)
    )
    found = min(kmedoids(distances, 3, seed).inertia for seed in range(5))
    assert found == pytest.approx(best)


def test_its_answers_belong_together():
    distances = distances_of(torch.randn(300, 3))
    found = kmedoids(distances, 12, seed=1)
    assert len(set(found.medoids)) == 12
    assert (found.assignment == distances[:, found.medoids].argmin(1)).all()
    assert (found.assignment[found.medoids] == np.arange(12)).all()
    assert found.inertia == pytest.approx(distances[:, found.medoids].min(1).sum())
    again = kmedoids(distances, 12, seed=1)
    assert (again.medoids == found.medoids).all()


def test_no_single_swap_would_gain():
    distances = distances_of(torch.randn(60, 3))
    found = kmedoids(distances, 5)
    for out, candidate in itertools.product(range(5), range(60)):
        medoids = found.medoids.copy()
        medoids[out] = candidate
        assert distances[:, medoids].min(1).sum() >= found.inertia - 1e-9


def test_it_beats_random_medoids():
    distances, rng = distances_of(torch.randn(300, 3)), np.random.default_rng(0)
    found = kmedoids(distances, 10).inertia
    tries = [distances[:, rng.choice(300, 10, replace=False)].min(1).sum() for _ in range(200)]
    assert found < 0.95 * min(tries)


@pytest.mark.parametrize("clusters", [1, 4])
def test_duplicates_and_a_single_cluster_are_no_trouble(clusters):
    points = torch.randn(4, 2).repeat(5, 1)
    found = kmedoids(distances_of(points), clusters)
    assert len(found.medoids) == clusters
    assert clusters == 1 or found.inertia < 1e-3


def test_weights_count_objects_several_times():
    points = torch.randn(40, 2)
    counts = torch.randint(1, 5, (40,))
    repeated = kmedoids(distances_of(points.repeat_interleave(counts, 0)), 3)
    weighted = kmedoids(distances_of(points), 3, weights=counts.double().numpy())
    assert weighted.inertia == pytest.approx(repeated.inertia, rel=0.05)


def moons(count=150, noise=0.05):
    """Two interleaved half circles: (2 count, 2)."""
    angle = torch.rand(count) * torch.pi
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.4 - angle.sin()], 1)
    return torch.cat([upper, lower]) + noise * torch.randn(2 * count, 2)


def agreement(assignment, count):
    share = np.mean(assignment == np.repeat([0, 1], count))
    return max(share, 1 - share)


def test_the_metric_separates_what_lies_along_curves():
    z = moons()
    metric = fit_metric(z, centroids=40, neighbours=10, regularization=1e-3)
    found = riemannian_kmedoids(metric, z, 2, neighbours=8)
    assert found.medoids.shape == (2,) and found.assignment.shape == (300,)
    euclidean = kmedoids(distances_of(z), 2)
    assert agreement(found.assignment, 150) > 0.97 > 0.9 > agreement(euclidean.assignment, 150)


def test_impossible_clusterings_are_refused():
    z = torch.randn(9, 2)
    metric = fit_metric(z)
    for clusters in (0, 10):
        with pytest.raises(UserError, match=f"clusters={clusters} must be between 1 and the 9"):
            riemannian_kmedoids(metric, z, clusters)
    with pytest.raises(UserError, match="NaN or infinity"):
        riemannian_kmedoids(metric, z * torch.nan, 2)
