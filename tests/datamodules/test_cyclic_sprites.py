"""The data `cyclic_sprites`: drawn, read from the original files, and refused."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.datamodules import sprites
from src.utils.build import build
from src.utils.errors import UserError

SPLITS = ("train", "val", "test")
FEW = (
    "data.batch_size=2",
    "data.characters.train=5",
    "data.characters.val=2",
    "data.characters.test=3",
)


@pytest.fixture(scope="module")
def configs(compose_config):
    """The data's configs as the command line composes them: once, because that takes a while."""
    names = ("cyclic_sprites", "cyclic_walk")
    return {
        name: OmegaConf.to_container(compose_config(f"data={name}").data, resolve=True)
        for name in names
    }


@pytest.fixture
def make(configs):
    """``make("data.key=value", …)`` → the datamodule with few characters, not set up."""

    def made(*overrides: str, data: str = "cyclic_sprites"):
        cfg = OmegaConf.create({"data": configs[data]})
        cfg.merge_with_dotlist([*FEW, *overrides])
        return build(cfg.data)

    return made


@pytest.fixture
def load(make):
    """``load(…)`` → the same, set up."""

    def loaded(*overrides: str, data: str = "cyclic_sprites"):
        module = make(*overrides, data=data)
        module.setup()
        return module

    return loaded


def characters(data, split: str) -> set[tuple[int, ...]]:
    return {tuple(row) for row in data.factors(split)[:, :-2].tolist()}


# ---------------------------------------------------------------------------------------------- drawn


def test_the_default_is_three_sides_of_one_stroke(load):
    data = load()
    assert data.shape == (8, 3, 64, 64) and data.kind == "sequence"
    assert [len(data.splits[split]["x"]) for split in SPLITS] == [15, 6, 9]
    assert data.splits["train"]["x"].dtype == torch.uint8
    for split in SPLITS:
        x = data.floats(split)
        assert x.min() == 0 and 0.5 < x.max() <= 1
        assert torch.equal(x[:, 0], x[:, -1]) and torch.equal(x[:, 4], x[:, 6])
        assert data.reports[split].max == 0 and data.reports[split].rate == 1


def test_a_wrapped_walk_closes_without_standing_still(load):
    data = load("data.exact=true", data="cyclic_walk")
    assert data.name == "cyclic_walk" and data.shape == (9, 3, 64, 64)
    x = data.floats("train")
    assert torch.equal(x[:, 0], x[:, -1])
    moved = (x[:, 1:-1] - x[:, :1]).square().mean((2, 3, 4))
    assert moved.min() > 2e-4


@pytest.mark.parametrize("action", ["walk", "spellcard"])
def test_what_does_not_close_is_refused_to_the_last_sequence(load, action):
    message = (
        r"cyclic_sprites: 15 of 15 train sequences do not close: their first–last MSE is up to 0\.\d+ "
        r"\(sequence \d+\), where data.threshold=0.0001; choose data.actions=\[slash\], or "
        "data=cyclic_walk, or data.verify_cyclicity=false"
    )
    with pytest.raises(UserError, match=message):
        load(f"data.actions=[{action}]")
    data = load(f"data.actions=[{action}]", "data.verify_cyclicity=false")
    assert data.reports["train"].cyclic == 0 and data.reports["train"].min > 1e-4


def test_one_open_sequence_among_many_is_found(make, monkeypatch):
    data, render = make(), sprites.render

    def damaged(chosen, action, direction, wrap):
        x = np.ascontiguousarray(render(chosen, action, direction, wrap))
        if direction == "left" and len(chosen) == 3:  # the test split
            x[2, -1, :, :8] = 200
        return x

    monkeypatch.setattr(sprites, "render", damaged)
    with pytest.raises(
        UserError, match=r"1 of 9 test sequences do not close: .* up to 0.0\d+ \(sequence 7\)"
    ):
        data.setup()


def test_exact_asks_for_equal_frames(make, monkeypatch):
    render = sprites.render

    def nearly(*arguments):
        x = np.ascontiguousarray(render(*arguments))
        x[:, -1, 0, 0, 0] = 1
        return x

    monkeypatch.setattr(sprites, "render", nearly)
    make().setup()
    with pytest.raises(UserError, match="where data.exact asks for 0"):
        make("data.exact=true").setup()


def test_the_report_is_logged_a_line_a_split(load, caplog):
    caplog.set_level(logging.INFO)
    load()
    told = [record.message for record in caplog.records if "close within" in record.message]
    assert told[0] == (
        "cyclic_sprites, train: 15 of 15 sequences (100.0%) close within 0.0001; first–last MSE 0 ± 0, from 0 to 0"
    )
    assert len(told) == 3


