"""Any environment of gymnasium that shows pictures and has numbered actions."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from src.recordings.environments.optional import extra
from src.recordings.environments.world import Start, Step
from src.utils.errors import UserError, nearest


class GymnasiumWorld:
    """An environment of ``gymnasium.make``.

    Args:
        id: what gymnasium calls it.
        size: H, W that frames are scaled to; None leaves them as they are.
        given: its settings.

    Raises:
        UserError: its observations are no pictures, its actions have no numbers, or it does not take a setting.
    """

    def __init__(self, id: str, size: tuple[int, int] | None, given: Mapping[str, Any]) -> None:
        gymnasium = extra("gymnasium")
        _check_settings(id, given)
        try:
            self._env = gymnasium.make(id, **given)
        except (TypeError, gymnasium.error.Error) as error:
            raise UserError(f"env={id} cannot be made: {error}") from error
        space, actions = self._env.observation_space, self._env.action_space
        if not _is_picture(space):
            raise UserError(
                f"env={id} shows no pictures but {space}; a recording needs (H, W, 3) uint8"
            )
        if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start != 0:
            raise UserError(f"env={id} has actions {actions}; a recording needs Discrete(n)")
        self.num_actions = int(actions.n)
        named = getattr(self._env.unwrapped, "get_action_meanings", None)
        self.meanings: list[str] | None = list(named()) if named else None
        self._size = size
        self._step: Step | None = None

    is_seeded = True
    may_reset_aside = False  # what draws with the graphics card would not like it

    def reset(self, start: Start) -> Step:
        """The first frame of an episode."""
        frame, info = self._env.reset(seed=start.seed)
        for _ in range(start.resets):
            frame, info = self._env.reset()
        return Step(self._picture(frame), lives=_lives(info))

    def send(self, action: int) -> None:
        """Do the step, which takes no time beside us."""
        frame, reward, terminated, truncated, info = self._env.step(action)
        self._step = Step(
            self._picture(frame), float(reward), bool(terminated), bool(truncated), _lives(info)
        )

    def recv(self) -> Step:
        """What the step came to."""
        assert self._step is not None, "recv comes after send"
        step, self._step = self._step, None
        return step

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _picture(self, frame: np.ndarray) -> np.ndarray:
        picture = np.broadcast_to(frame.reshape(*frame.shape[:2], -1), (*frame.shape[:2], 3))
        picture = np.array(
            picture, order="C"
        )  # a copy: some environments draw into the same array again
        if self._size is None or picture.shape[:2] == self._size:
            return picture
        height, width = self._size
        image = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
        return np.asarray(image)


def _check_settings(id: str, given: Mapping[str, Any]) -> None:
    """Refuse what the environment's constructor does not take."""
    creator = extra("gymnasium").spec(id.rpartition(":")[2]).entry_point
    if isinstance(creator, str):
        creator = extra("gymnasium").envs.registration.load_env_creator(creator)
    taken = inspect.signature(creator).parameters
    if any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        return
    for name in given:
        if name not in taken:
            raise UserError(f"env_args.{name} is no setting of {id}{nearest(name, taken)}")


def _is_picture(space: Any) -> bool:
    shape = getattr(space, "shape", None)
    if shape is None or getattr(space, "dtype", None) != np.uint8:
        return False
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))


def _lives(info: Mapping[str, Any]) -> int | None:
    return int(info["lives"]) if "lives" in info else None
