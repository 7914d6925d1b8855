"""Who plays while an episode is recorded. Every episode is decided by its seed alone, whoever played before."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from src.recordings.environments import Game
from src.recordings.environments.world import Start
from src.recordings.listing import find_recordings
from src.recordings.recording import Recording
from src.utils.errors import UserError, nearest


@dataclass
class Policy:
    """Chooses actions by number. ``bind`` once, ``reset`` before every episode, ``act`` before every step."""

    num_actions: int = field(default=0, init=False, repr=False)

    @property
    def name(self) -> str:
        """What the policy is called in configs and recordings."""
        return type(self).__name__.lower()

    def describe(self) -> dict[str, Any]:
        """What decides the policy, in plain values: part of what identifies a collection."""
        settings = {key: value for key, value in asdict(self).items() if key != "num_actions"}
        return {"name": self.name} | settings

    def bind(
        self, game: Game, num_actions: int, meanings: Sequence[str] | None = None, episodes: int = 1
    ) -> None:
        """Learn what there is to do, and how often.

        Raises:
            UserError: the policy does not go with the environment.
        """
        self.num_actions = num_actions
        for action in self._fixed():
            # True and False are numbers to Python, and no actions to a person.
            if type(action) is not int or not 0 <= action < num_actions:
                named = f" ({', '.join(meanings)})" if meanings else ""
                raise UserError(
                    f"policy={self.name} would do action {action}, "
                    f"but {game.id} has 0 to {num_actions - 1}{named}"
                )

    def start(self, episode: int) -> Start | None:
        """How an episode's environment is reset, for a policy that decides it; None leaves it to the collection."""
        return None

    def reset(self, seed: int, episode: int = 0) -> None:
        """Begin an episode."""
        raise NotImplementedError

    def act(self, observation: np.ndarray, info: Mapping[str, Any]) -> int | None:
        """The next action after ``observation`` (H, W, 3) uint8; None ends the episode.

        ``info`` holds what else the environment told: reward, lives.
        """
        raise NotImplementedError

    def _fixed(self) -> Sequence[int]:
        return ()


