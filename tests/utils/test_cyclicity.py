"""First–last MSE of sequences."""

import numpy as np
import pytest

from src.utils import cyclicity
from src.utils.cyclicity import CyclicityReport, closes, first_last_mse

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_it_is_the_mean_squared_difference_of_the_outer_frames(monkeypatch, chunk):
    monkeypatch.setattr(cyclicity, "CHUNK", chunk)
    x = RNG.random((9, 5, 3, 4, 4))
    by_hand = [np.mean((sequence[0] - sequence[-1]) ** 2) for sequence in x]
    np.testing.assert_allclose(first_last_mse(x), by_hand, rtol=1e-12)


def test_bytes_are_compared_without_overflow_and_in_units_of_one():
    x = np.zeros((2, 3, 1, 2, 2), np.uint8)
    x[0, 0], x[1, -1] = 255, 51
    np.testing.assert_allclose(first_last_mse(x, 255), [1, 0.04], rtol=1e-12)


def test_equal_frames_give_exactly_zero():
    x = RNG.random((3, 4, 2), np.float32)
    x[:, -1] = x[:, 0]
    assert (first_last_mse(x) == 0).all()


def test_a_threshold_of_zero_asks_for_equal_frames():
    mse = np.array([0, 1e-12, 1e-4, np.nan])
    assert closes(mse, 0).tolist() == [True, False, False, False]
    assert closes(mse, 1e-4).tolist() == [True, True, False, False]


def test_the_report_tells_everything_in_one_line():
    report = CyclicityReport.of(np.array([0, 0.0, 0.03, 0.01]), 1e-4)
    assert (report.count, report.cyclic, report.rate, report.worst) == (4, 2, 0.5, 2)
    assert report.sentence() == (
        "2 of 4 sequences (50.0%) close within 0.0001; first–last MSE 0.01 ± 0.0122, from 0 to 0.03"
    )
    assert (
        "2 of 4 sequences (50.0%) close exactly;"
        in CyclicityReport.of(np.array([0, 0.0, 0.03, 0.01]), 0).sentence()
    )
