"""Interpolations, samples and factors: known answers."""

import numpy as np
import pytest
import torch

from src.evaluation.disentanglement import disentanglement, majority
from src.evaluation.metrics import pca, ppca_nll
from src.evaluation.sequence_metrics import (
    frechet_distance,
    interpolation_errors,
    latent_states,
    nearest_mse,
    sequence_values,
    state_metric,
)

SHAPE = "data.shape=[5,3,16,16]"


def test_the_nearest_is_found_and_measured():
    others = torch.rand(30, 3, 4)
    x = others[[4, 9]] + 0.1
    assert torch.allclose(nearest_mse(x, others), torch.full((2,), 0.01), atol=1e-5)
    brute = (x[:, None] - others).square().flatten(2).mean(-1).amin(1)
    assert torch.allclose(nearest_mse(x, others), brute, atol=1e-6)


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200_000, 2)) * [1, 2]
    b = rng.normal(size=(200_000, 2)) * [3, 1] + [1, 0]
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 1, rel=0.02)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_codes_that_are_the_factors_have_the_largest_gap_and_noise_has_none():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 4, (3000, 3))
    constant = np.concatenate([factors, np.ones((3000, 1), int)], 1)  # one that does not vary
    codes = factors + 0.01 * rng.normal(size=factors.shape)
    found = disentanglement(codes[:2000], constant[:2000], codes[2000:], constant[2000:])
    assert found["mig"] > 0.9 and found["factor_accuracy"] > 0.99
    mixed = codes @ rng.normal(size=(3, 3))
    rotated = disentanglement(mixed[:2000], constant[:2000], mixed[2000:], constant[2000:])
    assert rotated["mig"] < 0.5
    noise = rng.normal(size=(3000, 3))
    nothing = disentanglement(noise[:2000], constant[:2000], noise[2000:], constant[2000:])
    chance = majority(constant[:2000], constant[2000:])["factor_accuracy"]
    assert nothing["mig"] < 0.05 and nothing["factor_accuracy"] == pytest.approx(chance, abs=0.06)


def test_the_low_rank_likelihood_of_pca_is_the_dense_one():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12))
    test = train[:50] + 0.1
    from sklearn.decomposition import PCA

    model = PCA(4).fit(train)
    values = np.concatenate([model.explained_variance_, np.full(8, 0.0)])
    rest = np.linalg.eigvalsh(np.cov(train, rowvar=False))[:-4].mean()
    values[4:] = rest
    full = np.linalg.svd(train - train.mean(0), full_matrices=True)[2]
    covariance = (full.T * values) @ full
    expected = (
        -torch.distributions.MultivariateNormal(
            torch.from_numpy(train.mean(0)), torch.from_numpy(covariance)
        )
        .log_prob(torch.from_numpy(test))
        .mean()
    )
    assert ppca_nll(model, train, test) == pytest.approx(float(expected), rel=1e-6)


def test_more_pixels_than_memory_for_their_covariance_are_no_hindrance():
    x = torch.rand(12, 3, 200, 200)  # a covariance would take 115 GB
    assert np.isfinite(pca(x[:8], x[8:], 2, density=True)["nll"])


def test_interpolation_errors_are_those_of_the_decoded_frames(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE).eval()
    x = torch.rand(4, *model.shape)
    with torch.no_grad():
        states = latent_states(model, x)
        found = interpolation_errors(model, x, states, state_metric(states, centroids=6))
        middle = (states[:, :-2] + states[:, 2:]) / 2
        frames = torch.stack([model.latent.decode_frames(z) for z in middle])
        linear = (frames - x[:, 1:-1]).square().mean()
        own = (model.reconstruct(x)[:, 1:-1] - x[:, 1:-1]).square().mean()
    assert found["interpolation_mse_linear"] == pytest.approx(float(linear), rel=1e-4)
    assert found["interpolation_mse_own_state"] == pytest.approx(float(own), rel=1e-4)
    pixels = ((x[:, :-2] + x[:, 2:]) / 2 - x[:, 1:-1]).square().mean()
    assert found["interpolation_mse_pixels"] == pytest.approx(float(pixels), rel=1e-5)


def test_a_collapsed_model_still_has_its_other_numbers(tiny_vae, caplog):
    model = tiny_vae("model=hybrid", SHAPE).eval()
    torch.nn.init.zeros_(model.latent.posterior.head.weight)
    found, baseline = sequence_values(
        model, torch.rand(20, *model.shape), torch.rand(9, *model.shape)
    )
    # The states of different frames still differ; those of different sequences do not.
    assert np.isfinite(found["sample_frechet"])
    for flow in model.latent.chain.flows:
        for block in flow.blocks:
            torch.nn.init.zeros_(block.net[-1].weight)
    found, baseline = sequence_values(
        model, torch.rand(20, *model.shape), torch.rand(9, *model.shape)
    )
    assert "off_data_mse_geodesic" not in found and "no metric" in caplog.text


@pytest.mark.parametrize("name", ["vanilla_sequence", "riemannian_flow"])
def test_all_values_are_finite_and_change_with_the_model(tiny_vae, name):
    train, test = torch.rand(20, 5, 3, 16, 16), torch.rand(10, 5, 3, 16, 16)
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found, baseline = sequence_values(tiny_vae(f"model={name}", SHAPE).eval(), train, test)
        assert all(np.isfinite(value) for value in [*found.values(), *baseline.values()])
        results.append(found)
    assert all(results[0][key] != results[1][key] for key in results[0])
