"""Collecting: what is recorded is what was played, the seed decides it, and what is there is not recorded again."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv

from src.recordings import Recording, RecordingWriter
from src.recordings.collect import collect, plan_of
from src.recordings.environments import register_environments
from src.recordings.playing import starts
from src.recordings.policies import Constant, Dwell, Replay
from src.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def frames(recording: Recording) -> np.ndarray:
    """(N, H, W, 3) as decoded one by one."""
    return np.stack([recording.frame(index) for index in range(len(recording.observations))])


def content(path: Path) -> tuple[bytes, list[int], list[float]]:
    """All frames, actions and rewards of a recording."""
    one = Recording.open(path)
    return frames(one).tobytes(), one.action_codes.tolist(), one.rewards[1:].tolist()


def test_a_recording_is_what_gymnasium_shows(tmp_path: Path) -> None:
    (path,) = collect("MiniBreakout-v0", 1, root=tmp_path, policy=Dwell(), progress=False)
    one = Recording.open(path)
    register_environments()
    env = gymnasium.make("MiniBreakout-v0")
    shown = [env.reset(seed=one.meta["seed"])[0]]
    rewards = []
    for code in one.action_codes:
        frame, reward, terminated, truncated, info = env.step(one.action_set[code]["action"])
        shown.append(frame)
        rewards.append(reward)
    assert (frames(one) == np.stack(shown)).all()
    assert one.rewards[1:].tolist() == rewards
    assert np.isnan(one.rewards[0])
    assert (terminated, truncated) == (True, False)
    assert one.terminated.tolist() == [False] * (len(shown) - 1) + [True]
    assert not one.truncated.any()
    assert one.event(one.num_events - 1)["data"]["lives"] == info["lives"] == 0
    assert one.meta["episode_end"] == "terminated"
    assert one.meta["episode_return"] == sum(rewards)
    assert one.meta["episode_steps"] == len(rewards)


def test_an_atari_recording_is_what_ale_py_shows(tmp_path: Path) -> None:
    plan = plan_of("breakout", 17, root=tmp_path, max_steps=None, num_envs=2, progress=False)
    paths = plan.record([0, 2, 16], 17)
    for number, resets, path in zip([0, 2, 16], [0, 2, 0], paths, strict=True):
        one = Recording.open(path)
        assert (one.meta["episode_index"], one.meta["resets"]) == (number, resets)
        env = AtariVectorEnv(
            "breakout",
            1,
            img_height=64,
            img_width=64,
            grayscale=False,
            stack_num=1,
            reward_clipping=False,
        )
        shown = [env.reset(seed=np.array([one.meta["seed"]]))[0][0, 0].copy()]
        for _ in range(resets):
            shown = [env.reset()[0][0, 0].copy()]
        rewards = []
        for code in one.action_codes:
            frame, reward, terminated, _, info = env.step(np.array([code]))
            shown.append(frame[0, 0].copy())
            rewards.append(float(reward[0]))
        assert (frames(one) == np.stack(shown)).all()
        assert one.rewards[1:].tolist() == rewards
        # The game's own end is the recording's last frame, and no automatic reset comes after it.
        assert terminated[0] and one.terminated[-1]
        assert not one.terminated[:-1].any()
        assert info["lives"][0] == one.event(one.num_events - 1)["data"]["lives"] == 0
    assert len({content(path)[0] for path in paths}) == 3


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_an_episode_is_the_same_whoever_plays_beside_it(sticky: float, tmp_path: Path) -> None:
    kept: list[Any] = []
    settings = {"repeat_action_probability": sticky}
    for beside, numbers in ((1, [0, 1, 3, 17]), (2, [0, 1, 3, 17]), (4, [0, 1, 3, 17]), (1, [17])):
        plan = plan_of("seaquest", 18, root=tmp_path, max_steps=40, env_args=settings)
        plan.num_envs, plan.progress = beside, False
        kept.append([content(path) for path in plan.record(numbers, 18)])
    assert kept[0] == kept[1] == kept[2]
    assert kept[0][3:] == kept[3]
    assert len({one[0] for one in kept[0]}) == 4


def test_every_episode_has_a_start_of_its_own() -> None:
    for is_seeded in (True, False):
        found = {starts(seed, number, is_seeded) for seed in range(3) for number in range(600)}
        assert len(found) == 1800
        assert len({policy for _, policy in found}) == 1800


def test_an_episode_that_goes_on_is_cut_off(tmp_path: Path) -> None:
    for path in collect("ToroidalDot-v0", 2, root=tmp_path, max_steps=4, progress=False):
        one = Recording.open(path)
        assert (len(one.observations), len(one.actions)) == (5, 4)
        assert one.truncated.tolist() == [False] * 4 + [True]
        assert not one.terminated.any()
        assert one.meta["episode_end"] == "truncated"
        assert one.finished


def test_names_and_metadata(tmp_path: Path) -> None:
    paths = collect("pong", 2, root=tmp_path, seed=3, max_steps=2, size=(32, 48), progress=False)
    assert [path.parent for path in paths] == [tmp_path / "atari_pong"] * 2
    assert [path.name[-8:] for path in paths] == ["_ep00000", "_ep00001"]
    one = Recording.open(paths[1])
    assert one.frame(0).shape == (32, 48, 3)
    assert one.robot == "atari_pong"
    assert one.action_set == [{"action": number} for number in range(6)]
    meta = one.meta
    assert meta["action_meanings"][:3] == ["NOOP", "FIRE", "RIGHT"]
    assert (meta["env"], meta["episode_index"]) == ("ALE/Pong-v5", 1)
    assert meta["collection"] == Recording.open(paths[0]).meta["collection"]
    wanted = {"env": "ALE/Pong-v5", "seed": 3, "size": [32, 48], "max_steps": 2}
    assert meta["collection"] | wanted == meta["collection"]
    assert meta["collection"]["policy"] == {"name": "random"}
    assert meta["collection"]["env_args"]["frameskip"] == 4


def test_frames_of_any_environment_are_scaled(tmp_path: Path) -> None:
    (path,) = collect("ToroidalDot-v0", 1, root=tmp_path, max_steps=1, size=56, progress=False)
    assert frames(Recording.open(path)).shape == (2, 56, 56, 3)


@pytest.mark.filterwarnings("ignore:.*share an object")
def test_an_environment_of_somebodys_module_may_draw_into_the_same_array_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting_world.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    world = "counting_world:Counting-v0"
    asked: dict[str, Any] = {"root": tmp_path, "max_steps": 3, "progress": False}
    (path,) = collect(world, 1, env_args={"first": 5}, **asked)
    assert frames(Recording.open(path))[:, 0, 0, 0].tolist() == [5, 6, 7, 8]
    with pytest.raises(UserError, match="nearest: 'first'"):
        collect(world, 1, env_args={"frist": 5}, **asked)


COUNTING = """
import gymnasium
import numpy as np

