"""The metric around centroids: formulas, limits, dtypes."""

from math import log

import pytest
import torch

from src.models.geometry import CentroidMetric
from src.utils.errors import UserError
from tests.models.geometry.metrics import random_metric, scaled_metric

DOUBLE = torch.float64


def naive_inverse(metric, z):
    difference = z[:, None] - metric.centroids
    weights = (-difference.square().sum(-1) / metric.temperature**2).exp()
    matrices = metric.matrices.diag_embed() if metric.diagonal else metric.matrices
    eye = torch.eye(metric.dim, dtype=z.dtype)
    return (weights[..., None, None] * matrices).sum(1) + metric.regularization * eye


@pytest.mark.parametrize("temperature", [0.3, 0.8])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (DOUBLE, 1e-10)])
def test_two_gemms_are_the_sum_over_centroids(dtype, tolerance, diagonal, temperature):
    metric = random_metric(30, 5, temperature, diagonal, dtype)
    z = torch.randn(40, 5, dtype=dtype)
    expected = naive_inverse(metric, z)
    torch.testing.assert_close(metric.inverse(z), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(metric.at(z).inverse, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_point_holds_the_metric_and_its_inverse(diagonal):
    metric, z = random_metric(diagonal=diagonal), torch.randn(3, 5, 4, dtype=DOUBLE)
    point, v = metric.at(z), torch.randn(2, 3, 5, 4, dtype=DOUBLE)
    eye = torch.eye(4, dtype=DOUBLE).expand(3, 5, 4, 4)
    torch.testing.assert_close(point.metric @ point.inverse, eye)
    torch.testing.assert_close(point.scale_tril @ point.scale_tril.mT, point.inverse)
    torch.testing.assert_close(point.half_logdet_inverse, 0.5 * torch.logdet(point.inverse))
    torch.testing.assert_close(point.lower(v), (point.metric @ v[..., None])[..., 0])
    torch.testing.assert_close(point.raise_(point.lower(v)), v)
    torch.testing.assert_close(point.squared_norm(v), (v * point.lower(v)).sum(-1))
    condition = torch.linalg.cond(point.inverse).log10()
    torch.testing.assert_close(point.log10_condition(), condition)
    summed = point.added()
    torch.testing.assert_close(summed.inverse, point.inverse.sum(0))
    torch.testing.assert_close(metric.half_logdet_inverse(z), point.half_logdet_inverse)


def test_the_limits():
    far, centroids = 100.0, torch.eye(3, dtype=DOUBLE) * 50
    factors = torch.randn(3, 3, 3, dtype=DOUBLE)
    metric = CentroidMetric(centroids, factors @ factors.mT, 1.0, 0.01)
    ridge = 0.01 * torch.eye(3, dtype=DOUBLE)
    torch.testing.assert_close(metric.inverse(centroids), metric.matrices + ridge)
    z = torch.full((1, 3), far, dtype=DOUBLE)
    torch.testing.assert_close(metric.inverse(z)[0], ridge)
    torch.testing.assert_close(metric.at(z).metric[0], 100 * torch.eye(3, dtype=DOUBLE))
    assert float(metric.half_logdet_inverse(z)) == pytest.approx(1.5 * log(0.01))


def test_log_determinants_survive_where_determinants_underflow():
    metric = scaled_metric(0.7)
    far = torch.full((1, 16), 30.0)
    assert float(metric.half_logdet_inverse(far)) == pytest.approx(8 * log(0.01), rel=1e-5)
    assert torch.linalg.det(metric.inverse(far)) < 1e-30


@pytest.mark.parametrize("temperature", [0.3, 0.8, 2.0])
@pytest.mark.parametrize("diagonal", [False, True])
def test_gradients_in_closed_form_are_those_of_autograd(diagonal, temperature):
    metric = random_metric(temperature=temperature, diagonal=diagonal)
    z = torch.randn(3, 5, 4, dtype=DOUBLE, requires_grad=True)
    p = torch.randn(3, 5, 4, dtype=DOUBLE)
    (expected,) = torch.autograd.grad(metric.half_logdet_inverse(z).sum(), z)
    found = metric.half_logdet_inverse_gradient(z)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    (expected,) = torch.autograd.grad((p * metric.at(z).raise_(p)).sum(), z)
    torch.testing.assert_close(metric.form_gradient(z, p), expected, rtol=1e-10, atol=1e-10)
    (expected,) = torch.autograd.grad(metric.at(z).squared_norm(p).sum(), z)
    _, momentum, found = metric.momentum(z, p)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(momentum, metric.at(z).lower(p))


def test_diagonal_matrices_are_the_dense_ones():
    fast = random_metric(diagonal=True)
    dense = CentroidMetric(fast.centroids, fast.matrices.diag_embed(), fast.temperature, 0.01)
    z, v = torch.randn(2, 9, 4, dtype=DOUBLE)
    for name in ("inverse", "half_logdet_inverse", "half_logdet_inverse_gradient"):
        torch.testing.assert_close(getattr(fast, name)(z), getattr(dense, name)(z))
    torch.testing.assert_close(fast.form_gradient(z, v), dense.form_gradient(z, v))
    torch.testing.assert_close(fast.squared_distance(z, v), dense.squared_distance(z, v))
    a, b = fast.at(z), dense.at(z)
    for name in ("metric", "inverse", "scale_tril", "half_logdet_inverse"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name))
    torch.testing.assert_close(a.log10_condition(), b.log10_condition())


def test_the_distance_of_neighbours_is_the_metric_at_their_middle():
    metric, (a, b) = random_metric(), torch.randn(2, 9, 4, dtype=DOUBLE)
    middle = torch.linalg.inv(naive_inverse(metric, (a + b) / 2))
    expected = torch.einsum("bi,bij,bj->b", a - b, middle, a - b)
    torch.testing.assert_close(metric.squared_distance(a, b), expected)


@pytest.mark.parametrize("diagonal", [False, True])
def test_it_is_fp32_under_autocast(diagonal):
    metric = random_metric(diagonal=diagonal, dtype=torch.float32)
    z = torch.randn(9, 4).bfloat16()
    expected = metric.half_logdet_inverse(z.float())
    with torch.autocast("cpu", torch.bfloat16):
        point = metric.at(z)
        assert point.inverse.dtype == torch.float32
        for found in (metric.half_logdet_inverse(z), point.half_logdet_inverse):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
        torch.testing.assert_close(
            metric.squared_distance(z, -z), metric.squared_distance(z.float(), -z.float())
        )


def test_fp64_points_get_fp64_answers():
    metric = random_metric(dtype=torch.float32)
    z = torch.randn(9, 4, dtype=DOUBLE)
    exact = metric.to(DOUBLE)
    assert metric.inverse(z).dtype == exact.inverse(z.float()).dtype == DOUBLE
    torch.testing.assert_close(metric.inverse(z), naive_inverse(exact, z), rtol=1e-10, atol=1e-10)
    assert metric.to(torch.float32) is metric


def test_small_temperatures_take_distances_from_differences():
    """Far from the origin the GEMM's d² is off by 1e-3; divided by τ² = 0.01 that is a tenth."""
    centroids = torch.tensor([[60.0, 60.0]])
    z = centroids + torch.tensor([[0.05, 0.05]])
    exact = torch.tensor([[0.05, 0.05]]).square().sum() / 0.01
    metric = CentroidMetric(centroids, torch.ones(1, 2), 0.1, 0.01)
    assert metric.direct and not CentroidMetric(centroids, torch.ones(1, 2), 0.5, 0.01).direct
    torch.testing.assert_close(metric.weights(z)[0, 0], (-exact).exp(), rtol=1e-3, atol=0)


def test_the_tensors_of_a_metric_get_gradients():
    metric = random_metric()
    tensors = [metric.centroids, metric.matrices, torch.tensor(0.8), torch.tensor(0.01)]
    tensors = [tensor.double().requires_grad_() for tensor in tensors]
    learned = CentroidMetric(*tensors, direct=False)
    z = torch.randn(9, 4, dtype=DOUBLE)
    for gradient in torch.autograd.grad(learned.half_logdet_inverse(z).sum(), tensors):
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_a_broken_point_is_seen():
    assert random_metric().half_logdet_inverse(torch.full((1, 4), torch.nan)).isnan().all()


@pytest.mark.parametrize(
    ("centroids", "matrices", "message"),
    [
        ((3,), (3, 3), r"centroids must be \(K, D\), not \(3,\)"),
        ((0, 3), (0, 3), r"centroids must be \(K, D\), not \(0, 3\)"),
        ((5, 3), (5, 4), r"matrices must be \(5, 3, 3\), or \(5, 3\) .* not \(5, 4\)"),
        ((5, 3), (4, 3, 3), "as there are 5 centroids in 3 dimensions"),
    ],
)
def test_impossible_shapes_are_refused(centroids, matrices, message):
    with pytest.raises(UserError, match=message):
        CentroidMetric(torch.zeros(centroids), torch.zeros(matrices), 1.0, 0.01)


def test_a_compiled_metric_is_one_graph():
    metric = random_metric(dtype=torch.float32)
    z = torch.randn(9, 4)
    compiled = torch.compile(metric.half_logdet_inverse, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z), metric.half_logdet_inverse(z))
