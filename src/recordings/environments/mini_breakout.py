"""Breakout in a hundred lines of NumPy, for tests and for planners that need a world which they can know."""

from typing import Any

import gymnasium
import numpy as np

from src.utils.errors import UserError

ROWS, COLUMNS = 4, 8
BRICKS = np.array([[200, 72, 72], [198, 108, 58], [180, 122, 48], [72, 160, 72]], np.uint8)
BALL = np.array([236, 236, 236], np.uint8)
LIFE = np.array([142, 142, 142], np.uint8)
PADDLE = np.array([66, 158, 230], np.uint8)


class MiniBreakout(gymnasium.Env):
    """A ball, a paddle and four rows of eight bricks, each of which is worth 1.

    Actions: 0 stays, 1 goes right, 2 goes left. The ball goes off by itself, from the middle and in a random
    direction, which the seed decides; everything else follows from the actions. Where it meets the paddle decides
    where it goes. The episode ends with the last life or the last brick.

    The squares at the top are the balls that are left, the one in play among them.
    Lengths are in units of a 32nd of the picture: the ball is 1, the paddle 5, a brick 4 × 2.

    Args:
        size: side of the picture, a multiple of 32.
        lives: balls that may be missed.
        render_mode: "rgb_array" or None.

    Raises:
        UserError: a number is not possible.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}
    paddle_width, paddle_top, bricks_top = 5.0, 30.0, 4

    def __init__(self, size: int = 64, lives: int = 3, render_mode: str | None = None) -> None:
        if size < 32 or size % 32:
            raise UserError(f"MiniBreakout is drawn in multiples of 32 pixels, not size={size}")
        if lives < 1:
            raise UserError(f"MiniBreakout needs a life, not lives={lives}")
        self.size, self.first_lives = size, lives
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.bricks = np.ones((ROWS, COLUMNS), bool)
        self.lives, self.paddle = lives, 16.0
        self.ball, self.speed = np.zeros(2), np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """All bricks, all lives, and a ball from the middle."""
        super().reset(seed=seed)
        self.bricks[:] = True
        self.lives = self.first_lives
        self._serve()
        return self.render(), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the paddle, then the ball."""
        half = self.paddle_width / 2
        self.paddle += (0.0, 1.5, -1.5)[int(action)]
        self.paddle = min(max(self.paddle, half), 32 - half)
        self.ball += self.speed
        self._bounce()
        reward = self._hit()
        if self.ball[1] > 32:
            self.lives -= 1
            if self.lives:
                self._serve()
        over = self.lives == 0 or not self.bricks.any()
        return self.render(), reward, over, False, self._info()

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The picture, (size, size, 3) uint8."""
        unit = self.size // 32
        picture = np.zeros((self.size, self.size, 3), np.uint8)
        wall = self.bricks[:, :, None] * BRICKS[:, None]
        top = self.bricks_top * unit
        picture[top : top + 2 * ROWS * unit] = wall.repeat(2 * unit, 0).repeat(4 * unit, 1)
        for life in range(min(self.lives, 15)):
            left = (2 * life + 1) * unit
            picture[unit : 2 * unit, left : left + unit] = LIFE
        self._box(picture, self.paddle, self.paddle_top + 0.5, self.paddle_width, PADDLE)
        self._box(picture, self.ball[0], self.ball[1], 1.0, BALL)
        return picture

    def get_action_meanings(self) -> list[str]:
        """What the actions do."""
        return ["NOOP", "RIGHT", "LEFT"]

    def _serve(self) -> None:
        self.paddle = 16.0
        self.ball = np.array([16.0, 16.0])
        self.speed = np.array([self.np_random.uniform(-0.8, 0.8), 1.0])

    def _bounce(self) -> None:
        """Off the walls, the ceiling and the paddle."""
        for axis, far in ((0, 31.5), (1, np.inf)):
            if not 0.5 <= self.ball[axis] <= far:
                self.speed[axis] *= -1
                edge = 0.5 if self.ball[axis] < 0.5 else far
                self.ball[axis] = 2 * edge - self.ball[axis]
        above = self.paddle_top - 0.5
        crossed = self.ball[1] - self.speed[1] < above <= self.ball[1]
        offset = (self.ball[0] - self.paddle) / (self.paddle_width / 2 + 0.5)
        if crossed and self.speed[1] > 0 and abs(offset) <= 1:
            # Never straight up: a paddle that follows the ball would hit the same column for ever.
            aside = np.copysign(max(abs(offset), 0.25), offset)
            self.speed[:] = aside, -1.0
            self.ball[1] = above

    def _hit(self) -> float:
        row = int((self.ball[1] - self.bricks_top) // 2)
        column = min(int(self.ball[0] // 4), COLUMNS - 1)
        if not 0 <= row < ROWS or not self.bricks[row, column]:
            return 0.0
        self.bricks[row, column] = False
        self.speed[1] *= -1
        return 1.0

    def _box(
        self, picture: np.ndarray, x: float, y: float, width: float, colour: np.ndarray
    ) -> None:
        unit = self.size // 32
        left, top = round((x - width / 2) * unit), round((y - 0.5) * unit)
        picture[max(top, 0) : top + unit, max(left, 0) : left + round(width * unit)] = colour

    def _info(self) -> dict[str, Any]:
        return {"lives": self.lives, "bricks": int(self.bricks.sum())}
