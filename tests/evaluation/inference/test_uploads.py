"""Files of anybody's become samples of a model's shape, or one sentence."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.evaluation.inference import fitting, uploads
from src.evaluation.inference.fitting import Expected
from src.evaluation.inference.uploads import read_uploads
from src.utils.errors import UserError

GREY, COLOUR = Expected((1, 8, 8), levels=17), Expected((3, 16, 16))
HAND, FILM, ROW = Expected((30, 3), pose=True), Expected((4, 3, 16, 16)), Expected((5,))


def picture(width: int, height: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height), (255, 0, 0) if mode == "RGB" else 128).save(stream, kind)
    return stream.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def gif(frames: int) -> bytes:
    stream = io.BytesIO()
    first, *others = [Image.new("RGB", (16, 16), (40 * i, 0, 0)) for i in range(frames)]
    first.save(stream, "GIF", save_all=True, append_images=others)
    return stream.getvalue()


def read(name: str, content: bytes, expected: Expected) -> uploads.Samples:
    return read_uploads([(name, content)], expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_a_picture_of_any_kind_is_fitted_and_it_is_told(kind: str) -> None:
    ending = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    found = read(f"seven.{ending}", picture(32, 32, kind), GREY)
    x = found.floats(slice(None))
    assert x.shape == (1, 1, 8, 8)
    # Red in grey, Rec. 601, on the data's 17 levels.
    assert x.flatten().tolist() == pytest.approx([round(0.299 * 16) / 16] * 64)
    assert list(found.changes) == [
        "scaled from 32×32 to 8×8 pixels (height × width)",
        "colours were turned to grey",
        "values were rounded to the 17 grey levels of the data",
    ]


def test_what_fits_is_not_changed() -> None:
    found = read("a.png", picture(16, 16), COLOUR)
    assert not found.changes
    assert found.floats(slice(None))[0, :, 0, 0].tolist() == [1, 0, 0]


def test_changed_proportions_and_missing_colours_are_told() -> None:
    found = read("a.png", picture(32, 16, mode="L"), COLOUR)
    assert "which changes the proportions" in " ".join(found.changes)
    assert "grey was taken for all three colours" in found.changes


@pytest.mark.parametrize(
    ("array", "count"),
    [
        (np.ones((8, 8)), 1),
        (np.ones((1, 8, 8)), 1),
        (np.ones((3, 8, 8)), 3),  # grey pictures, and not a coloured one
        (np.ones((8, 8, 3), np.uint8), 1),
        (np.ones((5, 8, 8, 1)), 5),
        (np.ones((5, 3, 20, 20), np.uint8), 5),
    ],
)
def test_arrays_of_pictures(array: np.ndarray, count: int) -> None:
    assert len(read("a.npy", npy(array), GREY)) == count


def test_numbers_of_the_data_come_through_exactly() -> None:
    stored = np.random.default_rng(0).integers(0, 17, (6, 1, 8, 8))
    x = read("a.npy", npy((stored / 16).astype(np.float32)), GREY).floats(slice(None))
    assert np.array_equal(x.numpy(), (stored / 16).astype(np.float32))


def test_poses_in_all_their_formats() -> None:
    pose = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32) / 3
    table = "\n".join(",".join(map(str, row)) for row in pose.reshape(2, 90).tolist())
    flat = pose.reshape(2, 90)
    files = {
        "a.npy": npy(pose),
        "b.npy": npy(flat),
        "c.npz": npz(poses_of_mine=pose),
        "d.npz": npz(x=flat, other=np.ones(2)),
        "e.npz": npz(lhand_pose=flat[:, :45], rhand_pose=flat[:, 45:], hand_mean="absolute"),
        "f.csv": table.encode(),
        "g.csv": (";".join(f"j{i}" for i in range(90)) + "\n" + table.replace(",", ";")).encode(),
    }
    for name, content in files.items():
        x = read(name, content, HAND).floats(slice(None)).numpy()
        assert np.allclose(x, pose, atol=1e-6), name
    assert len(read("h.npy", npy(pose[0]), HAND)) == 1
    assert len(read("i.npy", npy(flat[0]), HAND)) == 1


def test_a_rotation_by_more_than_half_a_turn_is_the_same_rotation() -> None:
    pose = np.zeros((30, 3))
    pose[4, 0] = 1.5 * np.pi
    found = read("a.npy", npy(pose), HAND)
    assert found.floats(slice(None))[0, 4, 0].item() == pytest.approx(-0.5 * np.pi)
    assert found.changes["rotations by more than half a turn were written the short way"] == 1


def test_an_animation_gives_its_first_frames() -> None:
    found = read("a.gif", gif(6), FILM)
    x = found.floats(slice(None))
    assert x.shape == (1, 4, 3, 16, 16)
    assert (x[0, :, 0, 0, 0] * 255).round().tolist() == [0, 40, 80, 120]
    assert found.changes["only the first 4 frames were taken"] == 1
    assert not read("b.gif", gif(4), FILM).changes


def test_sequences_in_arrays() -> None:
    assert len(read("a.npy", npy(np.ones((4, 3, 16, 16))), FILM)) == 1
    assert len(read("a.npy", npy(np.ones((2, 4, 16, 16, 3))), FILM)) == 2
    assert len(read("a.npy", npy(np.ones((4, 9, 9))), FILM)) == 1


def test_rows_of_numbers() -> None:
    assert len(read("a.csv", b"1,2,3,4,5\n6,7,8,9,1e1\n", ROW)) == 2
    assert len(read("a.npy", npy(np.arange(5)), ROW)) == 1


def test_good_files_are_read_beside_bad_ones() -> None:
    files = [
        ("a.png", b"no picture"),
        ("b.png", picture(16, 16)),
        ("c.npy", npy(np.ones((2, 3, 16, 16)))),
    ]
    found = read_uploads(files, COLOUR)
    assert found.names == ["b.png", "c.npy [0]", "c.npy [1]"]
    assert len(found.refused) == 1 and "a.png" in found.refused[0]


def bomb() -> bytes:
    """An archive that says, truly, that it unpacks to two gigabytes."""
    stream = io.BytesIO()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**31, 1)}
    )
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.infolist()[0].file_size += 2**31
    return stream.getvalue()


class Opened:
    """What would be executed."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("raise SystemExit('executed')",)


