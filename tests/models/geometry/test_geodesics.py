"""Shortest curves: straight where the metric is flat, around what is empty, never longer than the start."""

import pytest
import torch

from src.models.geometry import (
    CentroidMetric,
    energy,
    exponential_map,
    geodesic,
    graph_distances,
    graph_path,
    length,
    line,
    log_magnification,
)
from src.utils.errors import UserError
from tests.models.geometry.metrics import arc_metric, flat_metric, random_metric, scaled_metric

DOUBLE = torch.float64


def ends(pairs=6, dim=4, dtype=DOUBLE):
    return torch.randn(2, pairs, dim, dtype=dtype)


def test_a_line_has_the_length_of_its_ends_in_a_flat_metric():
    metric, (a, b) = flat_metric(), ends(dim=3)
    curve = line(a, b, 9)
    assert torch.equal(curve[0], a) and torch.equal(curve[-1], b)
    distance = 2 * (a - b).norm(dim=-1)
    torch.testing.assert_close(length(metric, curve), distance)
    torch.testing.assert_close(energy(metric, curve), distance.square())
    expected = torch.full((6,), 3 * torch.tensor(2.0, dtype=DOUBLE).log(), dtype=DOUBLE)
    torch.testing.assert_close(log_magnification(metric, a), expected)


def test_energy_bounds_the_square_of_the_length():
    metric, curve = random_metric(), torch.randn(12, 6, 4, dtype=DOUBLE).cumsum(0)
    assert (energy(metric, curve) > length(metric, curve).square()).all()


