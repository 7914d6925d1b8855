"""What many tests share: fixed seeds, and small models composed from the real conf/."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch: these tests are many small tensors on few cores

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from src.utils.build import build
from src.utils.main import register_resolvers

CONF = Path(__file__).parents[1] / "conf"
SMALL = {"out_features": 12, "width": 12, "channels": 8, "max_channels": 12}


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look through all of torch in every test again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every test, in whatever order they run."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def compose_config() -> Callable[..., Any]:
    """``compose_config("model=ae", …)`` → the whole config as the command line would compose it."""
    register_resolvers()

    def composed(*overrides: str) -> Any:
        with initialize_config_dir(str(CONF)):
            return compose("config", overrides=list(overrides))

    return composed


@pytest.fixture(scope="session")
def tiny_config(compose_config: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """``tiny_config("model=ae", …)`` → a model's plain config, its networks narrowed."""

    def plain(*overrides: str) -> dict[str, Any]:
        cfg = compose_config("model.latent_dim=4", *overrides)
        for part in (cfg.model.encoder, cfg.model.decoder):
            own = [
                key for key in SMALL if key in part and not OmegaConf.is_interpolation(part, key)
            ]
            part.update({key: SMALL[key] for key in own})
        return OmegaConf.to_container(cfg.model, resolve=True)

    return plain


@pytest.fixture(scope="session")
def tiny_vae(tiny_config: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """``tiny_vae("model=ae", …)`` → the model built from ``tiny_config``, in training mode."""
    return lambda *overrides: build(tiny_config(*overrides))
