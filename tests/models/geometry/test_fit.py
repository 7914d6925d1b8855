"""A metric from encodings, and the part of a model that holds it."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from src.models.geometry import CentroidMetric, FittedMetric, fit_metric
from src.utils.build import build
from src.utils.errors import UserError


def cloud(count=600, dim=3, dtype=torch.float32):
    """Long along (1, 1, 0)/√2, thin otherwise."""
    z = 0.1 * torch.randn(count, dim, dtype=dtype)
    z[:, :2] += 3 * torch.randn(count, 1, dtype=dtype)
    return z


def blobs(count=200):
    """Around (0, 0) long in x, around (9, 0) long in y."""
    z = torch.randn(2, count, 2) * torch.tensor([[[1.0, 0.1]], [[0.1, 1.0]]])
    z[1, :, 0] += 9
    return z.flatten(0, 1)


@pytest.mark.parametrize("method", ["kmeans", "kmedoids"])
def test_the_matrices_follow_the_cloud(method):
    metric = fit_metric(blobs(), centroids=2, method=method, neighbours=150)
    left, right = metric.matrices[metric.centroids[:, 0].argsort()]
    assert left[0, 0] > 20 * left[1, 1] and right[1, 1] > 20 * right[0, 0]
    torch.testing.assert_close(metric.matrices.diagonal(dim1=1, dim2=2).mean(1), torch.ones(2))
    _, vectors = torch.linalg.eigh(fit_metric(cloud(), centroids=4).matrices)
    along = vectors[:, :, -1] @ torch.tensor([1.0, 1.0, 0.0]) / 2**0.5
    assert (along.abs() > 0.99).all()


def test_a_covariance_is_the_weighted_one():
    means = torch.randn(50, 2, dtype=torch.float64)
    metric = fit_metric(means, centroids=1, neighbours=10, normalise=False)
    difference = means - metric.centroids
    squared = difference.square().sum(1)
    weight = (-0.5 * squared / squared.sort().values[9]).exp()
    expected = (weight[:, None] * difference).T @ difference / weight.sum()
    torch.testing.assert_close(metric.matrices[0], expected)


def test_kmedoids_takes_encodings_as_centroids():
    means = torch.randn(300, 4)
    metric = fit_metric(means, centroids=10, method="kmedoids")
    assert torch.cdist(metric.centroids, means).amin(1).max() < 1e-6
    assert len(metric.centroids.unique(dim=0)) == 10


def test_the_temperature_is_the_distance_between_neighbouring_centroids():
    means = torch.randn(400, 4)
    metric = fit_metric(means, centroids=20, temperature_factor=0.5, regularization=0.02)
    apart = torch.cdist(metric.centroids, metric.centroids).fill_diagonal_(torch.inf)
    expected = 0.5 * apart.amin(1).quantile(0.5)
    torch.testing.assert_close(metric.temperature, expected, rtol=1e-4, atol=0)
    assert float(metric.regularization) == pytest.approx(0.02)
    single = fit_metric(means, centroids=1)
    rms = (means - means.mean(0)).square().sum(1).mean().sqrt()
    torch.testing.assert_close(single.temperature, rms, rtol=1e-4, atol=0)


def test_a_fit_is_reproducible_and_leaves_random_numbers_alone():
    means = torch.randn(300, 4)
    state = torch.get_rng_state()
    for method in ("kmeans", "kmedoids"):
        first, second = (fit_metric(means, centroids=9, method=method, seed=3) for _ in range(2))
        assert torch.equal(first.centroids, second.centroids)
        assert torch.equal(first.matrices, second.matrices)
    assert torch.equal(torch.get_rng_state(), state)


def spread(means):
    return {
        "fewer points than centroids": means[:5],
        "two points": means[:2],
        "many times the same points": means[:8].repeat(20, 1),
        "a collapsed dimension": means * torch.tensor([1.0, 0.0, 1.0]),
        "one dimension": means[:, :1],
        "far from the origin": means + 1000,
        "half precision": means.half(),
    }


@pytest.mark.parametrize("method", ["kmeans", "kmedoids"])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("case", list(spread(torch.zeros(10, 3))))
def test_odd_clouds_give_sound_metrics(case, diagonal, method):
    means = spread(torch.randn(200, 3))[case]
    metric = fit_metric(means, centroids=16, method=method, diagonal=diagonal)
    different = len(means.unique(dim=0))
    assert metric.centroids.shape == (min(16, different), means.shape[1])
    assert metric.diagonal == diagonal and metric.centroids.dtype == torch.float32
    assert metric.temperature > 0 and metric.matrices.isfinite().all()
    point = metric.at(means)
    assert point.half_logdet_inverse.isfinite().all() and (point.log10_condition() < 6).all()


@pytest.mark.parametrize(
    ("means", "message"),
    [
        (torch.zeros(9, 2), "all 9 encodings are the same point"),
        (torch.full((9, 2), torch.nan), "9 of 9 encodings are not finite"),
        (torch.zeros(9), r"encodings of shape \(N, D\), not \(9,\)"),
        (torch.zeros(0, 2), r"encodings of shape \(N, D\), not \(0, 2\)"),
    ],
)
def test_impossible_clouds_are_refused(means, message):
    with pytest.raises(UserError, match=message):
        fit_metric(means)


def test_the_part_begins_euclidean():
    part = FittedMetric(5, centroids=8)
    z = torch.randn(4, 5)
    assert not part.is_fitted
    assert torch.equal(part().inverse(z), torch.eye(5).expand(4, 5, 5))
    assert torch.equal(part().half_logdet_inverse(z), torch.zeros(4))
    assert torch.equal(part().half_logdet_inverse_gradient(z), torch.zeros(4, 5))


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("count", [5, 300])
def test_the_shapes_of_its_state_never_change(count, diagonal):
    part = FittedMetric(3, centroids=8, diagonal=diagonal)
    before = {name: tensor.shape for name, tensor in part.state_dict().items()}
    means = torch.randn(count, 3) + 2
    part.fit(means)
    assert part.is_fitted and len(part().centroids) == min(count, 8)
    assert {name: tensor.shape for name, tensor in part.state_dict().items()} == before
    fitted = fit_metric(means, centroids=8, diagonal=diagonal)
    torch.testing.assert_close(part().inverse(means), fitted.inverse(means))
    # Fitted to fewer points afterwards, nothing is left of the earlier centroids.
    part.fit(means[:4])
    assert len(part().centroids) == 4 and not part.matrices[4:].any()


def test_it_survives_saving_copying_and_moving():
    part = FittedMetric(3, centroids=8, temperature_factor=0.2)
    part.fit(torch.randn(6, 3))
    z = torch.randn(4, 3)
    expected = part().inverse(z)
    loaded = FittedMetric(3, centroids=8)
    loaded.load_state_dict(part.state_dict())
    for other in (loaded, copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert other.is_fitted and other().direct == part().direct
        assert len(other().centroids) == 6
        torch.testing.assert_close(other().inverse(z), expected)
    precise = copy.deepcopy(part).to(torch.float64)
    assert precise().inverse(z.double()).dtype == torch.float64
    torch.testing.assert_close(precise().inverse(z.double()).float(), expected)
    assert not list(part.parameters())


def test_it_takes_over_a_metric():
    part = FittedMetric(2, centroids=4)
    diagonal = CentroidMetric(torch.randn(3, 2), torch.rand(3, 2), 0.3, 0.02)
    part.set(diagonal)
    z = torch.randn(5, 2)
    assert part.is_fitted and part().direct
    torch.testing.assert_close(part().inverse(z), diagonal.inverse(z))


def test_a_metric_that_does_not_fit_in_is_refused():
    part = FittedMetric(2, centroids=4, diagonal=True)
    for metric, message in (
        (CentroidMetric(torch.zeros(2, 3), torch.ones(2, 3), 1.0, 0.01), "model.latent_dim=3"),
        (
            CentroidMetric(torch.zeros(5, 2), torch.ones(5, 2), 1.0, 0.01),
            "model.metric.centroids=5",
        ),
        (
            CentroidMetric(torch.zeros(2, 2), torch.ones(2, 2, 2), 1.0, 0.01),
            "model.metric.diagonal=false",
        ),
    ):
        with pytest.raises(UserError, match=message):
            part.set(metric)
    with pytest.raises(UserError, match="5 dimensions, and the metric has dim=2"):
        part.fit(torch.randn(9, 5))
    assert not part.is_fitted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "kmean"}, "model.metric.method='kmean' is unknown; nearest: 'kmeans'"),
        ({"centroids": 0}, "model.metric.centroids=0 must be at least 1"),
        ({"neighbours": 0}, "model.metric.neighbours=0 must be at least 1"),
        ({"regularization": 0.0}, "model.metric.regularization=0.0 must be positive"),
        ({"temperature_factor": -1.0}, "model.metric.temperature_factor=-1.0 must be positive"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        FittedMetric(2, **settings)


def test_the_config_builds_it():
    cfg = OmegaConf.load(Path(__file__).parents[3] / "conf/model/metric/fitted.yaml")
    cfg.dim = 4
    built = build(cfg)
    assert isinstance(built, FittedMetric)
    assert built.settings == FittedMetric(4).settings
