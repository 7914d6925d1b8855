"""The user's own pictures: every way of giving them, and every way of giving them wrong."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.utils.build import build
from src.utils.errors import UserError
from src.utils.main import one_sentence

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 8, 9), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (20, 8, 9, 3), dtype=np.uint8)


@pytest.fixture
def load(compose_config):
    """``load(path, …)`` → the datamodule as the command line would make it, set up."""

    def loaded(path: Path, *overrides: str):
        data = build(
            compose_config(
                "data=images", f"data.path='{path}'", "data.batch_size=2", *overrides
            ).data
        )
        data.setup()
        return data

    return loaded


def folder(root: Path, pictures: np.ndarray, ending: str = "png") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(root / f"{number:03d}.{ending}")
    return root


def everything(data) -> np.ndarray:
    """All splits of data together, sorted by content."""
    return as_set(
        np.concatenate([data.splits[split]["x"].numpy() for split in ("train", "val", "test")])
    )


def as_set(x: np.ndarray) -> np.ndarray:
    return np.array(sorted(map(tuple, x.reshape(len(x), -1))))


@pytest.mark.parametrize(
    ("pictures", "shape"), [(GREY, (1, 8, 9)), (COLOUR, (3, 8, 9))], ids=["grey", "colour"]
)
def test_a_folder_is_split_by_seed(load, tmp_path, pictures, shape):
    data = load(folder(tmp_path / "mine", pictures))
    assert data.shape == shape and [len(data.splits[s]["x"]) for s in ("train", "val", "test")] == [
        16,
        2,
        2,
    ]
    chw = pictures[:, None] if pictures.ndim == 3 else pictures.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(everything(data), as_set(chw))
    assert data.labels("train") is None
    assert data.floats("train").min() >= 0 and data.floats("train").max() <= 1


def test_sub_folders_are_labels(load, tmp_path):
    folder(tmp_path / "cat", np.full((10, 8, 9), 10, np.uint8))
    folder(tmp_path / "dog", np.full((10, 8, 9), 200, np.uint8))
    data = load(tmp_path)
    for split in ("train", "val", "test"):
        x, label = data.splits[split]["x"], data.labels(split)
        assert ((x.float().mean((1, 2, 3)) > 100).long() == label).all()


def test_a_folder_with_its_own_split_is_left_as_it_is(load, tmp_path):
    for split, part in (("train", GREY[:12]), ("val", GREY[12:16]), ("test", GREY[16:])):
        folder(tmp_path / split, part)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.splits["test"]["x"][:, 0], GREY[16:])
    np.testing.assert_array_equal(data.splits["train"]["x"][:, 0], GREY[:12])


def test_size_scales_pictures_of_any_size(load, tmp_path):
    folder(tmp_path / "a", GREY)
    folder(tmp_path / "b", GREY[:, :5, :4])
    assert load(tmp_path, "data.size=10").shape == (1, 10, 10)
    data = load(tmp_path, "data.size=[4,6]")
    assert data.shape == (1, 4, 6) and data.splits["train"]["x"].shape[1:] == (1, 4, 6)


@pytest.mark.parametrize("ending", ["jpg", "bmp", "tiff", "webp", "PNG"])
def test_common_formats_are_read(load, tmp_path, ending):
    smooth = np.broadcast_to(np.linspace(0, 255, 9).astype(np.uint8), (20, 8, 9))
    data = load(folder(tmp_path, np.ascontiguousarray(smooth), ending))
    found = data.splits["train"]["x"].float().mean((0, 2))[..., -9:]
    np.testing.assert_allclose(found.mean(0), smooth[0, 0], atol=6)


def test_sixteen_bits_become_eight_and_transparency_is_dropped(load, tmp_path):
    deep = np.linspace(0, 65535, 72).astype(np.uint16).reshape(8, 9)
    data = load(folder(tmp_path / "deep", np.stack([deep] * 20)))
    np.testing.assert_array_equal(data.splits["train"]["x"][0, 0], deep >> 8)
    seen = load(
        folder(tmp_path / "rgba", np.concatenate([COLOUR, np.full((20, 8, 9, 1), 7, np.uint8)], -1))
    )
    np.testing.assert_array_equal(everything(seen), as_set(COLOUR.transpose(0, 3, 1, 2)))


ARRAYS = {
    "grey": (GREY, GREY[:, None]),
    "channels first": (GREY[:, None], GREY[:, None]),
    "channels last": (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
    "float": (GREY.astype(np.float64) / 255, GREY[:, None]),
    "bool": (GREY > 99, 255 * (GREY[:, None] > 99)),
}


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_in_every_layout(load, tmp_path, name, ending):
    given, expected = ARRAYS[name]
    path = tmp_path / f"x.{ending}"
    np.save(path, given) if ending == "npy" else np.savez(path, x=given)
    data = load(path)
    assert data.shape == expected.shape[1:] and data.splits["train"]["x"].numpy().dtype == np.uint8
    np.testing.assert_array_equal(everything(data), as_set(expected))


def test_labels_of_an_npz_stay_with_their_pictures(load, tmp_path):
    np.savez(tmp_path / "x.npz", x=GREY, label=GREY[:, 0, 0].astype(np.int32))
    data = load(tmp_path / "x.npz")
    assert all(
        (data.splits[s]["x"][:, 0, 0, 0] == data.labels(s)).all() for s in ("train", "val", "test")
    )


def test_an_npz_with_its_own_split(load, tmp_path):
    np.savez(
        tmp_path / "x.npz",
        train=GREY[:10],
        val=GREY[10:14],
        test=GREY[14:],
        label_train=np.arange(10),
    )
    data = load(tmp_path / "x.npz")
    np.testing.assert_array_equal(data.splits["val"]["x"][:, 0], GREY[10:14])
    assert data.labels("train").tolist() == list(range(10)) and data.labels("test") is None


def different_sizes(root: Path) -> Path:
    folder(root / "pictures", GREY)
    Image.fromarray(GREY[0, :5]).save(root / "pictures" / "small.png")
    return root / "pictures"


def grey_among_colour(root: Path) -> Path:
    folder(root / "pictures", COLOUR)
    Image.fromarray(GREY[0]).save(root / "pictures" / "zz.png")
    return root / "pictures"


def damaged_picture(root: Path) -> Path:
    folder(root / "pictures", GREY)
    file = root / "pictures" / "007.png"
    file.write_bytes(file.read_bytes()[:60])
    return root / "pictures"


def no_picture(root: Path) -> Path:
    folder(root / "pictures", GREY)
    (root / "pictures" / "note.png").write_text("not a picture")
    return root / "pictures"


def half_a_split(root: Path) -> Path:
    folder(root / "train", GREY)
    return root


def empty_split(root: Path) -> Path:
    for split in ("train", "val", "test"):
        folder(root / split, GREY if split != "val" else GREY[:0])
    return root


def array(value: np.ndarray, name: str = "x.npy"):
    def make(root: Path) -> Path:
        np.save(root / name, value, allow_pickle=True)
        return root / name

    return make


def arrays(**values: np.ndarray):
    def make(root: Path) -> Path:
        np.savez(root / "x.npz", **values)
        return root / "x.npz"

    return make


def text(content: bytes, name: str):
    def make(root: Path) -> Path:
        (root / name).write_bytes(content)
        return root / name

    return make


def cut(make, end: int):
    def made(root: Path) -> Path:
        path = make(root)
        path.write_bytes(path.read_bytes()[:end])
        return path

    return made


def empty_folder(root: Path) -> Path:
    (root / "nothing").mkdir()
    return root / "nothing"


NAN = np.where(np.arange(20)[:, None, None] == 3, np.nan, GREY / 255)
BAD = {
    "missing": (
        lambda root: root / "nowhere",
        r"data.path=.*nowhere does not exist; its folder .* is there$",
    ),
    "empty folder": (empty_folder, "nothing holds no pictures; endings that are read: .png"),
    "other file": (
        text(b"", "x.csv"),
        r"x.csv is a file of a kind that is not read; give a folder of pictures, a .npz or a .npy",
    ),
    "sizes": (
        different_sizes,
        r"small.png is 5×9 with 1 channel where 8×9 with 1 channel is expected; give data.size=\[H,W\]",
    ),
    "grey among colour": (
        grey_among_colour,
        "zz.png is 8×9 with 1 channel where 8×9 with 3 channels is expected; convert all",
    ),
    "damaged": (damaged_picture, "007.png cannot be read as a picture"),
    "no picture": (no_picture, "note.png cannot be read as a picture"),
    "half a split": (half_a_split, "has a folder 'train' but none called 'val'"),
    "empty split": (empty_split, "val holds no pictures"),
    "nan": (array(NAN), "x.npy: picture 3 has NaN values"),
    "infinite": (array(np.where(np.isnan(NAN), np.inf, NAN)), "x.npy has values from .* to inf"),
    "out of range": (
        array(GREY.astype(np.float32)),
        r"x.npy has values from \d+ to \d+; give uint8, or floats in \[0, 1\]",
    ),
    "negative": (array(GREY / 255 - 0.5), "x.npy has values from -0.49.* to"),
    "flat": (array(GREY.reshape(20, -1)), r"x.npy holds samples of shape \[72\]; pictures are"),
    "one number": (array(np.array(3.0)), "x.npy is empty"),
    "no pictures": (array(GREY[:0]), "x.npy is empty"),
    "objects": (array(np.array([{}, 1], object)), "x.npy cannot be read as arrays"),
    "objects in npz": (arrays(x=np.array([{}, 1], object)), "x.npz cannot be read as arrays"),
    "cut npy": (cut(array(GREY), 700), "x.npy cannot be read as arrays"),
    "cut npz": (cut(arrays(x=GREY), 700), "x.npz cannot be read as arrays"),
    "no array": (text(b"hello", "x.npz"), "x.npz cannot be read as arrays"),
    "nothing": (text(b"", "x.npy"), "x.npy cannot be read as arrays"),
    "unknown name": (
        arrays(images=GREY),
        "x.npz has an array 'images' that is not read; names that are: label.*x",
    ),
    "half an npz": (
        arrays(train=GREY, val=GREY),
        "x.npz has no array 'test'; give x, or all of train, val, test",
    ),
    "too few labels": (arrays(x=GREY, label=np.arange(3)), "x.npz has 20 pictures but 3 labels"),
    "words for labels": (
        arrays(x=GREY, label=np.array(["cat"] * 20)),
        "x.npz has labels of type <U3; give whole numbers",
    ),
    "few": (array(GREY[:3]), "images: the test split is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence_that_names_the_file(load, tmp_path, name):
    make, message = BAD[name]
    path = make(tmp_path)
    # Where the config's shape already needs the picture, the sentence comes through OmegaConf.
    with pytest.raises(Exception) as refused:
        load(path)
    sentence = one_sentence(refused.value)
    assert "\n" not in sentence
    with pytest.raises(UserError, match=message):
        raise UserError(sentence)


def test_a_pickle_named_npy_is_not_opened(load, tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "x.npy").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(Exception) as refused:
        load(tmp_path / "x.npy")
    assert "x.npy cannot be read as arrays" in one_sentence(refused.value)
    assert not (tmp_path / "ran").exists()


def test_pictures_need_a_path(compose_config):
    with pytest.raises(Exception) as refused:
        build(compose_config("data=images").data)
    assert (
        one_sentence(refused.value)
        == "data=images needs data.path=<a folder, .npz or .npy of pictures>"
    )


def test_size_is_for_files_only(load, tmp_path):
    np.save(tmp_path / "x.npy", GREY)
    with pytest.raises(
        UserError, match="data.size scales picture files only; .*x.npy already holds arrays"
    ):
        load(tmp_path / "x.npy", "data.size=16")