def test_no_character_is_in_two_splits(load):
    data = load("data.directions=[front]", "data.characters.train=40", "data.characters.val=40")
    found = [characters(data, split) for split in SPLITS]
    assert [len(part) for part in found] == [40, 40, 3] and len(set.union(*found)) == 83


def test_more_characters_keep_those_that_were_there(load):
    few = load("data.directions=[front]")
    more = [
        f"data.characters.{split}={count}" for split, count in zip(SPLITS, (12, 9, 10), strict=True)
    ]
    many = load("data.directions=[front]", "data.seed=5", *more)
    for split in SPLITS:
        rows = len(few.splits[split]["x"])
        assert torch.equal(few.splits[split]["x"], many.splits[split]["x"][:rows])
    other = load("data.directions=[front]", "data.character_seed=1")
    assert not torch.equal(few.splits["test"]["x"], other.splits["test"]["x"])


def test_factors_say_what_is_in_the_pictures(load):
    data = load("data.actions=[slash,walk]", "data.verify_cyclicity=false")
    assert data.factor_names == (*sprites.FACTORS, "action", "direction")
    factors = data.factors("val")
    assert factors.dtype == torch.int64 and factors.shape == (12, 9)
    assert all(
        (factors[:, column] < len(values)).all()
        for column, values in enumerate(data.factor_values.values())
    )
    for row, x in zip(factors.numpy(), data.splits["val"]["x"].numpy(), strict=True):
        action, side = sprites.ACTIONS[row[-2]], sprites.DIRECTIONS[row[-1]]
        np.testing.assert_array_equal(sprites.render(row[None, :-2], action, side)[0], x)
    assert torch.equal(data.labels("val"), factors[:, data.factor_names.index("hair_colour")])


def test_batches_hold_factors_and_labels(load):
    data = load()
    batch = next(iter(data.train_dataloader()))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "x": (2, 8, 3, 64, 64),
        "label": (2,),
        "factors": (2, 9),
    }


@pytest.mark.slow
def test_as_many_sequences_as_the_original_set(load):
    full = [
        f"data.characters.{split}={count}"
        for split, count in zip(SPLITS, (900, 100, 296), strict=True)
    ]
    data = load("data.exact=true", *full)
    assert [len(data.splits[split]["x"]) for split in SPLITS] == [2700, 300, 888]
    assert data.reports["train"].count + data.reports["val"].count == 3000
    assert all(report.max == 0 for report in data.reports.values())


DRAWN_WRONG = {
    "unknown action": (
        ["data.actions=[slahs]"],
        r"data.actions=\[slahs\] must name some of walk, spellcard, slash, each once",
    ),
    "no action": (["data.actions=[]"], r"data.actions=\[\] must name some of walk"),
    "twice": (["data.actions=[slash,slash]"], "each once"),
    "unknown direction": (
        ["data.directions=[back]"],
        r"data.directions=\[back\] must name some of front, left, right, each once",
    ),
    "wrapped stroke": (
        ["data.wrap=true"],
        r"data.wrap=true adds a frame to walk, which data.actions=\[slash\] leaves out",
    ),
    "two lengths": (
        ["data.wrap=true", "data.actions=[walk,slash]"],
        r"different lengths \(walk 9, slash 8 frames\); choose data.actions=\[walk\] or data.wrap=false",
    ),
    "frames of the shape": (
        ["data.wrap=true", "data.actions=[walk]"],
        r"data.shape=\[8,3,64,64\] does not fit data.actions=\[walk\] with data.wrap=true, which has 9 "
        r"frames; choose data.shape=\[9,3,64,64\]",
    ),
    "size of the shape": (
        ["data.shape=[8,3,32,32]"],
        r"data.shape=\[8,3,32,32\] does not fit .* choose data.shape=\[8,3,64,64\]",
    ),
    "too many": (
        ["data.characters.val=11665"],
        "data.characters.val=11665 is more than the 11664 there are for it",
    ),
    "none": (
        ["data.characters.val=0"],
        r"data.characters=\{train:5,val:0,test:3\} must say how many characters, at least one, for each",
    ),
    "another split": (["data.characters.dev=4"], r"test:3,dev:4\} must say how many"),
    "threshold": (["data.threshold=-1"], "data.threshold=-1 must be at least 0"),
    "blocks": (["data.blocks=0"], "data.blocks=0 must be at least 1"),
}


