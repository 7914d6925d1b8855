"""Hand poses as a model gets them: drawn, read from every kind of folder, and written."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.datamodules.hand_export import write_poses
from src.datamodules.hand_generator import STYLES, generate
from src.datamodules.hand_plan import DrawnPoses, Source, by_sequence
from src.datamodules.hand_sources import neighbours
from src.utils.build import build
from src.utils.errors import UserError

SPLITS = ("train", "val", "test")
SMALL = ("data.frames=900", "data.batch_size=64")


@pytest.fixture(scope="module")
def make(compose_config):
    """``make("data.frames=90", …)`` → the datamodule as the command line would make it; composed once."""
    whole = compose_config("data=hand_poses", "data.batch_size=2")
    return lambda *overrides: build(
        OmegaConf.merge(whole, OmegaConf.from_dotlist([*overrides])).data
    )


@pytest.fixture(scope="module")
def load(make):
    def loaded(*overrides: str):
        data = make(*overrides)
        data.setup()
        return data

    return loaded


def everything(data) -> np.ndarray:
    """All splits of data together, sorted by content."""
    x = np.concatenate([data.splits[split]["x"].numpy() for split in SPLITS]).reshape(-1, 90)
    return x[np.lexsort(x.T)]


def moving(frames: int, seed: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, 90)).astype(np.float32)
    return {"lhand_pose": x[:, :45], "rhand_pose": x[:, 45:]}


def assert_no_sequence_is_in_two_splits(data) -> None:
    ids = {split: set(data.sequences[split].tolist()) for split in SPLITS}
    assert all(ids.values())
    assert not ids["train"] & ids["val"] | ids["train"] & ids["test"] | ids["val"] & ids["test"]


# -- drawn


def test_drawn_poses_have_the_contract_that_models_rely_on(load):
    data = load(*SMALL)
    assert (data.kind, data.value_range, data.shape) == ("vector", "rotation", (30, 3))
    assert [len(data.splits[split]["x"]) for split in SPLITS] == [720, 90, 90]
    batch = next(iter(data.train_dataloader()))
    assert batch.keys() == {"x"} and batch["x"].shape == (64, 30, 3)
    for split in SPLITS:
        x = data.floats(split)
        assert x.dtype == torch.float32 and float(x.norm(dim=-1).max()) <= np.pi
        assert data.sequences[split].shape == (len(x),)
    # Radians as they were drawn: nothing is standardised.
    drawn = np.concatenate([generate(style, 300, 0)[0] for style in STYLES]).reshape(-1, 90)
    np.testing.assert_array_equal(everything(data), drawn[np.lexsort(drawn.T)])


def test_every_style_is_in_every_split(load):
    data = load("data.frames=600", "data.styles=[signing,talking]")
    for split, count in zip(SPLITS, (240, 30, 30), strict=True):
        talking = data.sequences[split] >= 300  # the second style's follow the first one's
        assert [int((~talking).sum()), int(talking.sum())] == [count, count]


def test_sequences_are_whole_in_one_split_and_in_their_order(load):
    data = load("data.frames=9000", "data.temporal=true")
    assert_no_sequence_is_in_two_splits(data)
    ids = torch.cat([data.sequences[split] for split in SPLITS])
    assert len(ids.unique()) == len(ids.unique_consecutive()) > 30
    x, ids = data.floats("train"), data.sequences["train"]
    steps, same = (x[1:] - x[:-1]).square().mean((1, 2)), ids[1:] == ids[:-1]
    assert steps[same].mean() < 0.2 * steps[~same].mean()


def test_seeds_decide_and_a_run_s_own_does_not(load):
    first, again = load(*SMALL), load(*SMALL, "seed=7")
    assert all(torch.equal(first.splits[s]["x"], again.splits[s]["x"]) for s in SPLITS)
    split = load(*SMALL, "data.split_seed=1")
    np.testing.assert_array_equal(everything(first), everything(split))
    assert not torch.equal(first.splits["test"]["x"], split.splits["test"]["x"])
    other = load(*SMALL, "data.generator_seed=1")
    assert not np.isin(everything(first)[:, 0], everything(other)[:, 0]).any()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.source=file", "data.source='file' is unknown; nearest: 'files'"),
        ("data.styles=[sining]", "data.styles: 'sining' is unknown; nearest: 'signing'"),
        ("data.styles=[signing,signing]", "each once"),
        ("data.frames=2", "at least one for each of 3 styles"),
        ("data.path=somewhere", "data.path is for files; choose data.source=files"),
        ("data.source=files data.styles=[signing]", "data.styles is for poses that are drawn"),
        ("data.source=splits data.temporal=true", "data.temporal is for poses that are drawn"),
        ("data.hand_mean=absolute", "data.hand_mean is for files"),
        ("data.split=[0.8,0.3,0.1]", "add up to 1"),
        (
            "data.frames=200 data.temporal=true data.styles=[talking]",
            "too few to split by sequence",
        ),
    ],
)
def test_choices_that_make_no_sense_are_refused(load, override, message):
    with pytest.raises(UserError, match=message):
        load("data.frames=90", *override.split())


# -- split by sequence


def dealt(sizes: dict[str, int], split=(0.8, 0.1, 0.1), seed: int = 0) -> dict[str, dict]:
    """split → data set → how many sequences, of one frame each."""
    none = DrawnPoses(np.empty((0, 30, 3), np.float32))
    sources = [Source(name, none, np.arange(size)) for name, size in sizes.items()]
    plan = by_sequence(sources, split, seed, "these")
    return {s: {part.dataset: len(part.rows) for part in plan[s]} for s in SPLITS}


def test_every_data_set_is_split_by_the_same_fractions():
    found = dealt({"a": 100, "b": 40})
    assert found == {
        "train": {"a": 80, "b": 32},
        "val": {"a": 10, "b": 4},
        "test": {"a": 10, "b": 4},
    }


def test_small_data_sets_are_dealt_out_together():
    many = dealt({f"file{i}": 1 for i in range(20)})
    assert [len(many[s]) for s in SPLITS] == [16, 2, 2]
    beside = dealt({"large": 98, "small": 2})
    assert [sum(beside[s].values()) for s in SPLITS] == [80, 10, 10]
    assert [len(part) for part in dealt({"a": 1, "b": 1, "c": 1}).values()] == [1, 1, 1]
    with pytest.raises(UserError, match="these: 2 sequences are too few to split by sequence"):
        dealt({"a": 1, "b": 1})


def test_what_a_data_set_s_sequences_get_depends_on_no_other_data_set():
    none = DrawnPoses(np.empty((0, 30, 3), np.float32))
    a, b = (Source(name, none, np.arange(30)) for name in "ab")
    plans = [by_sequence(sources, (0.8, 0.1, 0.1), 3, "") for sources in ([a], [b, a])]
    for split in SPLITS:
        alone, beside = (
            [p.rows.tolist() for p in plan[split] if p.dataset == "a"] for plan in plans
        )
        assert alone == beside


# -- files


def amass(root: Path) -> None:
    """Two data sets of a file for every sequence, as AMASS lies on a disk."""
    for dataset, subject, take in [
        (d, s, t) for d in ("ACCAD", "GRAB") for s in "ab" for t in range(6)
    ]:
        folder = root / dataset / subject
        folder.mkdir(parents=True, exist_ok=True)
        hands = np.random.default_rng([ord(subject), take, len(dataset)]).uniform(
            -0.9, 0.9, (20, 90)
        )
        if take == 5:  # recorded without gloves
            hands[:] = hands[0]
        np.savez(folder / f"take_{take}.npz", poses=np.c_[np.zeros((20, 66)), hands])
        np.savez(folder / "shape.npz", betas=np.zeros(16))
        np.savez(folder / f"take{take}_stagei.npz", markers=np.zeros(3))


def test_a_folder_of_amass_is_split_by_file_without_hands_that_do_not_move(load, tmp_path, caplog):
    amass(tmp_path)
    with caplog.at_level(logging.INFO):
        data = load("data.source=files", f"data.path={tmp_path}", "data.hand_mean=absolute")
    assert "480 frames in 24 files; 80 of them are left out, all of 4 sequences" in caplog.text
    assert sum(len(data.splits[split]["x"]) for split in SPLITS) == 400
    assert_no_sequence_is_in_two_splits(data)
    for split in SPLITS:
        sizes = data.sequences[split].unique(return_counts=True)[1]
        assert (sizes == 20).all()


def test_sequences_of_several_files_do_not_share_their_numbers(load, tmp_path):
    for seed, name in enumerate(("how2sign", "reinterhand")):
        ids = np.repeat(np.arange(10), 6)
        np.savez(tmp_path / f"{name}.npz", **moving(60, seed), sequence_id=ids)
    data = load("data.source=files", f"data.path={tmp_path}", "data.hand_mean=absolute")
    assert_no_sequence_is_in_two_splits(data)
    assert len(torch.cat([data.sequences[s] for s in SPLITS]).unique()) == 20
    assert [len(data.splits[s]["x"]) for s in SPLITS] == [96, 12, 12]
    one = load("data.source=files", f"data.path={tmp_path}/how2sign.npz", "data.hand_mean=absolute")
    assert [len(one.splits[s]["x"]) for s in SPLITS] == [48, 6, 6]


def test_the_mean_hand_beside_the_poses_is_no_pose(load, tmp_path):
    np.savez(tmp_path / "a.npz", **moving(60, 0), sequence_id=np.repeat(np.arange(10), 6))
    np.savez(tmp_path / "means.npz", lhand_mean=np.full(45, 0.1), rhand_mean=np.full(45, -0.1))
    where = ("data.source=files", f"data.path={tmp_path}")
    offset = load(*where, "data.hand_mean=offset", f"data.hand_mean_path={tmp_path}/means.npz")
    (tmp_path / "means.npz").unlink()
    difference = offset.floats("train") - load(*where, "data.hand_mean=absolute").floats("train")
    torch.testing.assert_close(difference[:, :15], torch.full_like(difference[:, :15], 0.1))
    torch.testing.assert_close(difference[:, 15:], torch.full_like(difference[:, 15:], -0.1))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.source=files"], "data.path is missing; it must be a folder of NPZ files"),
        (["data.source=files", "data.path=nowhere"], "data.path=nowhere does not exist"),
        (["data.source=files", "data.path=empty"], "data.path=empty holds no NPZ files of poses"),
        (["data.source=files", "data.path=still", "data.hand_mean=absolute"], "no finger moves"),
        (["data.source=files", "data.path=still"], "a.npz does not tell whether"),
        (["data.source=consolidated", "data.path=still/a.npz"], "is no folder; it must be the"),
        (["data.source=consolidated", "data.path=empty"], "train.npz does not exist"),
        (["data.source=splits", "data.path=still"], "data.splits_dir is missing"),
        (["data.source=files", "data.path=still", "data.splits_dir=empty"], "is for data.source="),
    ],
)
def test_what_is_not_there_is_named(load, tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "still").mkdir()
    np.savez(tmp_path / "still" / "a.npz", pose_hand=np.ones((9, 90)))
    with pytest.raises(UserError, match=message):
        load(*overrides)


# -- splits directory


@pytest.fixture
def listed(tmp_path):
    """``listed(train=…, val=…, test=…)`` → overrides of data with these frames listed, and the poses there."""
    x = {name: moving(60, seed) for seed, name in enumerate(("SignAvatars", "dance"))}
    for name, arrays in x.items():
        np.savez(tmp_path / f"{name}.npz", **arrays, body_pose=np.zeros((60, 63)))
    folder = tmp_path / "dataset_splits"
    folder.mkdir()

    def write(info: object = None, **samples: object) -> list[str]:
        for split, frames in samples.items():
            (folder / f"{split}_samples.json").write_text(json.dumps(frames))
        if info:
            (folder / "dataset_metadata.json").write_text(json.dumps(info))
        where = [f"data.path={tmp_path}", f"data.splits_dir={folder}"]
        return ["data.source=splits", "data.hand_mean=absolute", *where]

    whole = {name: np.concatenate([*a.values()], 1).reshape(-1, 30, 3) for name, a in x.items()}
    return write, whole


def test_exactly_the_listed_frames_are_read_in_their_order(load, listed):
    write, x = listed
    frames = {"SignAvatars": [40, 2, 2, 59], "dance": [0, 7]}
    data = load(*write(train=frames, val={"dance": [20, 19]}, test={"SignAvatars": [20]}))
    expected = [x["SignAvatars"][[40, 2, 2, 59]], x["dance"][[0, 7]]]
    np.testing.assert_array_equal(data.splits["train"]["x"], np.concatenate(expected))
    np.testing.assert_array_equal(data.splits["val"]["x"], x["dance"][[20, 19]])
    np.testing.assert_array_equal(data.splits["test"]["x"], x["SignAvatars"][[20]])
    assert data.sequences["train"].tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("key", ["dataset_creation_info", "test_dataset_info"])
def test_test_frames_beside_training_frames_are_told_of(load, listed, caplog, key):
    write, _ = listed
    test = {"SignAvatars": [15, 16, 35], "dance": [10]}
    info = {key: {"total_samples": 9}, "sampling_info": {}}
    load(*write(info, train={"SignAvatars": [30, 10]}, val={"dance": [1]}, test=test))
    assert "2 of 4 test frames have a training frame of their data set within 5" in caplog.text
    assert "tells of 9 frames, and 7 are listed" in caplog.text
    caplog.clear()
    info = {key: {"total_samples": 6}}
    load(*write(info, train={"dance": [30, 10]}, val={"dance": [1]}, test={"dance": [16, 24, 4]}))
    assert not caplog.text


def test_neighbours_are_as_many_as_a_search_of_all_pairs_finds():
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 300, 20), rng.integers(0, 300, 40)
    pairs = (np.abs(train[:, None] - test) <= 5).any(0).sum()
    assert neighbours(train, test) == pairs and 0 < pairs < 40
    assert neighbours(train[:0], test) == 0


@pytest.mark.parametrize(
    ("train", "info", "message"),
    [
        ({"dence": [1]}, None, "has no dence.npz; nearest: 'dance'"),
        ({"../dance": [1]}, None, "has no ../dance.npz"),
        ({"dance": [1, 60]}, None, "lists frames 1 to 60 of dance, and .*dance.npz has 60"),
        ({"dance": [-1]}, None, "lists frames -1 to -1"),
        ({"dance": [1.5]}, None, "the frames of dance must be a list of whole numbers"),
        ({"dance": "all"}, None, "must be a list of whole numbers"),
        ([1, 2], None, "train_samples.json must be an object"),
        ({"dance": [1, 2]}, {"info": {}}, "has neither dataset_creation_info nor test_dataset_"),
        ({}, None, "the train split is empty"),
    ],
)
def test_bad_lists_are_refused(load, listed, train, info, message):
    write, _ = listed
    with pytest.raises(UserError, match=message):
        load(*write(info, train=train, val={"dance": [1, 2]}, test={"dance": [5]}))


def test_lists_that_are_missing_or_no_json_are_refused(load, listed):
    write, _ = listed
    overrides = write(train={"dance": [1, 2]}, val={"dance": [3]})
    with pytest.raises(UserError, match="test_samples.json cannot be read: No such file"):
        load(*overrides)
    folder = Path(overrides[-1].split("=")[1])
    (folder / "test_samples.json").write_text('{"dance": [1, ')
    with pytest.raises(UserError, match="test_samples.json is no JSON"):
        load(*overrides)


# -- consolidated, and written


def test_a_consolidated_folder_of_foreign_files_is_read_as_it_is(load, tmp_path):
    x = {split: moving(6, seed) for seed, split in enumerate(SPLITS)}
    for split, arrays in x.items():
        np.savez_compressed(tmp_path / f"{split}.npz", **arrays)
    data = load("data.source=consolidated", f"data.path={tmp_path}", "data.hand_mean=absolute")
    for split in SPLITS:
        expected = np.concatenate([*x[split].values()], 1).reshape(6, 30, 3)
        np.testing.assert_array_equal(data.splits[split]["x"], expected)
    assert_no_sequence_is_in_two_splits(data)


def test_a_sequence_in_two_consolidated_files_keeps_one_number_and_is_told_of(
    load, tmp_path, caplog
):
    def loaded(**sequences: list[int]):
        for seed, (split, ids) in enumerate(sequences.items()):
            np.savez(tmp_path / f"{split}.npz", **moving(len(ids), seed), sequence_id=np.array(ids))
        data = load("data.source=consolidated", f"data.path={tmp_path}", "data.hand_mean=absolute")
        return [data.sequences[s].tolist() for s in SPLITS]

    assert loaded(train=[3, 3, 8], val=[8, 8], test=[9]) == [[0, 0, 1], [1, 1], [2]]
    assert not caplog.text
    assert loaded(train=[3, 3, 8], val=[8, 8], test=[9, 8, 3])[2] == [2, 1, 0]
    assert "2 of 3 test frames are of a sequence that training frames are of too" in caplog.text


def test_what_is_consolidated_is_read_back_bit_by_bit(make, load, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for seed, name in enumerate(("a", "b")):
        ids = np.repeat(np.arange(10), 6)
        np.savez(source / f"{name}.npz", **moving(60, seed), sequence_id=ids)
    overrides = ("data.source=files", f"data.path={source}", "data.hand_mean=absolute")
    told = write_poses(make(*overrides), tmp_path / "out")
    assert told[0] == f"{tmp_path}/out/train.npz: 96 frames"
    before = load(*overrides)
    after = load("data.source=consolidated", f"data.path={tmp_path}/out")  # which tells hand_mean
    for split in SPLITS:
        assert torch.equal(before.splits[split]["x"], after.splits[split]["x"])
        same = before.sequences[split][:, None] == before.sequences[split]
        assert torch.equal(same, after.sequences[split][:, None] == after.sequences[split])
        origins = json.loads((tmp_path / "out" / f"{split}_metadata.json").read_text())
        for number, (pose, origin) in enumerate(zip(after.floats(split), origins, strict=True)):
            assert origin["consolidated_idx"] == number
            with np.load(source / f"{origin['dataset_name']}.npz") as file:
                left = file["lhand_pose"][origin["original_idx"]]
            np.testing.assert_array_equal(pose[:15].flatten(), left)
    assert_no_sequence_is_in_two_splits(after)


def test_styles_that_were_written_as_files_give_the_data_that_is_drawn(make, load, tmp_path):
    small = ("data.frames=900", "data.temporal=true")
    write_poses(make(*small), tmp_path / "out", "files")
    assert sorted(p.stem for p in (tmp_path / "out").iterdir()) == sorted(STYLES)
    with np.load(tmp_path / "out" / "signing.npz") as file:
        assert file["body_pose"].shape == (300, 63) and not file["body_pose"].any()
        stems = [name.rsplit("_", 1)[0] for name in file["image_ids"]]
        assert np.array_equal(np.unique(stems, return_inverse=True)[1], file["sequence_id"])
        assert len(set(file["image_ids"])) == 300
    read = load("data.source=files", f"data.path={tmp_path}/out")
    np.testing.assert_array_equal(everything(read), everything(load(*small)))


def test_nothing_is_overwritten_and_what_fails_leaves_nothing(make, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="mine is there and not empty; choose another"):
        write_poses(make("data.frames=90"), tmp_path / "mine")
    with pytest.raises(UserError, match="too few to split"):
        write_poses(make("data.frames=2", "data.styles=[signing]"), tmp_path / "out")
    with pytest.raises(UserError, match="data.source=files is read"):
        write_poses(make("data.source=files", "data.path=x"), tmp_path / "out", "files")
    (tmp_path / "in").mkdir()
    read = make("data.source=files", f"data.path={tmp_path}/in")
    with pytest.raises(UserError, match="out lies in data.path=.*in, where it would be read again"):
        write_poses(read, tmp_path / "in" / "out")
    (tmp_path / "in").rmdir()
    with pytest.raises(UserError, match="as=file is unknown; nearest: 'files'"):
        write_poses(make("data.frames=90"), tmp_path / "out", "file")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_the_script_takes_a_training_s_own_arguments(compose_config, tmp_path, capsys):
    from hydra import compose, initialize_config_dir

    from scripts.prepare_hands import prepare
    from src.utils.main import CONF

    with initialize_config_dir(str(CONF)):
        arguments = ["data.frames=90", f"output_dir={tmp_path}/out"]
        cfg = compose("prepare_hands", overrides=arguments)
    assert not OmegaConf.missing_keys(cfg)
    prepare.task(cfg)
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/out/{split}.npz: {count} frames"
        for split, count in zip(SPLITS, (72, 9, 9), strict=True)
    ]