@pytest.mark.parametrize("start", ["line", "graph"])
def test_a_flat_metric_has_straight_geodesics(start):
    a, b = ends(dim=3)
    curve = geodesic(flat_metric(), a, b, 17, start)
    torch.testing.assert_close(curve, line(a, b, 17), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("points", [2, 3, 33, 50])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_ends_stay_and_the_energy_falls(dtype, diagonal, points):
    metric = random_metric(20, 4, 0.7, diagonal, dtype)
    a, b = ends(dtype=dtype)
    curve = geodesic(metric, a, b, points)
    assert curve.shape == (points, 6, 4) and curve.dtype == dtype and curve.isfinite().all()
    assert torch.equal(curve[0], a) and torch.equal(curve[-1], b)
    if points > 32:  # fewer points are taken from a finer curve
        for start in (line(a, b, points), graph_path(metric, metric.centroids, a, b, points)):
            assert (energy(metric, curve) <= energy(metric, start)).all()
        torch.testing.assert_close(
            energy(metric, curve), length(metric, curve).square(), rtol=0.02, atol=0
        )


@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_the_energy_falls_in_16_dimensions(temperature):
    metric = scaled_metric(temperature)
    a, b = metric.centroids[:8], metric.centroids[8:16]
    curve = geodesic(metric, a, b)
    for start in (line(a, b, 33), graph_path(metric, metric.centroids, a, b, 33)):
        assert (energy(metric, curve) <= energy(metric, start)).all()
    assert energy(metric, curve).mean() < 0.95 * energy(metric, line(a, b, 33)).mean()


def test_geodesics_go_around_an_empty_region():
    metric, places = arc_metric()
    curve = geodesic(metric, places[:1], places[-1:])
    assert (curve[:, 0].norm(dim=-1) > 1.7).all()
    assert length(metric, curve) < 0.3 * length(metric, line(places[:1], places[-1:], 33))
    assert length(metric, curve) < length(
        metric, graph_path(metric, places, places[:1], places[-1:], 33)
    )


def test_it_is_a_stationary_point_of_the_energy():
    metric = random_metric(20, 4, 0.7)
    a, b = ends()
    curve = geodesic(metric, a, b, tolerance=1e-14, iterations=500).requires_grad_()
    (gradient,) = torch.autograd.grad(energy(metric, curve).sum(), curve)
    (before,) = torch.autograd.grad(
        energy(metric, start := line(a, b, 33).requires_grad_()).sum(), start
    )
    assert gradient[1:-1].abs().max() < 1e-4 * before[1:-1].abs().max()


def test_the_number_of_points_makes_no_difference():
    metric, places = arc_metric()
    lengths = torch.stack(
        [length(metric, geodesic(metric, places[:1], places[-1:], n))[0] for n in (65, 129, 257)]
    )
    assert (lengths / lengths[-1] - 1).abs().max() < 0.01
    few = geodesic(metric, places[:1], places[-1:], 5)
    fine = geodesic(metric, places[:1], places[-1:], 33)
    torch.testing.assert_close(few, fine[::8])


@pytest.mark.parametrize("start", ["line", "graph"])
def test_a_batch_is_one_curve_after_another(start):
    metric = random_metric(20, 4, 0.7)
    a, b = ends()
    together = geodesic(metric, a, b, start=start)
    alone = [geodesic(metric, a[i : i + 1], b[i : i + 1], start=start) for i in range(6)]
    torch.testing.assert_close(together, torch.cat(alone, 1), rtol=1e-5, atol=1e-5)


def test_there_and_back_are_equally_far():
    metric = random_metric(20, 4, 0.7)
    a, b = ends()
    there, back = (length(metric, geodesic(metric, *pair)) for pair in ((a, b), (b, a)))
    torch.testing.assert_close(there, back, rtol=1e-4, atol=0)


def test_a_geodesic_to_oneself_stays():
    metric = random_metric()
    z = torch.randn(3, 4, dtype=DOUBLE)
    torch.testing.assert_close(geodesic(metric, z, z), z.expand(33, 3, 4))


def test_impossible_geodesics_are_refused():
    metric, (a, b) = random_metric(), ends()
    with pytest.raises(UserError, match="points=1 must be at least 2"):
        geodesic(metric, a, b, 1)
    with pytest.raises(UserError, match="start='grph' is unknown; nearest: 'graph'"):
        geodesic(metric, a, b, start="grph")


def test_a_graph_path_visits_the_nodes():
    metric, places = arc_metric()
    a, b = places[[0, 0]] + 0.01, places[[-1, 12]] + 0.01
    path = graph_path(metric, places, a, b, 101, neighbours=2)
    assert path.shape == (101, 2, 2)
    assert torch.equal(path[0], a) and torch.equal(path[-1], b)
    assert torch.cdist(places, path[:, 0]).amin(1).max() < 0.05
    steps = metric.squared_distance(path[:-1], path[1:]).sqrt()
    assert (steps.std(0) / steps.mean(0) < 0.1).all()


def test_graph_distances_are_those_of_a_brute_force_search():
    metric = random_metric(5, 2, 0.8)
    nodes = torch.randn(12, 2, dtype=DOUBLE)
    found = torch.from_numpy(graph_distances(metric, nodes, neighbours=11))
    a, b = nodes[:, None].expand(12, 12, 2).reshape(-1, 2), nodes.repeat(12, 1)
    expected = length(metric, line(a, b, 9)).view(12, 12)
    for k in range(12):  # Floyd and Warshall
        expected = torch.minimum(expected, expected[:, k, None] + expected[k])
    torch.testing.assert_close(found, expected)


def test_a_graph_reaches_everything():
    nodes = torch.cat([torch.randn(20, 2), torch.randn(20, 2) + 50, torch.zeros(3, 2)]).double()
    distances = graph_distances(random_metric(5, 2), nodes, neighbours=2)
    assert torch.from_numpy(distances).isfinite().all()


def test_a_flat_exponential_map_is_straight():
    z, v = ends(dim=3)
    torch.testing.assert_close(exponential_map(flat_metric(), z, v, 8), line(z, z + v, 9))
    shot = exponential_map(flat_metric(dtype=torch.float32), z.bfloat16(), v.bfloat16(), 2)
    assert shot.dtype == torch.float32


def test_the_exponential_map_conserves_the_hamiltonian():
    metric = random_metric(20, 4, 1.0)
    z, v = ends()
    curve = exponential_map(metric, z, v, 400)
    speed = metric.squared_distance(curve[1:], curve[:-1]).sqrt() * 400
    expected = metric.at(z).squared_norm(v).sqrt()
    torch.testing.assert_close(speed, expected.expand(400, 6), rtol=1e-3, atol=0)

    def error(steps):  # of fourth order
        return (exponential_map(metric, z, v, steps)[-1] - curve[-1]).norm(dim=-1).mean()

    assert error(25) / error(50) > 10


def test_the_exponential_map_follows_the_geodesic_it_is_shot_along():
    metric, places = arc_metric()
    metric = CentroidMetric(metric.centroids, metric.matrices, 0.8, 0.05)
    a, b = places[2:3] + 0.05, places[20:21] + 0.05
    curve = geodesic(metric, a, b, 513, iterations=1000, tolerance=1e-14)
    # The velocity at a: of the parabola through the first three points.
    velocity = 512 * (-1.5 * curve[0] + 2 * curve[1] - 0.5 * curve[2])
    shot = exponential_map(metric, a, velocity, 512)
    assert (shot - curve).norm(dim=-1).max() < 1e-3
    assert (line(a, b, 513) - curve).norm(dim=-1).max() > 0.6