class Counting(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, first=0):
        self.first, self.frame = first, np.zeros((4, 4, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.frame[:] = self.first
        return self.frame, {}

    def step(self, action):
        self.frame += 1
        return self.frame, 0.0, False, False, {}

gymnasium.register(id="Counting-v0", entry_point="counting_world:Counting")
"""


def mini(root: Path, episodes: int, **settings: Any) -> list[Path]:
    settings = {"root": root, "max_steps": 6, "progress": False} | settings
    return plan_of("MiniBreakout-v0", episodes, **settings).ensure(episodes)


def test_only_what_is_missing_is_recorded(tmp_path: Path) -> None:
    first = mini(tmp_path, 2)
    times = [(path / "session_meta.json").stat().st_mtime_ns for path in first]
    assert mini(tmp_path, 2) == first
    longer = mini(tmp_path, 4)
    assert longer[:2] == first
    assert [Recording.open(path).meta["episode_index"] for path in longer] == [0, 1, 2, 3]
    assert [(path / "session_meta.json").stat().st_mtime_ns for path in first] == times
    assert mini(tmp_path, 3) == longer[:3]


@pytest.mark.parametrize(
    "changed",
    [{"seed": 1}, {"policy": Constant(1)}, {"size": 32}, {"env_args": {"lives": 2}}],
    ids=str,
)
def test_another_seed_policy_size_or_setting_is_another_collection(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    first = mini(tmp_path, 2)
    other = mini(tmp_path, 2, **changed)
    assert not {*first} & {*other}
    assert mini(tmp_path, 2) == first
    assert mini(tmp_path, 2, **changed) == other


def test_a_replay_shows_the_recorded_frames_again(tmp_path: Path) -> None:
    plan = plan_of("seaquest", 2, root=tmp_path / "a", max_steps=15, progress=False)
    (original,) = plan.record([1], 2)
    policy = Replay(str(original))
    again = collect("seaquest", 1, policy=policy, root=tmp_path / "b", progress=False)
    assert Recording.open(again[0]).meta["resets"] == 1
    assert content(again[0]) == content(original)
    assert Recording.open(again[0]).meta["episode_end"] == "truncated"


def test_replaying_a_recording_without_actions_ends_at_once(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "session_still", "mini_breakout") as writer:
        writer.observe(np.zeros((64, 64, 3), np.uint8))
    policy = Replay(str(tmp_path / "session_still"))
    (path,) = collect("MiniBreakout-v0", 1, policy=policy, root=tmp_path / "b", progress=False)
    assert len(Recording.open(path).observations) == 1


def test_progress_without_a_terminal_is_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collect("MiniBreakout-v0", 2, root=tmp_path, max_steps=3)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("MiniBreakout-v0: 2 of 2 episodes, 8 frames")
    assert printed.err.count("\n") == 1