@pytest.mark.parametrize("name", DRAWN_WRONG)
def test_impossible_choices_are_refused_in_one_sentence(load, name):
    overrides, message = DRAWN_WRONG[name]
    with pytest.raises(UserError, match=message) as refused:
        load(*overrides)
    assert "\n" not in str(refused.value)


# ----------------------------------------------------------------------------------------------- read


def blocks(first: int, count: int) -> np.ndarray:
    """Closed loops of ``count`` characters as the original sets store them: (3·count, 8, 3, 64, 64) uint8."""
    chosen = sprites.all_characters(7)[first : first + count]
    return np.concatenate([sprites.render(chosen, "slash", side) for side in sprites.DIRECTIONS])


TRAIN, TEST = blocks(0, 8), blocks(8, 3)


def as_tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


FORMS = {
    "original: 256ths, channels last, in a dict": (
        lambda x: {"data": as_tensor(x.transpose(0, 1, 3, 4, 2)).float() / 256},
        256,
    ),
    "extracted: 256ths, channels first": (lambda x: as_tensor(x).float() / 256, 256),
    "255ths": (lambda x: as_tensor(x).float() / 255, 255),
    "doubles": (lambda x: as_tensor(x).double() / 255, 255),
    "up to 255, channels last": (lambda x: as_tensor(x.transpose(0, 1, 3, 4, 2)).float(), 255),
    "bytes": (lambda x: {"data": as_tensor(x)}, 255),
}


def write(folder: Path, form="extracted: 256ths, channels first", train=TRAIN, test=TEST) -> Path:
    for split, x in (("train", train), ("test", test)):
        torch.save(FORMS[form][0](x), folder / f"Sprites_{split}_cyclic.pt")
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_files_are_read_in_every_form_and_kept_as_they_are(load, tmp_path, form):
    data = load(f"data.path={write(tmp_path, form)}", "data.exact=true")
    divisor = FORMS[form][1]
    assert data.divisor == divisor and data.labels("train") is None
    expected = torch.from_numpy(TEST.reshape(3, 3, *TEST.shape[1:])).transpose(0, 1).flatten(0, 1)
    assert torch.equal(data.splits["test"]["x"], expected)
    assert torch.equal(data.floats("test"), expected.float() / divisor)


def test_256ths_are_served_bit_for_bit(load, tmp_path):
    stored = FORMS["extracted: 256ths, channels first"][0](TEST)
    served = load(f"data.path={write(tmp_path)}").floats("test")
    assert served.max() < 1
    assert torch.equal(served, stored.unflatten(0, (3, 3)).transpose(0, 1).flatten(0, 1))


def test_files_are_split_by_character(load, tmp_path):
    data = load(f"data.path={write(tmp_path)}")
    found = [data.splits[split]["x"] for split in SPLITS]
    assert [len(x) for x in found] == [15, 6, 9]
    in_blocks = torch.from_numpy(TRAIN).unflatten(0, (3, 8))
    assert torch.equal(found[0].unflatten(0, (5, 3)), in_blocks[:, :5].transpose(0, 1))
    assert torch.equal(found[1].unflatten(0, (2, 3)), in_blocks[:, 5:7].transpose(0, 1))


def test_closed_loops_are_preferred_to_all_sequences(load, tmp_path):
    write(tmp_path)
    torch.save(torch.rand(4, 8, 3, 64, 64), tmp_path / "Sprites_train.pt")
    assert load(f"data.path={tmp_path}").reports["train"].max == 0
    for split in ("train", "test"):
        (tmp_path / f"Sprites_{split}_cyclic.pt").rename(tmp_path / f"Sprites_{split}.pt")
    assert load(f"data.path={tmp_path}").reports["train"].max == 0


def test_files_have_no_factors(load, tmp_path):
    data = load(f"data.path={write(tmp_path)}")
    assert data.factor_names == () and data.factor_values == {}
    assert data.factors("train") is None


def test_one_file_in_255ths_and_one_in_256ths_are_read_alike(load, tmp_path):
    write(tmp_path)
    torch.save(torch.from_numpy(TEST).float() / 255, tmp_path / "Sprites_test_cyclic.pt")
    data = load(f"data.path={tmp_path}")
    assert data.divisor == 255
    expected = torch.from_numpy(TRAIN).unflatten(0, (3, 8))[:, 0].double() / 256
    torch.testing.assert_close(
        data.floats("train")[:3].double(), expected, atol=0.501 / 255, rtol=0
    )


def saved(content: object, name: str = "Sprites_train_cyclic.pt"):
    def make(folder: Path) -> None:
        torch.save(content, folder / name)

    return make


def cut(folder: Path) -> None:
    file = folder / "Sprites_train_cyclic.pt"
    file.write_bytes(file.read_bytes()[:5000])