@dataclass
class Random(Policy):
    """Any action at every step, all as likely."""

    def reset(self, seed: int, episode: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def act(self, observation: np.ndarray, info: Mapping[str, Any]) -> int | None:
        return int(self._random.integers(self.num_actions))


@dataclass
class Dwell(Policy):
    """Any action, kept for a random number of steps.

    Args:
        min_dwell: steps, at least one.
        max_dwell: steps; all numbers between are as likely.

    Raises:
        UserError: there is no number between.
    """

    min_dwell: int = 2
    max_dwell: int = 8

    def __post_init__(self) -> None:
        bounds = (self.min_dwell, self.max_dwell)
        if not all(type(bound) is int for bound in bounds) or not 1 <= bounds[0] <= bounds[1]:
            raise UserError(
                f"policy.min_dwell={self.min_dwell} and policy.max_dwell={self.max_dwell} leave no number of steps; "
                "give whole numbers, 1 ≤ min_dwell ≤ max_dwell"
            )

    def reset(self, seed: int, episode: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._left = 0

    def act(self, observation: np.ndarray, info: Mapping[str, Any]) -> int | None:
        if not self._left:
            self._left = int(self._random.integers(self.min_dwell, self.max_dwell + 1))
            self._action = int(self._random.integers(self.num_actions))
        self._left -= 1
        return self._action


@dataclass
class Cyclic(Policy):
    """The same actions over and over.

    Args:
        sequence: numbers of actions.

    Raises:
        UserError: there are none.
    """

    sequence: Sequence[int] = (0, 1)

    def __post_init__(self) -> None:
        if not isinstance(self.sequence, Sequence) or not self.sequence:
            raise UserError(
                f"policy.sequence={self.sequence} holds no action; give some, as in [0,1]"
            )
        self.sequence = [*self.sequence]  # a config's own kind of list is no JSON

    def reset(self, seed: int, episode: int = 0) -> None:
        self._step = 0

    def act(self, observation: np.ndarray, info: Mapping[str, Any]) -> int | None:
        action = self.sequence[self._step % len(self.sequence)]
        self._step += 1
        return action

    def _fixed(self) -> Sequence[int]:
        return self.sequence


@dataclass
class Constant(Policy):
    """Always the same action.

    Args:
        action: its number.
    """

    action: int = 0

    def reset(self, seed: int, episode: int = 0) -> None:
        pass

    def act(self, observation: np.ndarray, info: Mapping[str, Any]) -> int | None:
        return self.action

    def _fixed(self) -> Sequence[int]:
        return (self.action,)


@dataclass
class Replay(Policy):
    """The actions of recordings, in their order; the n-th episode plays the n-th recording and ends with it.

    Args:
        path: a recording, or a folder of some.
        same_seed: reset the environment by the recording's own seed, where it tells one, so that its frames come again.
    """

    path: str = ""
    same_seed: bool = True

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("policy=replay needs policy.path=<a recording, or a folder of some>")
        self._found = find_recordings(str(self.path))
        if not self._found:
            raise UserError(f"policy.path={self.path} holds no recordings")
        self._actions: list[list[int]] = []
        self._starts: list[Start | None] = []

    def describe(self) -> dict[str, Any]:
        """Recordings by their names, wherever they lie."""
        names = [path.name for path in self._found]
        return {"name": self.name, "recordings": names, "same_seed": self.same_seed}

    def bind(
        self, game: Game, num_actions: int, meanings: Sequence[str] | None = None, episodes: int = 1
    ) -> None:
        """Read the actions of as many recordings as there shall be episodes."""
        if episodes > len(self._found):
            raise UserError(
                f"policy.path={self.path} holds {len(self._found)} recordings for {episodes} episodes; "
                f"give episodes={len(self._found)}"
            )
        opened = [Recording.open(path) for path in self._found[:episodes]]
        self._actions = [_actions(one, game) for one in opened]
        self._starts = [_start(one) for one in opened]
        super().bind(game, num_actions, meanings, episodes)

    def start(self, episode: int) -> Start | None:
        """The recording's own, where it tells one."""
        return self._starts[episode] if self.same_seed else None

    def reset(self, seed: int, episode: int = 0) -> None:
        self._left = iter(self._actions[episode])

    def act(self, observation: np.ndarray, info: Mapping[str, Any]) -> int | None:
        return next(self._left, None)

    def _fixed(self) -> Sequence[int]:
        return sorted({action for actions in self._actions for action in actions})


def _start(recording: Recording) -> Start | None:
    seed, resets = recording.meta.get("seed"), recording.meta.get("resets", 0)
    return Start(seed, resets) if isinstance(seed, int) and isinstance(resets, int) else None


def _actions(recording: Recording, game: Game) -> list[int]:
    """The actions of a recording of ``game``, by number."""
    made_in = str(recording.meta.get("env", recording.robot))
    if made_in not in (game.id, game.robot):
        raise UserError(f"{recording.path} is a recording of {made_in}, not of {game.id}")
    numbers = [action.get("action") for action in recording.action_set]
    if not all(type(number) is int for number in numbers):
        raise UserError(f"{recording.path} holds actions that have no number: {numbers}")
    return [numbers[code] for code in recording.action_codes]


POLICIES: dict[str, type[Policy]] = {
    policy.__name__.lower(): policy for policy in (Random, Dwell, Cyclic, Constant, Replay)
}


def policy_of(name: str) -> Policy:
    """The policy of that name with its own settings.

    Raises:
        UserError: there is none.
    """
    if name not in POLICIES:
        raise UserError(f"there is no policy '{name}'{nearest(name, POLICIES)}")
    return POLICIES[name]()
