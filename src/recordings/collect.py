"""Recording episodes of an environment."""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from src.recordings.collection import collected, key, missing_episodes
from src.recordings.environments import Game, atari, identify
from src.recordings.environments.gymnasium_world import GymnasiumWorld
from src.recordings.environments.world import Start, World
from src.recordings.files import explained
from src.recordings.images import ImageFormat, ending
from src.recordings.meter import Meter
from src.recordings.playing import Player, play
from src.recordings.policies import Policy, policy_of
from src.recordings.writer import RecordingWriter
from src.utils.cores import cores
from src.utils.errors import UserError
from src.utils.pictures import pair

ATARI_SIZE = (64, 64)


@dataclass
class Plan:
    """How episodes are recorded. Which ones they become follows from ``collection()`` and their numbers alone.

    Args:
        game: the environment.
        policy: who plays.
        root: the recordings' own folders lie below it, in one of the game.
        seed: of the episodes and the policy.
        size: H, W of the frames; None: 64 × 64 for Atari, otherwise as the environment shows them.
        max_steps: after which an episode is cut off; None lets it end by itself.
        env_args: settings of the environment.
        image_format: png and webp keep every bit.
        num_envs: environments beside each other; None: two a core for Atari, one otherwise.
        progress: whether to tell how it goes.

    Raises:
        UserError: a number is not possible.
    """

    game: Game
    policy: Policy
    root: Path
    seed: int = 0
    size: tuple[int, int] | None = None
    max_steps: int | None = 1000
    env_args: Mapping[str, Any] = field(default_factory=dict)
    image_format: ImageFormat = "png"
    num_envs: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        _check_whole("seed", self.seed, 0)
        for name in ("max_steps", "num_envs"):
            if (value := getattr(self, name)) is not None:
                _check_whole(name, value, 1)
        ending(self.image_format)
        if self.game.rom:
            self.env_args = atari.settings(dict(self.env_args))
            self.size = self.size or ATARI_SIZE

    def collection(self) -> dict[str, Any]:
        """What identifies the episodes: all that decides their frames and actions, but not how fast they are played."""
        return {
            "env": self.game.id,
            "robot": self.game.robot,
            "policy": self.policy.describe(),
            "seed": self.seed,
            "size": None if self.size is None else list(self.size),
            "max_steps": self.max_steps,
            "env_args": dict(self.env_args),
            "lossless": self.image_format != "jpeg",
        }

    def missing(self, episodes: int) -> list[int]:
        """The numbers below ``episodes`` that are not recorded yet."""
        return missing_episodes(self.root, self.collection(), episodes)

    def ensure(self, episodes: int) -> list[Path]:
        """Record what is missing of the first ``episodes`` episodes; returns the directories of all, in their order.

        Two processes may ask at once: one records, the other waits for it.
        """
        if self.missing(episodes):
            with _locked(self.root / self.game.robot, self.collection()):
                if missing := self.missing(episodes):  # still
                    self.record(missing, episodes)
        return collected(self.root, self.collection(), episodes)

    def record(self, numbers: Sequence[int], episodes: int) -> list[Path]:
        """Record the episodes of these ``numbers``, out of ``episodes``; returns their directories."""
        worlds = [self._world() for _ in range(self._beside(len(numbers)))]
        first = worlds[0]
        self.policy.bind(self.game, first.num_actions, first.meanings, episodes)
        # To the microsecond: others may begin this second.
        stamp = f"{datetime.now():%Y%m%d_%H%M%S_%f}"
        folder = self.root / self.game.robot
        paths = {number: folder / f"session_{stamp}_ep{number:05d}" for number in numbers}
        actions = [{"action": number} for number in range(first.num_actions)]
        meta = self._meta(first)

        def begin(number: int, start: Start) -> RecordingWriter:
            own = {"episode_index": number, **start._asdict(), "episode_end": None}
            robot, form = self.game.robot, self.image_format
            return RecordingWriter(
                paths[number], robot, actions, image_format=form, meta=meta | own
            )

        players = [
            Player(world, copy.deepcopy(self.policy), self.seed, self.max_steps, begin)
            for world in worlds
        ]
        try:
            with Meter(self.game.id, len(numbers), self.progress) as meter:
                play(players, numbers, meter)
        finally:
            for player in players:
                player.close()
        return [*paths.values()]

    def _world(self) -> World:
        if self.game.rom and self.size:
            return atari.Emulator(self.game.rom, self.size, dict(self.env_args))
        return GymnasiumWorld(self.game.id, self.size, self.env_args)

    def _beside(self, episodes: int) -> int:
        wanted = self.num_envs or (2 * cores() if self.game.rom else 1)
        return min(wanted, episodes)

    def _meta(self, world: World) -> dict[str, Any]:
        packages = ["gymnasium", *(["ale-py"] if self.game.rom else [])]
        return {
            "env": self.game.id,
            "collection": self.collection(),
            "made_with": {package: version(package) for package in packages},
        } | ({"action_meanings": world.meanings} if world.meanings else {})


def collect(env: str, episodes: int, **settings: Any) -> list[Path]:
    """Record ``episodes`` episodes anew; returns their directories in their order. Settings as of ``plan_of``.

    Raises:
        UserError: there is no such environment, it does not go with the policy, or nothing can be written.
    """
    return plan_of(env, episodes, **settings).record(range(episodes), episodes)


def plan_of(
    env: str,
    episodes: int,
    policy: Policy | str = "random",
    root: str | Path = "data/recordings",
    seed: int = 0,
    size: int | Sequence[int] | None = None,
    max_steps: int | None = 1000,
    **settings: Any,
) -> Plan:
    """The plan of what a person says.

    Args:
        env: an id of gymnasium, or a game of ale-py in any usual spelling.
        episodes: how many there shall be.
        policy: who plays, or the name of a policy that needs no settings.
        root: see ``Plan``, as the rest.
        seed: see there.
        size: H, or H and W.
        max_steps: see there.
        settings: see there.

    Raises:
        UserError: there is no such environment or policy, or a number is not possible.
    """
    _check_whole("episodes", episodes, 1)
    chosen = policy_of(policy) if isinstance(policy, str) else policy
    sides = None if size is None else pair(size, "size")
    return Plan(identify(env), chosen, Path(root), seed, sides, max_steps, **settings)


def _check_whole(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:  # True is a number to Python
        raise UserError(f"{name}={value} must be a whole number from {least}")


@contextmanager
def _locked(folder: Path, collection: Mapping[str, Any]) -> Iterator[None]:
    lock = FileLock(folder / f".{key(collection)}.lock")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print("another process records these episodes; waiting for it", file=sys.stderr)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
