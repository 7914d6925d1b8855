"""Recordings as data: what batches hold, and that no episode is in two splits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from src.recordings import RecordingWriter
from src.utils.build import build
from src.utils.errors import UserError
from src.utils.main import one_sentence

ACTIONS = [{"action": 0}, {"action": 1}]
EPISODES, STEPS = 6, 12


def frame(episode: int, step: int, size: int = 8) -> np.ndarray:
    """A picture that tells which one it is: its first element is the episode, its second the step."""
    picture = np.full((size, size, 3), 100, np.uint8)
    picture[0, 0, 0], picture[0, 0, 1] = episode, step
    return picture


def record(root: Path, episodes: int = EPISODES, size: int = 8, runs_of: int = 1) -> Path:
    """Episodes in which step s is reached by action s mod 2 and reward s."""
    for episode in range(episodes):
        path = root / "toy" / f"session_ep{episode}"
        with RecordingWriter(path, "Toy", ACTIONS) as writer:
            for step in range(STEPS):
                if step:
                    writer.act({"action": step % 2})
                last = step == STEPS - 1
                for _ in range(runs_of):
                    writer.observe(frame(episode, step, size), reward=float(step), terminated=last)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("recordings"))


@pytest.fixture
def load(compose_config):
    """``load(path, "data=recordings", …)`` → the datamodule as the command line would make it, set up."""

    def loaded(path: Path, *overrides: str):
        data = build(
            compose_config(
                *(overrides or ("data=recordings",)), f"data.path='{path}'", "data.batch_size=4"
            ).data
        )
        data.setup()
        return data

    return loaded


def told(x: torch.Tensor) -> torch.Tensor:
    """Episode and step of pictures (…, C, H, W) as the model sees them, (…, 2)."""
    return (x[..., :2, 0, 0] * 255).round().long()


def batches(data, split: str) -> dict[str, torch.Tensor]:
    """A whole split as the model gets it."""
    found = [data.on_after_batch_transfer(b, 0) for b in getattr(data, f"{split}_dataloader")()]
    return {name: torch.cat([batch[name] for batch in found]) for name in found[0]}


def test_every_frame_is_in_one_split_and_every_episode_too(load, root):
    data = load(root)
    assert data.shape == (3, 8, 8) and data.kind == "image"
    seen = [told(batches(data, split)["x"]) for split in ("train", "val", "test")]
    episodes = [set(part[:, 0].tolist()) for part in seen]
    assert [len(part) for part in episodes] == [4, 1, 1]
    assert set.union(*episodes) == set(range(EPISODES))
    assert len(torch.cat(seen).unique(dim=0)) == EPISODES * STEPS


def test_transitions_are_a_frame_an_action_and_the_next_frame(load, root):
    data = load(root, "data=recordings_transitions")
    batch = batches(data, "train")
    before, after = told(batch["x"]), told(batch["next"])
    assert len(before) == 4 * (STEPS - 1) and data.action_set == ACTIONS
    assert (before[:, 0] == after[:, 0]).all() and (before[:, 1] + 1 == after[:, 1]).all()
    assert (batch["action"] == after[:, 1] % 2).all()
    assert (batch["reward"] == after[:, 1]).all()
    assert (batch["ends"] == (after[:, 1] == STEPS - 1)).all()


def test_windows_hold_the_actions_between_their_frames(load, root):
    data = load(root, "data=recordings_windows", "data.window=5")
    assert data.shape == (5, 3, 8, 8) and data.kind == "sequence"
    batch = batches(data, "test")
    shown = told(batch["x"])
    assert shown.shape == (STEPS - 4, 5, 2)
    assert (shown[:, 1:, 1] - shown[:, :-1, 1] == 1).all()
    assert (batch["action"] == shown[:, 1:, 1] % 2).all()


def test_observations_without_actions_between_them_make_no_transitions(load, tmp_path):
    data = load(record(tmp_path, 3, runs_of=3), "data=recordings_transitions")
    batch = batches(data, "train")
    assert (told(batch["x"])[:, 1] + 1 == told(batch["next"])[:, 1]).all()


def test_background_and_mean_are_of_the_training_frames(load, root):
    data = load(root)
    x = batches(data, "train")["x"]
    torch.testing.assert_close(data.mean_frame, x.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.background, x.median(0).values, atol=1e-6, rtol=0)


def test_one_recording_is_split_by_time(load, tmp_path):
    path = record(tmp_path, 1)
    with pytest.raises(UserError, match="split_by=time"):
        load(path)
    data = load(path, "data=recordings", "data.split_by=time", "data.split=[0.5,0.25,0.25]")
    steps = [told(batches(data, split)["x"])[:, 1] for split in ("train", "val", "test")]
    assert [(int(part.min()), int(part.max())) for part in steps] == [(0, 5), (6, 8), (9, 11)]


def test_frames_of_other_sizes_are_scaled(load, tmp_path):
    record(tmp_path, 3)
    with RecordingWriter(tmp_path / "toy" / "session_other", "Toy", ACTIONS) as writer:
        for step in range(4):
            writer.observe(frame(9, step, 16))
    with pytest.raises(UserError, match="data.size"):
        load(tmp_path)
    data = load(tmp_path, "data=recordings", "data.size=8")
    assert data.shape == (3, 8, 8)


def test_an_episode_recorded_again_is_learned_from_once(load, tmp_path):
    for episode in range(3):
        for length in (STEPS, 4) if episode == 0 else (STEPS,):
            meta = {"collection": {"env": "Toy"}, "episode_index": episode}
            path = tmp_path / "toy" / f"session_{length}_{episode}"
            with RecordingWriter(path, "Toy", ACTIONS, meta=meta) as writer:
                for step in range(length):
                    writer.observe(frame(episode, step))
    data = load(tmp_path)
    seen = [told(batches(data, split)["x"])[:, 0] for split in ("train", "val", "test")]
    assert [len(part) for part in seen] == [STEPS] * 3


def converted(path: Path, episode: int, length: int, fingerprint: str, **collection: str) -> None:
    meta = {"collection": collection, "episode_index": episode, "source_fingerprint": fingerprint}
    with RecordingWriter(path, "Toy", ACTIONS, meta=meta) as writer:
        for step in range(length):
            writer.observe(frame(episode, step))


def test_datasets_of_one_name_are_two(load, tmp_path):
    for episode in range(3):
        for which in ("a", "b"):
            path = tmp_path / "toy" / f"session_{which}{episode}"
            converted(path, episode, STEPS, which, dataset="data")
    data = load(tmp_path)
    assert sum(len(data.splits[split]["x"]) for split in data.splits) == 6 * STEPS


def test_an_episode_that_was_converted_in_two_ways_is_in_one_split(load, tmp_path):
    for episode in range(5):
        for joint in ("pan", "lift"):
            path = tmp_path / "toy" / f"session_{joint}{episode}"
            converted(path, episode, STEPS, "a", dataset="data", joint=joint)
    data = load(tmp_path)
    seen = [set(told(batches(data, split)["x"])[:, 0].tolist()) for split in data.splits]
    assert [len(part) for part in seen] == [3, 1, 1] and set.union(*seen) == set(range(5))


def test_actions_may_hold_lists(load, tmp_path):
    """And those of two recordings are numbered alike, whatever their own order."""
    spaces = [[{"move": [0, 1]}, {"move": [1, 0]}], [{"move": [1, 0]}, {"move": [0, 1]}]]
    for episode in range(4):
        space = spaces[episode % 2]
        with RecordingWriter(tmp_path / "toy" / f"session_{episode}", "Toy", space) as writer:
            for step in range(STEPS):
                writer.observe(frame(episode, step))
                writer.act({"move": [step % 2, 1 - step % 2]})
    data = load(tmp_path, "data=recordings_transitions")
    batch = batches(data, "train")
    taken = [data.action_set[code]["move"][0] for code in batch["action"].tolist()]
    assert taken == (told(batch["x"])[:, 1] % 2).tolist() and len(data.action_set) == 2


def test_no_background_where_none_is_wanted(load, root):
    assert load(root, "data=recordings", "data.background=false").background is None


def test_the_shape_is_not_that_of_what_is_half_converted(load, tmp_path):
    converted(tmp_path / "toy" / ".converting" / "session_0", 0, 2, "a", dataset="data")
    record(tmp_path / "toy", 3, size=16)
    assert load(tmp_path).shape == (3, 16, 16)


def test_the_environment_of_a_stranger_s_run_imports_nothing(compose_config, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    config = compose_config("data=atari", "data.env='stranger:Game-v0'").data
    with pytest.raises(Exception) as caught:
        build(config).setup()
    assert "names a module to import" in one_sentence(caught.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.sample=frame"], "nearest: 'frames'"),
        (["data.split_by=frame"], "episode, time"),
        (["data.split=[1,0,0]"], "three positive fractions"),
    ],
)
def test_unknown_choices_are_told(load, root, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        load(root, "data=recordings", *overrides)


def test_a_window_longer_than_every_recording_is_refused(load, root):
    with pytest.raises(UserError, match="too short for windows of 50 frames"):
        load(root, "data=recordings_windows", "data.window=50")


@pytest.mark.parametrize("override", ["data.path=null", "data.path=nowhere", "data.size=[8]"])
def test_bad_paths_and_sizes_are_told_before_anything_is_built(compose_config, root, override):
    with pytest.raises(Exception) as caught:
        _ = compose_config("data=recordings", f"data.path='{root}'", override).data.shape
    assert override.partition("=")[0] in one_sentence(caught.value)