def removed(name: str):
    return lambda folder: (folder / name).unlink()


def damaged(value: float) -> torch.Tensor:
    x = torch.from_numpy(TRAIN).float() / 256
    x[11, 3, 1, 5, 5] = value
    return x


def opened() -> torch.Tensor:
    x = torch.from_numpy(TRAIN.copy())
    x[5, -1] = 0
    return x


FILES_WRONG = {
    "missing": (
        removed("Sprites_test_cyclic.pt"),
        [],
        "data.path=.* has neither Sprites_test_cyclic.pt nor Sprites_test.pt",
    ),
    "cut": (cut, [], "Sprites_train_cyclic.pt cannot be read as tensors: "),
    "text": (
        lambda folder: (folder / "Sprites_train_cyclic.pt").write_text("no tensor"),
        [],
        "Sprites_train_cyclic.pt cannot be read as tensors: ",
    ),
    "other dict": (
        saved({"images": torch.zeros(2)}),
        [],
        r"must hold a tensor, or a dict with one as 'data'; it holds a dict with \['images'\]",
    ),
    "list": (saved([1, 2]), [], "must hold a tensor, or a dict with one as 'data'; it holds none"),
    "pictures": (
        saved(torch.zeros(2, 3, 64, 64)),
        [],
        r"holds \[2, 3, 64, 64\]; sequences are \(N, T, 3, H, W\) or \(N, T, H, W, 3\)",
    ),
    "grey": (saved(torch.zeros(2, 8, 1, 64, 64)), [], r"holds \[2, 8, 1, 64, 64\]; sequences are"),
    "integers": (
        saved(torch.zeros(3, 8, 3, 64, 64, dtype=torch.int64)),
        [],
        "holds values of type torch.int64; give uint8 or float32",
    ),
    "nothing": (saved(torch.zeros(0, 8, 3, 64, 64)), [], "holds no sequences"),
    "other length": (
        saved(torch.zeros(3, 9, 3, 64, 64)),
        [],
        r"holds sequences of \[9, 3, 64, 64\]; choose data.shape=\[9,3,64,64\]",
    ),
    "nan": (saved(damaged(np.nan)), [], "train_cyclic.pt: sequence 11 has NaN or infinite values"),
    "infinite": (saved(damaged(np.inf)), [], "sequence 11 has NaN or infinite values"),
    "negative": (
        saved(damaged(-0.5)),
        [],
        r"has values from -0.5 to 0.9\d+; they must lie in \[0, 1\] or \[0, 255\]",
    ),
    "too large": (saved(damaged(300)), [], "has values from 0 to 300; they must lie in"),
    "uneven blocks": (
        lambda folder: None,
        ["data.blocks=5"],
        "holds 24 sequences, which are not 5 equal blocks; choose data.blocks=<number of actions",
    ),
    "few characters": (
        lambda folder: None,
        ["data.characters.val=4"],
        "train_cyclic.pt has 8 characters in 3 blocks, too few for data.characters.train=5 and "
        "data.characters.val=4",
    ),
    "few test characters": (
        lambda folder: None,
        ["data.characters.test=4"],
        "test_cyclic.pt has 3 characters in 3 blocks, too few for data.characters.test=4",
    ),
    "open": (
        saved(opened()),
        [],
        r"1 of 6 val sequences do not close: .*scripts/extract_cyclic.py\), or data.verify_cyclicity",
    ),
    "wrap": (
        lambda folder: None,
        ["data.wrap=true"],
        "data.wrap=true is for drawn sprites; leave it out with data.path",
    ),
}


@pytest.mark.parametrize("name", FILES_WRONG)
def test_bad_files_get_one_sentence(load, tmp_path, name):
    change, overrides, message = FILES_WRONG[name]
    change(write(tmp_path))
    with pytest.raises(UserError, match=message) as refused:
        load(f"data.path={tmp_path}", *overrides)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there(load, tmp_path):
    with pytest.raises(UserError, match="nowhere is no folder; it must hold Sprites_train_cyclic"):
        load(f"data.path={tmp_path}/nowhere")


def test_opening_a_file_runs_nothing(load, tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    write(tmp_path)
    torch.save({"data": Payload()}, tmp_path / "Sprites_train_cyclic.pt")
    with pytest.raises(UserError, match="cannot be read as tensors"):
        load(f"data.path={tmp_path}")
    (tmp_path / "Sprites_train_cyclic.pt").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match="cannot be read as tensors"):
        load(f"data.path={tmp_path}")
    assert not (tmp_path / "ran").exists()
