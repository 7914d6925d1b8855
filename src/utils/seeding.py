"""Random state: taken, restored, and kept apart."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_TURN = threading.RLock()


def rng_state() -> dict[str, Any]:
    """The random state of Python, NumPy, torch and CUDA, as plain values that load with ``weights_only``."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what ``rng_state`` took."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    for index, generator in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(generator.cpu(), index)


@contextmanager
def isolated_rng(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Torch's random numbers start at ``seed`` inside and go on outside as if nothing had been drawn.

    They belong to the whole process: another thread, such as another window of the web app, waits for its turn.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with _TURN, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
