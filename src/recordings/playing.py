"""Playing episodes, several beside each other, and writing them down while the emulators run."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from src.recordings.environments.world import Start, Step, World
from src.recordings.policies import Policy
from src.recordings.writer import RecordingWriter

# Episodes in a row that share a seed, where a reset is quicker than a seed. Part of what an episode's number means.
TOGETHER = 16


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
        own, policy_seed = starts(self._seed, number, self._world.is_seeded)
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


def play(
    players: Sequence[Player], numbers: Sequence[int], told: Callable[[int, int], Any]
) -> None:
    """Play the episodes of these numbers, each by one player, and tell of (frames, episodes) ended.

    An episode does not depend on who plays it, nor on when, and as every number is played to its end, short episodes
    are not preferred.

    Raises:
        KeyboardInterrupt: somebody wanted it to end; the open episodes were closed without an end.
    """
    left: dict[Player, deque[int]] = {player: deque() for player in players}
    left[players[0]].extend(numbers)
    busy: list[Player] = []
    try:
        with ThreadPoolExecutor(len(players)) as aside:
            busy += [player for player in players if _start(player, left, aside)]
            while busy:
                for player in [one for one in busy if one.is_ready] or busy[:1]:
                    is_on = player.advance()
                    told(1, 0 if is_on else 1)
                    if not is_on and not _start(player, left, aside):
                        busy.remove(player)
    except BaseException as error:  # whatever it is goes on; this only lets go of open files
        for player in busy:
            player.interrupt(wanted=isinstance(error, KeyboardInterrupt))
        raise


def starts(seed: int, number: int, is_seeded: bool) -> tuple[Start, int]:
    """How an episode's environment is reset, and its policy's seed; unrelated to those of any other ``seed``."""
    shared, resets = (number, 0) if is_seeded else divmod(number, TOGETHER)
    return Start(_drawn(seed, 0, shared), resets), _drawn(seed, 1, number)


def _drawn(*words: int) -> int:
    """31 bits: more than that some environments do not take."""
    return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


def _start(player: Player, left: dict[Player, deque[int]], aside: Executor) -> bool:
    """Begin the player's next episode, or one of whoever has most of them left; False when there is none."""
    mine, most = left[player], max(left.values(), key=len)
    if not mine:  # the later half, in one piece: neighbours share a seed
        mine.extendleft([most.pop() for _ in range((len(most) + 1) // 2)])
    if not mine:
        return False
    player.start(mine.popleft(), aside)
    return True
