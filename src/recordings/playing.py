"""Playing episodes, several beside each other, and writing them down while the emulators run."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from src.recordings.environments.world import Start, Step, World
from src.recordings.policies import Policy
from src.recordings.writer import RecordingWriter

# Part of what an episode's number means: with others, the same numbers would be other episodes.
STREAMS = 8
LONGEST = 64  # resets that the last episode of a stream takes when it is recorded alone


class Player:
    """An environment, who plays it, and the episode that they are in.

    Args:
        world: nobody else's.
        policy: bound, and nobody else's.
        seed: of the collection; with an episode's number it decides the episode.
        max_steps: after which an episode is cut off; None lets it end by itself.
        begin: opens the recording of an episode, of which it is told the number and the start.
    """

    def __init__(
        self,
        world: World,
        policy: Policy,
        seed: int,
        max_steps: int | None,
        begin: Callable[[int, Start], RecordingWriter],
    ) -> None:
        self._world, self._policy, self._seed, self._max_steps = world, policy, seed, max_steps
        self._begin = begin
        self._writer: RecordingWriter | None = None
        self._steps, self._return = 0, 0.0
        self._reset: Future[Step] | None = None

    def start(self, number: int, aside: Executor) -> None:
        """Begin an episode; the environment may be reset ``aside``, while others play."""
        own, policy_seed = starts(self._seed, number, self.is_seeded)
        start = self._policy.start(number) or own
        self._policy.reset(policy_seed, number)
        self._steps, self._return = 0, 0.0
        self._next = (number, start)
        if self._world.may_reset_aside:
            self._reset = aside.submit(self._world.reset, start)
        else:
            self._reset = Future()
            self._reset.set_result(self._world.reset(start))

    @property
    def is_ready(self) -> bool:
        """Whether ``advance`` need not wait for a reset."""
        return self._reset is None or self._reset.done()

    @property
    def is_seeded(self) -> bool:
        """Whether every episode has a seed of its own."""
        return self._world.is_seeded

    def advance(self) -> bool:
        """Receive a frame, send the next action, write while the environment works; False when the episode is over."""
        if self._reset is not None:
            step, self._reset = self._reset.result(), None
            self._writer = self._begin(*self._next)
            return self._go_on(step)
        step = self._world.recv()
        self._steps += 1
        self._return += step.reward or 0.0
        return self._go_on(step)

    def interrupt(self, wanted: bool) -> None:
        """Leave the episode as it is: with a written end where a person ``wanted`` that, otherwise as it lies."""
        if self._writer is not None:
            if wanted:
                self._end(None)
            else:
                self._writer.abandon()

    def close(self) -> None:
        """Let go of the environment."""
        self._world.close()

    def _go_on(self, step: Step) -> bool:
        assert self._writer is not None, "an episode has begun"
        over = step.terminated or step.truncated or self._steps == self._max_steps
        told = {"reward": step.reward, "lives": step.lives}
        action = None if over else self._policy.act(step.frame, told)
        if action is not None:
            self._world.send(action)  # it works while we write
        truncated = action is None and not step.terminated
        data = told | {"terminated": step.terminated, "truncated": truncated}
        self._writer.observe(step.frame, **{k: v for k, v in data.items() if v is not None})
        if action is None:
            self._end("truncated" if truncated else "terminated")
            return False
        self._writer.act({"action": action})
        return True

    def _end(self, how: str | None) -> None:
        assert self._writer is not None
        self._writer.close(episode_end=how, episode_steps=self._steps, episode_return=self._return)
        self._writer = None


class _Queues:
    """The numbers to be played, by streams."""

    def __init__(self, numbers: Sequence[int], is_seeded: bool) -> None:
        self._left: dict[int, deque[int]] = {}
        self._of: dict[Player, int] = {}
        for number in numbers:
            self._left.setdefault(place(number, is_seeded)[0], deque()).append(number)

    def next(self, player: Player) -> int | None:
        """The next number of the player's stream; else of one that nobody plays; else of any."""
        stream = self._of.pop(player, None)
        if stream not in self._left:
            taken = {*self._of.values()}
            stream = next((one for one in self._left if one not in taken), None)
        if stream is None:
            stream = next(iter(self._left), None)
        if stream is None:
            return None
        self._of[player] = stream
        number = self._left[stream].popleft()
        if not self._left[stream]:
            del self._left[stream]
        return number


def play(
    players: Sequence[Player], numbers: Sequence[int], told: Callable[[int, int], Any]
) -> None:
    """Play the episodes of these numbers, each by the first player that is free, and tell of (frames, episodes) ended.

    An episode does not depend on who plays it, nor on when: a player that is free takes the next number, and as every
    number is played to its end, short episodes are not preferred.

    Raises:
        KeyboardInterrupt: somebody wanted it to end; the open episodes were closed without an end.
    """
    queues = _Queues(numbers, players[0].is_seeded)
    busy: list[Player] = []
    try:
        with ThreadPoolExecutor(len(players)) as aside:
            for player in players:
                busy += [player] if _start(player, queues, aside) else []
            while busy:
                for player in [one for one in busy if one.is_ready] or busy[:1]:
                    is_on = player.advance()
                    told(1, 0 if is_on else 1)
                    if not is_on and not _start(player, queues, aside):
                        busy.remove(player)
    except BaseException as error:  # whatever it is goes on; this only lets go of open files
        for player in busy:
            player.interrupt(wanted=isinstance(error, KeyboardInterrupt))
        raise


def place(number: int, is_seeded: bool) -> tuple[int, int]:
    """The stream that an episode belongs to, whose episodes share a seed, and its place there.

    Neighbours belong to different streams, so that players beside each other each have one.
    """
    if is_seeded:
        return number, 0
    block, rest = divmod(number, STREAMS * LONGEST)
    return block * STREAMS + rest % STREAMS, rest // STREAMS


def starts(seed: int, number: int, is_seeded: bool) -> tuple[Start, int]:
    """How an episode's environment is reset, and its policy's seed; unrelated to those of any other ``seed``."""
    stream, resets = place(number, is_seeded)
    return Start(_drawn(seed, 0, stream), resets), _drawn(seed, 1, number)


def _drawn(*words: int) -> int:
    """31 bits: more than that some environments do not take."""
    return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


def _start(player: Player, queues: _Queues, aside: Executor) -> bool:
    """Begin the next episode; False when none is left."""
    number = queues.next(player)
    if number is None:
        return False
    player.start(number, aside)
    return True


def session_path(folder: Path, stamp: str, number: int) -> Path:
    """Where the recording of an episode lies."""
    return folder / f"session_{stamp}_ep{number:05d}"
