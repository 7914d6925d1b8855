"""Models that several tests only look at."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.evaluation.spaces import fitted


@pytest.fixture(scope="session")
def model_of(tiny_vae: Callable[..., Any]) -> Callable[..., Any]:
    """``model_of("model=rhvae", …)`` → a small untrained model, built once, its metric fitted; not to be changed."""
    return cache(lambda *overrides: fitted(tiny_vae(*overrides)).eval())