BAD = {
    "kind": ("a.exe", b"", COLOUR, "of a kind that this model does not take"),
    "gif for pictures": ("a.gif", gif(2), COLOUR, "of a kind that this model does not take"),
    "no picture": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0", COLOUR, "none of PNG, JPEG"),
    "cut picture": ("a.png", picture(200, 200)[:90], COLOUR, "a.png cannot be read as a picture"),
    "empty picture": ("a.png", b"", COLOUR, "a.png cannot be read as a picture"),
    "objects": ("a.npy", npy([Opened()], allow_pickle=True), ROW, "cannot be read as arrays"),
    "objects in npz": ("a.npz", npz(x=np.array([Opened()])), ROW, "cannot be read as arrays"),
    "cut array": ("a.npy", npy(np.ones((9, 5)))[:-8], ROW, "cannot be read as arrays"),
    "lost header": ("a.npy", npy(np.ones(5)).replace(b"}", b"]"), ROW, "cannot be read as arrays"),
    "cut npz": ("a.npz", npz(x=np.ones((9, 5)))[:-8], ROW, "cannot be read as arrays"),
    "bomb": ("a.npz", bomb(), ROW, "unpacks to more than 1 GB"),
    "text": ("a.npy", npy(np.array(["a", "b"])), ROW, "holds values of type <U1"),
    "complex": ("a.npy", npy(np.ones(5, complex)), ROW, "holds values of type complex128"),
    "several arrays": ("a.npz", npz(a=np.ones(5), b=np.ones(5)), ROW, "holds a, b; call the array"),
    "number": ("a.npz", npz(x=np.float64(3)), ROW, "holds a single number"),
    "no rows": ("a.npy", npy(np.ones((0, 5))), ROW, "is empty"),
    "shape": (
        "a.npy",
        npy(np.ones((2, 7))),
        ROW,
        r"has the shape \[2, 7\]; this model takes \[5\]",
    ),
    "shape of poses": ("a.npy", npy(np.ones((3, 45))), HAND, r"\[30, 3\] or \[90\]"),
    "nan": (
        "a.npy",
        npy(np.array([[1, 2, 3, 4, 5], [1, np.nan, 3, 4, 5]])),
        ROW,
        "sample 1 has NaN",
    ),
    "infinite": ("a.csv", b"1,2,inf,4,5", ROW, "sample 0 has NaN or infinite values"),
    "degrees": ("a.npy", npy(np.full((30, 3), 40.0)), HAND, "in radians, not degrees"),
    "range": ("a.npy", npy(np.full((8, 8), 200.0)), GREY, r"floats in \[0, 1\]"),
    "nan picture": ("a.npy", npy(np.full((8, 8), np.nan)), GREY, "NaN"),
    "five axes": ("a.npy", npy(np.ones((1, 1, 1, 8, 8))), GREY, "pictures are"),
    "few frames": ("a.gif", gif(2), FILM, "has 2 frames; this model takes 4"),
    "axes of frames": ("a.npy", npy(np.ones((16, 16))), FILM, r"sequences are \[T, C, H, W\]"),
    "no table": ("a.csv", b"a,b\nc,d\n", ROW, "a.csv cannot be read as arrays"),
    "empty table": ("a.csv", b"\n", ROW, "a.csv is empty"),
    "binary table": ("a.csv", b"\xff\xfe\x00", ROW, "a.csv cannot be read as arrays"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_sentence(case: str) -> None:
    name, content, expected, told = BAD[case]
    with pytest.raises(UserError, match=told) as refused:
        read(name, content, expected)
    assert "upload" not in str(refused.value)  # the name is the person's
    assert "\n" not in str(refused.value)


def test_too_many_pixels_or_samples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PIXELS", 10_000)
    with pytest.raises(UserError, match="has 200×100 pixels"):
        read("a.png", picture(200, 100), COLOUR)
    monkeypatch.setattr(uploads, "LARGEST", 5 * 3 * 100)  # five frames of 100 pixels
    with pytest.raises(UserError, match="a.gif has 16×16 pixels"):
        read("a.gif", gif(2), FILM)
    monkeypatch.setattr(fitting, "MOST", 3)
    with pytest.raises(UserError, match="a.npy: 4 samples are too many"):
        read("a.npy", npy(np.ones((4, 5))), ROW)
    with pytest.raises(UserError, match="2 files: 4 samples are too many"):
        read_uploads([("a.npy", npy(np.ones((2, 5))))] * 2, ROW)
