"""A white dot that goes round a black square: the simplest world whose next frame follows from the action."""

from typing import Any

import gymnasium
import numpy as np

from src.utils.errors import UserError


class ToroidalDot(gymnasium.Env):
    """A disc on a torus. Action 0 stays, action 1 goes ``step`` pixels to the right; there is no reward and no end.

    A pixel is lit where dx² + dy² ≤ radius², the distances being taken round the torus.

    Args:
        radius: of the disc, in pixels.
        step: of action 1, in pixels.
        size: side of the square.
        x: where every episode begins; None draws it.
        y: its height; None draws it.
        render_mode: "rgb_array" or None.

    Raises:
        UserError: a number is not possible.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        radius: int = 5,
        step: int = 27,
        size: int = 224,
        x: int | None = None,
        y: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if size < 1 or radius < 0:
            raise UserError(f"a toroidal dot of size={size} and radius={radius} cannot be drawn")
        self.radius, self.step_length, self.size = radius, step, size
        self.fixed = (x, y)
        self.x = self.y = 0
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._random: np.random.RandomState | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw x, then y, as the reference does; without a seed the generator goes on."""
        super().reset(seed=seed)
        if seed is not None:
            # The older generator, of which the recordings of the reference come; it takes 32 bits.
            self._random = np.random.RandomState(seed % 2**32)
        elif self._random is None:
            self._random = np.random.RandomState()
        drawn = [int(self._random.randint(0, self.size)) for _ in range(2)]
        self.x, self.y = (
            value if given is None else given % self.size
            for given, value in zip(self.fixed, drawn, strict=True)
        )
        return self.render(), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Stay or move."""
        if action:
            self.x = (self.x + self.step_length) % self.size
        return self.render(), 0.0, False, False, self._info()

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The square, (size, size, 3) uint8."""
        across, down = self._squared(self.x), self._squared(self.y)
        lit = down[:, None] + across[None, :] <= self.radius**2
        return np.repeat((lit * np.uint8(255))[:, :, None], 3, axis=2)

    def get_action_meanings(self) -> list[str]:
        """What the actions do."""
        return ["stay", "move"]

    def _squared(self, centre: int) -> np.ndarray:
        away = np.abs(np.arange(self.size) - centre)
        return np.minimum(away, self.size - away) ** 2

    def _info(self) -> dict[str, Any]:
        return {"x": self.x, "y": self.y}
