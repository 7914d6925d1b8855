"""Ways between latent points: where they begin and end, and how long they are."""

from types import SimpleNamespace

import pytest
import torch

from src.evaluation.exploring.paths import between, largest_step, no_geodesics, own_length, ways
from src.models.geometry.manifolds import PoincareBall
from tests.evaluation.spaces import space_of
from tests.models.geometry.metrics import arc_metric, flat_metric

A, B = torch.tensor([0.3, -0.2, 0.1, 0.4]), torch.tensor([-0.1, 0.5, 0.2, -0.3])
# Every kind of space, with the model that has it.
SPACES = {"vae": 2, "rhvae": 3, "poincare_vae": 3, "hyperspherical_vae": 3, "product_vae": 3}


def with_metric(metric):
    return SimpleNamespace(metric=metric, curved=None, latent=SimpleNamespace(metric=metric))


@pytest.mark.parametrize(("name", "count"), SPACES.items())
def test_paths_have_the_ends_that_were_asked_for(model_of, name, count):
    space = space_of(model_of(f"model={name}"))
    a, b = space.project(A), space.project(B)
    found = ways(space, a, b, 7)
    assert [way.name for way in found] == ["linear", "spherical", "geodesic"][:count]
    for way in found:
        assert way.z.shape == (7, 4)
        torch.testing.assert_close(way.z[[0, -1]], torch.stack([a, b]), atol=1e-4, rtol=1e-4)
    assert found[0].euclidean == pytest.approx(float((a - b).norm()), rel=1e-5)
    assert (no_geodesics(space) is None) == (count == 3)


@pytest.mark.parametrize("steps", [3, 10])
def test_under_a_flat_metric_the_geodesic_is_the_line_and_twice_as_long(steps):
    space = with_metric(flat_metric(4))
    line, arc, geodesic = ways(space, A.double(), B.double(), steps)
    torch.testing.assert_close(geodesic.z, line.z, atol=1e-6, rtol=0)
    for way in (line, arc, geodesic):
        assert way.riemannian == pytest.approx(2 * way.euclidean, rel=1e-6)
    assert arc.euclidean > line.euclidean


def test_a_geodesic_is_shorter_than_the_line_where_the_metric_is_not_flat():
    metric, places = arc_metric()
    space = with_metric(metric)
    line, _, geodesic = ways(space, places[0], places[-1], 9)
    assert geodesic.riemannian < 0.7 * line.riemannian
    assert geodesic.euclidean > line.euclidean
    pairs = between(space, torch.stack([places[[0, 5]], places[[-1, 20]]]))
    assert torch.equal(pairs.straight[[0, -1]], pairs.curved[[0, -1]])
    assert (pairs.lengths[:, 1] <= pairs.lengths[:, 0] + 1e-9).all()
    assert pairs.lengths[0].tolist() == pytest.approx(
        [line.riemannian, geodesic.riemannian], rel=1e-2
    )


def test_on_a_sphere_the_arc_is_as_long_as_the_angle_and_the_chord_leaves_it(model_of):
    space = space_of(model_of("model=hyperspherical_vae"))
    a, b = torch.eye(4)[:2]
    chord, arc, geodesic = ways(space, a, b, 5)
    assert chord.riemannian is None
    assert arc.riemannian == pytest.approx(torch.pi / 2, rel=1e-3) == geodesic.riemannian
    torch.testing.assert_close(geodesic.z.norm(dim=1), torch.ones(5))


def test_in_a_ball_the_geodesic_is_as_long_as_the_distance_and_shortest(model_of):
    space = space_of(model_of("model=poincare_vae"))
    line, arc, geodesic = ways(space, A, B, 9)
    # arcosh(1 + 2‖a − b‖² / ((1 − ‖a‖²)(1 − ‖b‖²))), the textbook's.
    gap = (1 - A.square().sum()) * (1 - B.square().sum())
    distance = float((1 + 2 * (A - B).square().sum() / gap).acosh())
    assert geodesic.riemannian == pytest.approx(distance, rel=1e-4)
    assert float(PoincareBall(1.0).distance(A, B)) == pytest.approx(distance, rel=1e-4)
    assert min(line.riemannian, arc.riemannian) > geodesic.riemannian


def test_in_a_product_squared_distances_add_up(model_of):
    prior = model_of("model=product_vae").latent.prior
    space = space_of(model_of("model=product_vae"))
    a, b = space.project(A), space.project(B)
    pieces = zip(prior.factors.values(), a.split(prior.dims), b.split(prior.dims), strict=True)
    squares = [
        (part.distance(x, y) if hasattr(part, "distance") else (x - y).norm()) ** 2
        for part, x, y in pieces
    ]
    assert float(prior.distance(a, b)) == pytest.approx(float(sum(squares)) ** 0.5, rel=1e-5)


def test_without_a_metric_there_are_no_geodesics_and_the_reason_is_said(model_of, tiny_vae):
    space = space_of(model_of("model=vae"))
    assert "not defined" in no_geodesics(space)
    assert own_length(space, torch.stack([A, B])) is None
    unfitted = space_of(tiny_vae("model=hybrid", "data.shape=[4,3,8,8]"))
    assert "not been fitted" in no_geodesics(unfitted) and unfitted.metric is None


def test_the_largest_step_is_that_of_the_pictures():
    frames = torch.zeros(4, 1, 2, 2)
    frames[2:] = 0.5
    assert largest_step(frames) == pytest.approx(0.25)
