"""Collecting that goes wrong: interruptions, full disks, two processes at once, and bad input."""

import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.recordings import Recording, RecordingWriter, find_recordings
from src.recordings.collect import collect, plan_of
from src.recordings.collection import collected, missing_episodes
from src.recordings.policies import Constant, Random
from src.utils.errors import UserError

ROOT = Path(__file__).parents[2]


def mini(root: Path, episodes: int, **settings: Any) -> list[Path]:
    settings = {"root": root, "max_steps": 6, "progress": False} | settings
    return plan_of("MiniBreakout-v0", episodes, **settings).ensure(episodes)


class Interrupting(Random):
    """Somebody presses Ctrl-C at a step of the second episode."""

    def reset(self, seed: int, episode: int = 0) -> None:
        super().reset(seed, episode)
        self.at = (episode, 0)

    def act(self, observation: np.ndarray, info: Mapping[str, Any]) -> int | None:
        self.at = (self.at[0], self.at[1] + 1)
        if self.at == (1, 4):
            raise KeyboardInterrupt
        return super().act(observation, info)

    @property
    def name(self) -> str:
        return "random"


def test_what_was_interrupted_stays_readable_and_is_recorded_anew(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        mini(tmp_path, 3, policy=Interrupting())
    left = [Recording.open(path) for path in find_recordings(tmp_path)]
    assert [one.meta["episode_end"] for one in left] == ["truncated", None]
    assert [len(one.observations) for one in left] == [7, 3]
    assert left[1].finished and not left[1].truncated.any()
    paths = mini(tmp_path, 3)
    assert paths[0] == left[0].path and left[1].path not in paths
    assert [Recording.open(path).meta["episode_end"] for path in paths] == ["truncated"] * 3


def test_a_full_disk_leaves_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RecordingWriter.observe

    def full(self: RecordingWriter, frame: np.ndarray, *args: Any, **data: Any) -> int:
        if self.path.name.endswith("ep00001") and self.steps >= 4:
            raise UserError("no space left")
        return whole(self, frame, *args, **data)

    monkeypatch.setattr(RecordingWriter, "observe", full)
    with pytest.raises(UserError, match="no space left"):
        mini(tmp_path, 3)
    left = [Recording.open(path) for path in find_recordings(tmp_path)]
    assert [len(one.observations) for one in left] == [7, 2]
    assert [one.finished for one in left] == [True, False]
    plan = plan_of("MiniBreakout-v0", 3, root=tmp_path, max_steps=6)
    assert missing_episodes(tmp_path, plan.collection(), 3) == [1, 2]
    assert collected(tmp_path, plan.collection(), 3) == [left[0].path]


def test_two_processes_that_ask_at_once_record_once(tmp_path: Path) -> None:
    code = (
        "import sys; from src.recordings.collect import plan_of; "
        "print(*plan_of('MiniBreakout-v0', 3, root=sys.argv[1], max_steps=200).ensure(3))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert printed[0] == printed[1] != ""
    assert len(find_recordings(tmp_path)) == 3


def test_collections_that_begin_at_once_do_not_meet(tmp_path: Path) -> None:
    def recorded(seed: int) -> Path:
        return collect("MiniBreakout-v0", 1, root=tmp_path, seed=seed, max_steps=2, progress=False)[
            0
        ]

    with ThreadPoolExecutor(6) as pool:
        paths = [*pool.map(recorded, range(6))]
    starts = [(Recording.open(path).meta["collection"]["seed"]) for path in paths]
    assert starts == [*range(6)] and len({*paths}) == 6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"episodes": 0}, "episodes=0"),
        ({"env": "CartPole-v1"}, "shows no pictures"),
        ({"env": "brekout"}, "nearest: 'breakout'"),
        ({"episodes": [0, 3]}, "episodes="),
        ({"seed": -1}, "seed=-1"),
        ({"seed": None}, "seed=None"),
        ({"seed": 0.5}, "seed=0.5 must be a whole number from 0"),
        ({"max_steps": "many"}, "max_steps=many"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"size": 0}, "size=0"),
        ({"size": [1, 2, 3]}, "size="),
        ({"size": "big"}, "size="),
        ({"size": 6.5}, "size=6.5"),
        ({"image_format": "gif"}, "image_format=gif"),
        ({"policy": "rondom"}, "'random'"),
        ({"policy": Constant(4), "env": "breakout"}, "ALE/Breakout-v5 has 0 to 3"),
        ({"env_args": {"live": 2}}, "nearest: 'lives'"),
        ({"env_args": {"lives": 0}}, "lives=0"),
        ({"env": "breakout", "env_args": {"frameskp": 2}}, "nearest: 'frameskip'"),
        ({"env": "breakout", "env_args": {"frameskip": 0}}, "frameskip=0"),
        ({"env": "breakout", "env_args": {"repeat_action_probability": 2}}, "no probability"),
    ],
    ids=str,
)
def test_bad_input_is_refused_before_anything_is_written(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    settings = {"env": "MiniBreakout-v0", "episodes": 1, "root": tmp_path, "progress": False}
    with pytest.raises(UserError, match=message):
        collect(**(settings | changed))
    assert find_recordings(tmp_path) == []


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        collect("MiniBreakout-v0", 1, root=tmp_path / "file", progress=False)
    with pytest.raises(UserError, match="file"):
        mini(tmp_path / "file", 1)


def test_damaged_metadata_is_no_whole_episode(tmp_path: Path) -> None:
    paths = mini(tmp_path, 2)
    meta = paths[0] / "session_meta.json"
    meta.write_text(meta.read_text()[:40])
    assert mini(tmp_path, 2)[1] == paths[1]
    assert json.loads((mini(tmp_path, 2)[0] / "session_meta.json").read_text())["seed"]
