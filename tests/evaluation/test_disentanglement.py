"""Scores of disentanglement: codes whose scores are known."""

import numpy as np
import pytest
from scipy.linalg import hadamard
from scipy.stats import ortho_group

from src.evaluation.disentanglement import (
    dci,
    disentanglement,
    factor_vae_score,
    majority,
    mutual_information_gap,
    separated_attribute_predictability,
)

TRAIN, VALUES, FACTORS = 900, 6, 4


def split(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(
        part for half in (slice(TRAIN), slice(TRAIN, None)) for part in (a[half] for a in arrays)
    )


@pytest.fixture(scope="module")
def factors():
    return np.random.default_rng(0).integers(0, VALUES, (1500, FACTORS))


@pytest.fixture(scope="module")
def codes(factors):
    """A dimension for every factor, and two that know nothing."""
    noise = np.random.default_rng(1).normal(size=(len(factors), FACTORS + 2))
    return np.concatenate([factors, np.zeros((len(factors), 2))], 1) + 0.02 * noise


def test_codes_that_are_the_factors_have_the_best_scores(codes, factors):
    found = disentanglement(*split(codes, factors))
    # Bins of equal size, 20 for 6 values, mix two values where they meet.
    assert found["mig"] > 0.8
    # What is left of SAP's 1 is what a dimension that knows nothing gets right.
    assert found["sap"] == pytest.approx(1 - 1 / VALUES, abs=0.04)
    for name in ("dci_disentanglement", "dci_completeness", "dci_informativeness"):
        assert found[name] > 0.98
    assert found["factor_vae_score"] == 1 and found["factor_accuracy"] > 0.98


def test_order_scale_and_sign_of_the_dimensions_do_not_matter(codes, factors):
    changed = codes[:, [3, 5, 0, 4, 1, 2]] * [100, -1, 0.01, 1, -5, 2] + 7
    before = disentanglement(*split(codes, factors))
    assert disentanglement(*split(changed, factors)) == pytest.approx(before, abs=0.03)


def test_a_rotation_keeps_what_is_known_and_loses_where(codes, factors):
    found = disentanglement(
        *split(codes @ ortho_group.rvs(codes.shape[1], random_state=0), factors)
    )
    assert found["factor_accuracy"] > 0.8
    assert found["mig"] < 0.3 and found["sap"] < 0.3
    assert found["dci_disentanglement"] < 0.4 and found["dci_completeness"] < 0.4
    assert found["dci_informativeness"] > 0.8


def test_dimensions_that_mix_all_factors_alike_tell_none_apart(codes, factors):
    mixed = codes[:, :FACTORS] @ hadamard(FACTORS) / 2
    found = disentanglement(*split(mixed, factors))
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert found[name] < 0.1
    # Whatever a group agrees in, all dimensions vary alike in it.
    assert found["factor_vae_score"] == pytest.approx(1 / FACTORS, abs=0.1)


def test_noise_is_at_chance(factors):
    noise = np.random.default_rng(2).normal(size=(len(factors), 8))
    found, chance = disentanglement(*split(noise, factors)), majority(*split(factors))
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert found[name] == pytest.approx(0, abs=0.03)
    assert chance["factor_vae_score"] == 1 / FACTORS
    for name, value in chance.items():
        assert found[name] == pytest.approx(value, abs=0.08)


def test_a_factor_that_is_there_twice_is_disentangled_but_not_complete(factors):
    rng = np.random.default_rng(3)
    twice = np.concatenate([factors, factors], 1) + 0.3 * rng.normal(
        size=(len(factors), 2 * FACTORS)
    )
    arguments = split(twice, factors)
    found = dci(*arguments)
    assert found["dci_disentanglement"] > 0.8 > found["dci_completeness"] + 0.1
    # Two dimensions know the same: there is no gap.
    assert mutual_information_gap(twice, factors) < 0.05
    assert separated_attribute_predictability(*arguments) < 0.05
    # … but each of them still tells its factor.
    assert factor_vae_score(*arguments) == 1


def test_a_dimension_of_two_factors_is_complete_but_not_disentangled():
    rng = np.random.default_rng(4)
    factors = rng.integers(0, 3, (1500, 4))
    pairs = np.stack([3 * factors[:, 0] + factors[:, 1], 3 * factors[:, 2] + factors[:, 3]], 1)
    found = dci(*split(pairs + 0.02 * rng.normal(size=pairs.shape), factors))
    assert found["dci_completeness"] > 0.98 and found["dci_informativeness"] > 0.98
    # log 2 of log 4.
    assert found["dci_disentanglement"] == pytest.approx(0.5, abs=0.02)


def test_the_factor_vae_score_of_half_the_factors():
    rng = np.random.default_rng(5)
    factors = rng.integers(0, VALUES, (1500, 4))
    half = factors[:, :2] + 0.02 * rng.normal(size=(1500, 2))
    # Groups that agree in an unseen factor are told at random to be of one of those seen.
    assert factor_vae_score(*split(half, factors)) == pytest.approx(0.5, abs=0.06)
    # A dimension that never varies would always vary least.
    padded = np.concatenate([half, np.full((1500, 1), 3.0)], 1)
    assert factor_vae_score(*split(padded, factors)) == factor_vae_score(*split(half, factors))
    assert factor_vae_score(*split(np.ones((1500, 2)), factors)) == 0.25


def test_factors_that_do_not_vary_are_left_out(codes, factors):
    constant = np.concatenate([factors, np.full((len(factors), 1), 2)], 1)
    same = disentanglement(*split(codes, constant))
    assert same == disentanglement(*split(codes, factors))
    nothing = np.ones((len(factors), 2), int)
    assert disentanglement(*split(codes, nothing)) == majority(*split(nothing)) == {}


def test_one_dimension_or_one_factor_leaves_out_what_needs_two(codes, factors):
    one_code = disentanglement(*split(codes[:, :1], factors[:, :2]))
    assert "dci_completeness" not in one_code and "dci_disentanglement" in one_code
    # One of two factors is known, wholly and by the only dimension.
    assert one_code["mig"] == pytest.approx(0.5, abs=0.1)
    assert one_code["sap"] == pytest.approx((1 - 1 / VALUES) / 2, abs=0.05)
    one_factor = disentanglement(*split(codes, factors[:, :1]))
    assert "dci_disentanglement" not in one_factor and one_factor["dci_completeness"] > 0.98


def test_the_scores_are_deterministic(codes, factors):
    assert disentanglement(*split(codes, factors)) == disentanglement(*split(codes, factors))
