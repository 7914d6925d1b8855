"""Which environment a name means, and what is called after it."""

import re
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from src.recordings.environments import atari
from src.recordings.environments.optional import extra
from src.utils.errors import UserError, nearest

# Ours: id → entry point, and after how many steps gymnasium.make ends an episode.
OURS = {
    "ToroidalDot-v0": ("src.recordings.environments.toroidal_dot:ToroidalDot", None),
    "MiniBreakout-v0": ("src.recordings.environments.mini_breakout:MiniBreakout", 10_000),
}


@dataclass(frozen=True)
class Game:
    """An environment that exists.

    Args:
        id: what gymnasium calls it.
        robot: the folder of its recordings, and their ``robot_type``.
        rom: of an ALE game, what ale-py calls it; None of any other.
    """

    id: str
    robot: str
    rom: str | None = None


def register_environments() -> None:
    """Make ours known to ``gymnasium.make``; ale-py does so for its games itself. May be called again."""
    gymnasium = extra("gymnasium")
    for name, (entry_point, max_steps) in OURS.items():
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=entry_point, max_episode_steps=max_steps)


def identify(name: str) -> Game:
    """The environment that a person means by ``name``: an id, or a game of ale-py in any usual spelling.

    Raises:
        UserError: there is none; the sentence names the nearest.
    """
    gymnasium = extra("gymnasium")
    register_environments()
    for known in OURS:
        if squashed(name) == squashed(known):
            return Game(known, snake_case(known))
    extra("ale_py")
    if rom := atari.find(name):
        return Game(atari.ale_id(rom), f"atari_{rom}", rom)
    module, _, rest = name.rpartition(":")
    if module:
        _import(module, name)
    if rest in gymnasium.registry:
        return Game(name, snake_case(rest))
    choices = [*OURS, *map(atari.ale_id, atari.games()), *atari.games(), *gymnasium.registry]
    close = nearest(name, choices)
    if close.startswith("; choices"):  # a thousand names would say nothing
        close = "; ours are ToroidalDot-v0 and MiniBreakout-v0, ALE's are such as ALE/Breakout-v5"
    raise UserError(f"env={name} is no environment and no Atari game{close}")


def squashed(name: str) -> str:
    """Lower-case letters and digits of a name, without its namespace and version: ``spaceinvaders``."""
    bare = re.sub(r"-v\d+$", "", name.rpartition("/")[2])
    return re.sub(r"[^a-z0-9]", "", bare.lower())


def snake_case(name: str) -> str:
    """``ToroidalDot-v0`` → ``toroidal_dot``."""
    bare = re.sub(r"-v\d+$", "", name.rpartition("/")[2])
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", bare)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def _import(module: str, name: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise  # something that the module needs
        raise UserError(f"env={name} names a module that is not there: '{module}'") from error
