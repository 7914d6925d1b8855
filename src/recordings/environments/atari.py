"""Games of ale-py: their names, and one emulator that is stepped without waiting."""

import re
from functools import cache
from typing import Any

import numpy as np

from src.recordings.environments.optional import extra
from src.recordings.environments.world import Start, Step
from src.utils.errors import UserError, nearest

# ROMs of games for two, which have no ALE/…-v5.
FOR_TWO = ("combat", "joust", "maze_craze", "warlords")
# What may be chosen, with what we choose; sticky actions are off, as in the reference's recordings.
DEFAULTS: dict[str, Any] = {
    "frameskip": 4,
    "repeat_action_probability": 0.0,
    "full_action_space": False,
    "noop_max": 30,
    "maxpool": True,
    "episodic_life": False,
    "use_fire_reset": True,
    "max_num_frames_per_episode": 108_000,
}
# Seeding loads the ROM again, which takes as long as 200 steps; a reset alone takes 10. But there are
# games that remember or draw something between resets as well.
SEEDED = ("hangman", "ice_hockey", "sir_lancelot", "surround", "yars_revenge")


@cache
def games() -> tuple[str, ...]:
    """The names of the ROMs in the wheel: ``space_invaders``."""
    return tuple(rom for rom in extra("ale_py").roms.get_all_rom_ids() if rom not in FOR_TWO)


def ale_id(rom: str) -> str:
    """``space_invaders`` → ``ALE/SpaceInvaders-v5``."""
    return f"ALE/{rom.title().replace('_', '')}-v5"


def find(name: str) -> str | None:
    """The ROM that a person means: ``ALE/Breakout-v5``, ``Breakout-v5``, ``Breakout``, ``breakout``.

    ``Breakout-v4`` and the like are none: gymnasium's older ids play by other rules.
    """
    bare = re.sub(r"^ALE/|-v5$", "", name)
    wanted = re.sub(r"[_ ]", "", bare.lower())
    return next((rom for rom in games() if rom.replace("_", "") == wanted), None)


def settings(given: dict[str, Any]) -> dict[str, Any]:
    """The emulator's settings: ours with those given.

    Raises:
        UserError: one that is unknown, or of the wrong type.
    """
    for key, value in given.items():
        if key not in DEFAULTS:
            raise UserError(
                f"env_args.{key} is no setting of an Atari game{nearest(key, DEFAULTS)}"
            )
        kind = type(DEFAULTS[key])
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind | int):
            raise UserError(f"env_args.{key}={value} is no {kind.__name__}")
        if kind is not bool and value < 0 or (key == "frameskip" and value < 1):
            raise UserError(f"env_args.{key}={value} is too small")
        if kind is float and value > 1:
            raise UserError(f"env_args.{key}={value} is no probability")
    return DEFAULTS | given


class Emulator:
    """One emulator in a thread of its own.

    One to a ``AtariVectorEnv``, and not all in one: so an episode that has ended costs nothing, no emulator waits for
    the slowest, and each is reset by a seed, so that no step is ever an automatic reset.
    Frames are new arrays, which nobody writes to later.
    """

    may_reset_aside = True

    def __init__(self, rom: str, size: tuple[int, int], given: dict[str, Any]) -> None:
        from ale_py.vector_env import AtariVectorEnv

        chosen = settings(given)
        self._env = AtariVectorEnv(
            rom,
            1,
            num_threads=1,
            img_height=size[0],
            img_width=size[1],
            grayscale=False,
            stack_num=1,
            reward_clipping=False,
            **chosen,
        )
        sticky = chosen["repeat_action_probability"] > 0
        self.is_seeded = sticky or rom in SEEDED
        self._at: Start | None = None
        actions = self._env.ale.get_action_set()
        self.num_actions = len(actions)
        self.meanings: list[str] | None = [action.name for action in actions]

    def reset(self, start: Start) -> Step:
        """The first frame of an episode: quick if it comes after the last one of the same seed.

        Without sticky actions an emulator draws at its resets and nowhere else, so that an episode follows from
        the seed and the number of resets, whatever was played between them.
        """
        at = self._at
        if at is None or at.seed != start.seed or at.resets >= start.resets:
            frames, info = self._env.reset(seed=np.array([start.seed]))
            at = Start(start.seed)
        for _ in range(at.resets, start.resets):
            frames, info = self._env.reset()
        self._at = start
        return Step(frames[0, 0], lives=int(info["lives"][0]))

    def send(self, action: int) -> None:
        """Start a step."""
        self._env.send(np.array([action]))

    def recv(self) -> Step:
        """Wait for the step's end."""
        frames, rewards, terminated, truncated, info = self._env.recv()
        return Step(
            frames[0, 0],
            float(rewards[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            int(info["lives"][0]),
        )

    def close(self) -> None:
        """Let go of the emulator; it ends with its last reference."""
        del self._env
