"""Policies: what they do, that a seed decides it, and what they refuse."""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.recordings import RecordingWriter
from src.recordings.environments import Game
from src.recordings.environments.world import Start
from src.recordings.policies import Constant, Cyclic, Dwell, Policy, Random, Replay, policy_of
from src.utils.build import build
from src.utils.errors import UserError

DOT = Game("ToroidalDot-v0", "toroidal_dot")
FRAME = np.zeros((4, 4, 3), np.uint8)


def actions(policy: Policy, seed: int = 0, steps: int = 400, num_actions: int = 4) -> list[int]:
    policy.bind(DOT, num_actions)
    policy.reset(seed)
    chosen = [policy.act(FRAME, {}) for _ in range(steps)]
    assert None not in chosen
    return chosen  # type: ignore[return-value]


def test_random_does_everything_about_as_often() -> None:
    counts = np.bincount(actions(Random(), steps=4000), minlength=4)
    assert counts.sum() == 4000
    assert (abs(counts - 1000) < 150).all()


@pytest.mark.parametrize("policy", [Random(), Dwell()], ids=["random", "dwell"])
def test_the_seed_decides_an_episode_whatever_was_played_before(policy: Policy) -> None:
    first = actions(policy, seed=5)
    assert actions(policy, seed=6) != first
    assert actions(policy, seed=5) == first


def test_dwell_keeps_an_action_for_so_many_steps() -> None:
    # Four actions in 5000: a run is as long as drawn, or several of them where the same action was drawn again.
    runs = [len([*run]) for _, run in groupby(actions(Dwell(3, 5), steps=5000, num_actions=5000))]
    assert {*runs[:-1]} == {3, 4, 5}


def test_cyclic_and_constant() -> None:
    assert actions(Cyclic([0, 0, 3]), steps=7) == [0, 0, 3, 0, 0, 3, 0]
    assert actions(Constant(2), steps=3) == [2, 2, 2]


@pytest.mark.parametrize("policy", [Cyclic([0, 4]), Constant(-1), Cyclic(["left"])], ids=repr)
def test_an_action_outside_the_space_is_refused(policy: Policy) -> None:
    with pytest.raises(UserError, match="ToroidalDot-v0 has 0 to 3"):
        policy.bind(DOT, 4)


@pytest.mark.parametrize(("least", "most"), [(0, 3), (4, 3), ("some", 3), (1.5, 3)])
def test_a_dwell_without_a_length_is_refused(least: Any, most: int) -> None:
    with pytest.raises(UserError, match="min_dwell"):
        Dwell(least, most)


@pytest.mark.parametrize("sequence", [[], 3, None])
def test_no_sequence_is_refused(sequence: Any) -> None:
    with pytest.raises(UserError, match="policy.sequence=.* holds no action"):
        Cyclic(sequence)


def test_a_policy_is_built_from_a_config_and_describes_itself() -> None:
    policy = build({"_target_": "src.recordings.policies.Dwell", "min_dwell": 3, "max_dwell": 4})
    assert policy.describe() == {"name": "dwell", "min_dwell": 3, "max_dwell": 4}
    assert policy_of("random").describe() == {"name": "random"}
    with pytest.raises(UserError, match="'cyclic'"):
        policy_of("cylcic")


def recorded(path: Path, done: list[int], robot: str = "toroidal_dot", **meta: object) -> Path:
    """A recording of these actions, as somebody else may have made it."""
    with RecordingWriter(path, robot, [{"action": 0}, {"action": 1}], meta=meta) as writer:
        for action in done:
            writer.observe(FRAME)
            writer.act({"action": action})
        writer.observe(FRAME)
    return path


def test_replay_does_what_was_done_and_ends(tmp_path: Path) -> None:
    recorded(tmp_path / "session_a", [0, 1, 1, 0])
    recorded(tmp_path / "session_b", [1], seed=7, resets=2)
    policy = Replay(str(tmp_path))
    policy.bind(DOT, 2, episodes=2)
    policy.reset(0, episode=0)
    assert [policy.act(FRAME, {}) for _ in range(5)] == [0, 1, 1, 0, None]
    policy.reset(0, episode=1)
    assert [policy.act(FRAME, {}) for _ in range(2)] == [1, None]
    assert [policy.start(episode) for episode in range(2)] == [None, Start(7, 2)]
    assert Replay(str(tmp_path), same_seed=False).start(1) is None
    assert policy.describe()["recordings"] == ["session_a", "session_b"]


def test_replay_refuses_what_does_not_go_with_the_environment(tmp_path: Path) -> None:
    path = recorded(tmp_path / "session_a", [1])
    with pytest.raises(UserError, match="1 recordings for 2 episodes; give episodes=1"):
        Replay(str(path)).bind(DOT, 2, episodes=2)
    with pytest.raises(UserError, match="would do action 1"):
        Replay(str(path)).bind(DOT, 1)
    with pytest.raises(UserError, match="is a recording of toroidal_dot"):
        Replay(str(path)).bind(Game("ALE/Pong-v5", "atari_pong", "pong"), 6)
    other = recorded(tmp_path / "session_b", [1], env="ALE/Pong-v5")
    with pytest.raises(UserError, match="is a recording of ALE/Pong-v5"):
        Replay(str(other)).bind(DOT, 2)
    with pytest.raises(UserError, match="holds no recordings"):
        Replay(str(tmp_path / "nothing"))
