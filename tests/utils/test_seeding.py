"""Random state: restored exactly, kept apart, and saved without pickled objects."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from src.utils.seeding import isolated_rng, rng_state, set_rng_state


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
        float(torch.randn(())),
    ]


def test_every_generator_goes_on_where_it_was(tmp_path):
    draw()  # an odd number of normals, so that cached ones count too
    state = rng_state()
    torch.save(state, tmp_path / "state.ckpt")
    expected = draw()
    draw()
    set_rng_state(torch.load(tmp_path / "state.ckpt", weights_only=True))
    assert draw() == expected


def test_isolated_numbers_leave_no_trace():
    before = torch.get_rng_state()
    with isolated_rng(7, torch.device("cpu")):
        first = torch.rand(3)
    with isolated_rng(7):
        second = torch.rand(3)
    with isolated_rng(8):
        third = torch.rand(3)
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_take_turns():
    def draws(seed: int) -> torch.Tensor:
        with isolated_rng(seed):
            return torch.stack([torch.rand(1000).sum() for _ in range(50)])

    alone = [draws(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = [*pool.map(draws, range(4))]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
