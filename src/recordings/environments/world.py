"""What every environment is to whoever records it: frames, and steps that need not be waited for."""

from typing import NamedTuple, Protocol

import numpy as np


class Step(NamedTuple):
    """A frame (H, W, 3) uint8, and what came with it; ``lives`` is None where the environment has none."""

    frame: np.ndarray
    reward: float | None = None
    terminated: bool = False
    truncated: bool = False
    lives: int | None = None


class Start(NamedTuple):
    """What decides an episode but its actions: a seed, and how often the environment is reset again after it."""

    seed: int
    resets: int = 0


class World(Protocol):
    """One environment; ``send`` starts a step and ``recv`` waits for its end.

    Attributes:
        num_actions: numbers from 0.
        meanings: their names, None where they have none.
        is_seeded: whether every episode needs a seed of its own; otherwise a reset will do, which is quicker.
        may_reset_aside: whether another thread may do it.
    """

    num_actions: int
    meanings: list[str] | None
    is_seeded: bool
    may_reset_aside: bool

    def reset(self, start: Start) -> Step:
        """The first frame of an episode."""

    def send(self, action: int) -> None:
        """Start a step."""

    def recv(self) -> Step:
        """Wait for its end."""

    def close(self) -> None:
        """Let go of it."""
