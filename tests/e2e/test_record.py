"""scripts/record.py as a person types it."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from src.recordings import find_recordings
from src.recordings.command import record
from src.recordings.policies import Random
from src.utils.errors import UserError
from src.utils.main import CONF


def test_recording_from_the_command_line(shell, tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    asked = ["env=ToroidalDot-v0", "policy=dwell", "policy.min_dwell=3", "env_args.radius=2"]
    asked += ["max_steps=5", f"root={root}"]
    printed = shell(*asked, "episodes=3", script="scripts/record.py")
    paths = find_recordings(root / "toroidal_dot")
    assert len(paths) == 3
    assert str(root / "toroidal_dot") in printed
    assert "3 episodes, 18 frames; 3 episodes recorded now" in printed
    assert "reward of an episode: 0.00 ± 0.00 (n = 3)" in printed
    inside = {file.name for path in paths for file in path.iterdir()}
    assert inside == {"session_meta.json", "events_shard_000.jsonl", "frames"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "env=ALE/Breakout-v5"),
        (["env=pong", "policy=none"], "policy=none"),
        (["env=pong", "episodes=[1,2]"], "episodes=.1, 2. must be a whole number"),
        (["from=lerobit"], "nearest: 'lerobot'"),
        (["from=lerobot"], "needs path="),
        (["from=lerobot", "path=/nowhere"], "/nowhere"),
    ],
    ids=str,
)
def test_what_is_missing_is_asked_for(overrides: list[str], message: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF)):
        cfg = compose("record", overrides=[*overrides, f"root={tmp_path}"])
    with pytest.raises(UserError, match=message):
        record(cfg)


def test_the_root_is_below_the_houses_data_directory() -> None:
    with initialize_config_dir(str(CONF)):
        assert compose("record").root == "data/recordings"
        assert compose("record", overrides=["paths.data_dir=/x"]).root == "/x/recordings"


def test_a_second_command_records_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with initialize_config_dir(str(CONF)):
        cfg = compose("record", overrides=["env=MiniBreakout-v0", f"root={tmp_path}"])
    with open_dict(cfg):
        cfg.max_steps, cfg.episodes = 4, 2
    record(cfg)
    cfg.episodes = 3
    record(cfg)
    assert "3 episodes, 15 frames; 1 episodes recorded now" in capsys.readouterr().out
    record(cfg)
    assert "0 episodes recorded now" in capsys.readouterr().out
    assert len(find_recordings(tmp_path)) == 3


def test_ctrl_c_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Random, observation: object, info: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Random, "act", interrupted)
    with initialize_config_dir(str(CONF)):
        cfg = compose("record", overrides=["env=MiniBreakout-v0", f"root={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        record(cfg)
    assert ended.value.code == 130
    assert "0 of 10 episodes are whole" in capsys.readouterr().err
