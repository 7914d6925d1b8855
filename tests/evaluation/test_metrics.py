"""Metrics and baselines against identities and hand computations."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from src.evaluation import metrics
from src.evaluation.report import LEAST_OF_FRAMES

X, Y = (
    torch.rand(6, 3, 16, 12, generator=torch.Generator().manual_seed(1)),
    torch.rand(6, 3, 16, 12, generator=torch.Generator().manual_seed(2)),
)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12), (2, 64, 64), (1, 28, 28)])
def test_ssim_is_one_for_a_picture_and_itself(shape):
    x, y = torch.rand(5, *shape), torch.rand(5, *shape)
    torch.testing.assert_close(metrics.ssim(x, x), torch.ones(5))
    torch.testing.assert_close(metrics.ssim(x, y), metrics.ssim(y, x))
    worse = metrics.ssim(x, (x + 0.5 * (y - x)))
    assert (
        metrics.ssim(x, y).shape == (5,)
        and (metrics.ssim(x, y) < worse).all()
        and (worse < 1).all()
    )


@pytest.mark.parametrize(("side", "window"), [(8, 3), (12, 5), (16, 7), (28, 11), (64, 11)])
def test_the_ssim_window_fits_small_pictures(side, window):
    assert metrics.ssim_window((1, side, 99)) == window


def test_psnr():
    for mse, decibels in ((0.01, 20.0), (1.0, 0.0), (0.0, math.inf)):
        assert float(metrics.psnr(torch.tensor(mse))) == pytest.approx(decibels)


def test_pictures_that_are_all_alike_have_a_finite_baseline():
    alike = X[:1].expand(4, -1, -1, -1)
    assert math.isfinite(metrics.mean_image(alike, alike, density=True)["nll"])
    assert math.isfinite(metrics.mean_image(alike, Y, density=True)["nll"])


def test_picture_metrics_by_hand():
    x = torch.zeros(2, 1, 8, 8)
    y = x.clone()
    y[:, :, :2] = 0.2  # a quarter of the pixels off by 0.2
    found = metrics.pictures(x, y)
    assert (
        found["mse"] == pytest.approx(0.01)
        and found["psnr"] == pytest.approx(20, rel=1e-5)
        and found["pixel_accuracy"] == 0.75
    )
    assert "ssim" in found and "ssim" not in metrics.pictures(x.flatten(1), y.flatten(1))


def test_the_mean_image_baseline():
    found, mean = metrics.mean_image(X, Y, density=True), X.mean(0)
    assert found["mse"] == pytest.approx(float((Y - mean).square().mean()))
    sigma = float((X - mean).square().mean().sqrt())
    expected = -torch.distributions.Normal(mean, sigma).log_prob(Y).flatten(1).sum(1).mean()
    assert found["nll"] == pytest.approx(float(expected), rel=1e-5)
    entropy = (
        torch.nn.functional.binary_cross_entropy(mean.expand_as(Y), Y, reduction="none")
        .flatten(1)
        .sum(1)
        .mean()
    )
    assert metrics.mean_image(X, Y, density=False)["nll"] == pytest.approx(float(entropy), rel=1e-5)


def test_the_pca_baseline_is_probabilistic_pca():
    rng = np.random.default_rng(0)
    loadings, noise = rng.normal(size=(2, 5)), 0.3
    train, test = (
        rng.normal(size=(n, 2)) @ loadings + noise * rng.normal(size=(n, 5)) + 1 for n in (400, 100)
    )
    found = metrics.pca(torch.from_numpy(train), torch.from_numpy(test), 2, density=True)
    mean = train.mean(0)
    values, vectors = np.linalg.eigh(np.cov(train.T))
    kept = vectors[:, -2:]
    error = (test - mean) - (test - mean) @ kept @ kept.T
    assert found["mse"] == pytest.approx(np.mean(error**2))
    # Tipping & Bishop 1999: the variance that is left, spread evenly over the directions that are left.
    rest = values[:-2].mean()
    covariance = kept @ np.diag(values[-2:] - rest) @ kept.T + rest * np.eye(5)
    assert found["nll"] == pytest.approx(-multivariate_normal(mean, covariance).logpdf(test).mean())
    assert found["nll"] < -multivariate_normal(mean, np.diag(train.var(0))).logpdf(test).mean()
    assert "nll" not in metrics.pca(
        torch.from_numpy(train), torch.from_numpy(test), 2, density=False
    )


def test_pca_codes_find_neighbours():
    train, test = torch.rand(40, 1, 4, 4), torch.rand(20, 1, 4, 4)
    labels = torch.arange(40) % 2, torch.arange(20) % 2
    train[labels[0] == 1] += 5
    test[labels[1] == 1] += 5
    assert metrics.pca(train, test, 3, density=False, labels=labels)["knn_accuracy"] == 1


def test_a_code_larger_than_the_data_allows_is_cut():
    x = torch.rand(5, 30)
    assert math.isfinite(metrics.pca(x, x, 16, density=True)["nll"])


def test_neighbours_of_separable_codes_are_right_and_of_noise_at_chance():
    rng = np.random.default_rng(0)
    train_y, test_y = rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    centres = 20 * np.eye(4)
    train_z, test_z = (centres[y] + rng.normal(size=(400, 4)) for y in (train_y, test_y))
    assert metrics.knn_accuracy(train_z, train_y, test_z, test_y) == 1
    noise = rng.normal(size=(400, 4))
    assert metrics.knn_accuracy(noise, train_y, rng.normal(size=(400, 4)), test_y) == pytest.approx(
        0.25, abs=0.08
    )


@pytest.mark.parametrize(
    ("active", "kl", "collapsed"),
    [(0, 0.0, True), (1, 5.0, True), (16, 0.05, True), (8, 12.0, False), (16, 30.0, False)],
)
def test_a_collapse_is_told_with_its_cure(active, kl, collapsed):
    warning = metrics.collapse_warning(active, 16, kl)
    assert (warning is not None) == collapsed
    if warning:
        assert (
            warning.startswith(f"posterior collapse: {active} of 16")
            and "model.objective.beta" in warning
        )


def test_the_leading_components_are_those_of_a_smaller_fit():
    x = torch.rand(60, 12, generator=torch.Generator().manual_seed(5))
    part, own = metrics.leading(metrics.fit_pca(x, 8), 3), metrics.fit_pca(x, 3)
    assert part.n_components_ == own.n_components_ == 3
    assert part.noise_variance_ == pytest.approx(own.noise_variance_)
    rows = x.numpy().astype("float64")
    restored = [fit.inverse_transform(fit.transform(rows)) for fit in (part, own)]
    assert abs(restored[0] - restored[1]).max() < 1e-9


def test_the_foreground_is_what_differs_from_the_background():
    background = torch.full((1, 8, 8), 0.5)
    x = background.repeat(2, 1, 1, 1)
    x[0, 0, 0, 0], x[0, 0, 0, 1], x[1, 0, 2, 2] = 0.9, 0.55, 0.1  # the second by too little
    y = background.repeat(2, 1, 1, 1)
    y[0, 0, 0, 0] = 0.8
    found = metrics.pictures(x, y, background)
    assert found["foreground_mse"] == pytest.approx((0.1**2 + 0.4**2) / 2, rel=1e-5)
    assert found["foreground_psnr"] == pytest.approx(-10 * math.log10(found["foreground_mse"]))
    still = metrics.pictures(background[None], y[:1], background)
    assert "foreground_psnr" not in still and still["mse"] > 0


@pytest.mark.parametrize(
    ("active", "kl", "warned"), [(4, 2.5, False), (3, 50, True), (32, 1.9, True)]
)
def test_frames_collapse_below_four_units_or_two_nats(active, kl, warned):
    told = metrics.collapse_warning(active, 32, kl, **LEAST_OF_FRAMES)
    assert bool(told) == warned
