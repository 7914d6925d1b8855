"""Metrics of samples: hand computations, limits, and what a report makes of them."""

import math

import numpy as np
import pytest
import torch

from src.evaluation.features import PixelFeatures
from src.evaluation.metrics import fit_pca
from src.evaluation.report import summarise
from src.evaluation.results import Compared
from src.evaluation.samples import compare_samples, draw, gaussian_samples, sample_metrics
from src.utils.errors import UserError

TRAIN, TEST = (torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (60, 30))


def normal(n: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def test_the_metrics_by_hand():
    real = np.array([[0.0, 0], [1, 0], [2, 0], [10, 0]])
    fake = np.array([[0.5, 0], [1.5, 0], [30, 0]])
    found = sample_metrics(real, fake, k=1)
    # Balls of the real ones: radius 1, 1, 1 and 8; of the samples: 1, 1 and 28.5.
    assert found["sample_precision"] == pytest.approx(2 / 3)
    assert found["sample_density"] == pytest.approx((2 + 2 + 0) / 3)
    assert found["sample_coverage"] == pytest.approx(3 / 4)
    # The ball around 30 reaches to 1.5.
    assert found["sample_recall"] == pytest.approx(1)
    alone = sample_metrics(real, fake[:2], k=1)
    assert alone["sample_recall"] == pytest.approx(3 / 4)


def test_a_cloud_and_itself_are_alike_and_distant_clouds_are_not():
    a = normal(300)
    same = sample_metrics(a, a)
    assert same["sample_fid"] == pytest.approx(0, abs=1e-9)
    names = ("sample_precision", "sample_recall", "sample_coverage")
    assert all(same[name] == 1 for name in names) and same["sample_density"] > 1
    far = sample_metrics(a, normal(300, seed=1) + 100)
    assert far["sample_fid"] == pytest.approx(4 * 100**2, rel=0.01)
    assert all(far[name] == 0 for name in (*names, "sample_density"))


def test_two_samples_of_one_distribution_have_the_expected_coverage():
    # Naeem et al. 2020, lemma 2: 1 − 1/2^k in the limit of many samples.
    for k in (1, 3):
        found = [
            sample_metrics(normal(2000, seed=s), normal(2000, seed=s + 100), k) for s in range(3)
        ]
        coverage = np.mean([f["sample_coverage"] for f in found])
        assert coverage == pytest.approx(1 - 2.0**-k, abs=0.02)
        assert np.mean([f["sample_density"] for f in found]) == pytest.approx(1, abs=0.03)


def test_a_sampler_that_knows_one_mode_is_precise_and_recalls_half():
    centres = np.repeat([[0.0], [50.0]], 300, 0)
    real = normal(600) + centres
    one = sample_metrics(real, normal(600, seed=1))
    assert one["sample_precision"] > 0.95 and one["sample_recall"] == pytest.approx(0.5, abs=0.03)
    assert one["sample_coverage"] == pytest.approx(0.5, abs=0.03)
    half_junk = np.concatenate([normal(300, seed=2), normal(300, seed=3) - 500])
    junk = sample_metrics(normal(600), half_junk)
    assert junk["sample_precision"] == pytest.approx(0.5, abs=0.03) and junk["sample_recall"] > 0.9


def test_blocks_of_distances_change_nothing(monkeypatch):
    real, fake = normal(70), normal(50, seed=1)
    whole = sample_metrics(real, fake)
    monkeypatch.setattr("src.evaluation.samples.LARGEST_BLOCK", 7 * 50)
    assert sample_metrics(real, fake) == pytest.approx(whole)


def test_distances_far_from_the_origin_are_as_good():
    real, fake = normal(100), normal(80, seed=1)
    there = sample_metrics(real + 1e6, fake + 1e6)
    assert there == pytest.approx(sample_metrics(real, fake), rel=1e-4)


def test_fewer_rows_than_features_are_no_hindrance():
    found = sample_metrics(normal(8, dim=64), normal(9, dim=64, seed=1))
    assert all(math.isfinite(value) for value in found.values())
    assert sample_metrics(normal(50, dim=1), normal(60, dim=1))["sample_fid"] < 0.5


@pytest.mark.parametrize("rows", [normal(5), np.full((20, 4), np.nan)])
def test_what_cannot_be_measured_is_told(rows):
    with pytest.raises(UserError):
        sample_metrics(normal(20), rows)


def test_the_gaussian_has_the_moments_of_probabilistic_pca():
    x = 0.5 + 0.02 * torch.from_numpy(normal(400, 12) @ normal(12, 12, seed=1))
    pca = fit_pca(x, 3)
    drawn = gaussian_samples(pca, 40_000, torch.Size([3, 4])).flatten(1).double().numpy()
    assert np.allclose(drawn.mean(0), x.mean(0), atol=0.003)
    expected = pca.get_covariance() - pca.noise_variance_ * np.eye(12)
    assert np.allclose(np.cov(drawn.T), expected, atol=0.03 * expected.max())


def test_samples_are_always_the_same_and_leave_random_numbers_alone(tiny_vae):
    model = tiny_vae().eval()
    with torch.no_grad():
        first, state = draw(model, 10, batch_size=4), torch.get_rng_state()
        torch.testing.assert_close(draw(model, 10, batch_size=4), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (10, 1, 8, 8) and first.min() >= 0 and first.max() <= 1
    assert len(first.unique(dim=0)) == 10


def test_a_model_that_takes_labels_gets_those_of_the_test_pictures():
    class Named:
        """Draws pictures as bright as their label."""

        device = torch.device("cpu")

        class latent:
            condition_key = "label"

        @staticmethod
        def sample(n, c):
            return c.float().view(-1, 1, 1, 1).expand(n, 1, 8, 8) / 10

    labels = torch.arange(30) % 3
    test = (labels / 10).view(-1, 1, 1, 1) + 0.001 * TEST
    extractor = PixelFeatures().fit(TRAIN, test, None, None)
    found, trivial = compare_samples(Named, TRAIN, test, extractor, fit_pca(TRAIN, 4), labels)
    assert found["sample_fid"] < 0.01 < trivial["mean image"]["sample_fid"]
    assert set(trivial) == {"mean image", "PCA-4", "the data"}


def report_of(model, fit_features, test=TEST):
    values = {"active_units": 4.0, "kl": 1.0, "recon_nll": 2.0}
    return summarise(model.eval(), values, Compared(TRAIN, test), fit_features)


def pixels():
    return PixelFeatures().fit(TRAIN, TEST, None, None)


def test_a_report_shows_samples_beside_trivial_samplers(tiny_vae):
    report = report_of(tiny_vae(), pixels)
    names = [name for name in report.values if name.startswith("sample_")]
    assert names == [f"sample_{m}" for m in ("fid", "precision", "recall", "density", "coverage")]
    assert list(report.baselines) == ["mean image", "PCA-4", "the data"]
    fid = report.as_dict()["metrics"]["test/sample_fid"]
    # The mean picture misses the whole variance, which is 1 in these units.
    assert fid["baselines"]["mean image"] == pytest.approx(1, abs=0.3) and fid["unit"] == "1"
    assert fid["value"] > fid["baselines"]["the data"]
    assert report.as_dict()["features"]["name"] == "pixels" and report.warnings == []
    assert "features" not in report_of(tiny_vae(), None).as_dict()


def test_what_hinders_the_measurement_is_a_warning(tiny_vae):
    (told,) = report_of(tiny_vae(), pixels, TEST[:4]).warnings
    assert told.startswith("there are no metrics of the samples: 4 real pictures")
    broken = tiny_vae()
    broken.sample = lambda n: torch.full((n, 1, 8, 8), math.nan)
    report = report_of(broken, pixels)
    assert "NaN" in report.warnings[0] and "sample_fid" not in report.values


def test_an_autoencoder_without_a_prior_has_no_samples(tiny_vae):
    report = report_of(tiny_vae("model=ae"), pixels)
    assert "sample_fid" not in report.values and "the data" not in report.baselines
