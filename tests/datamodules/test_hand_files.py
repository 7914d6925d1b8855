"""Files of hand poses: every format against arrays made by hand, and what is refused."""

import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from src.datamodules.hand_files import CHUNK, Convention, PoseFile
from src.utils.errors import UserError

ABSOLUTE = Convention("absolute")
LEFT, RIGHT = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 7, 45))  # angles below π
BOTH = np.concatenate([LEFT, RIGHT], 1)
MEANS = np.random.default_rng(1).uniform(-0.2, 0.2, (2, 45))
MIRROR = np.tile([1, -1, -1], 15)


def written(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def poses(path: Path, convention: Convention = ABSOLUTE, rows=None) -> np.ndarray:
    file = PoseFile(path, convention)
    rows = np.arange(len(file)) if rows is None else rows
    pieces = list(file.read(rows))
    assert [first for first, _ in pieces] == np.cumsum(
        [0, *(len(piece) for _, piece in pieces[:-1])]
    ).tolist()
    return np.concatenate([piece for _, piece in pieces])


def wide(width: int, left: int, right: int) -> np.ndarray:
    """Frames with the two hands at these columns among other numbers."""
    frames = np.random.default_rng(2).standard_normal((7, width))
    frames[:, left : left + 45], frames[:, right : right + 45] = LEFT, RIGHT
    return frames


@pytest.mark.parametrize(
    "arrays",
    [
        {"lhand_pose": LEFT, "rhand_pose": RIGHT, "body_pose": np.zeros((7, 63))},
        {"pose_hand": BOTH, "pose_body": np.zeros((7, 63)), "gender": np.array("neutral")},
        {"poses": wide(165, 75, 120), "betas": np.zeros(16), "mocap_frame_rate": np.array(120.0)},
        {"poses": wide(156, 66, 111), "trans": np.zeros((7, 3))},
        {"poses": np.asfortranarray(wide(156, 66, 111))},
        {"pose_hand": BOTH.astype(np.float32)},
        {"pose_hand": BOTH.astype(">f8"), "labels": np.array([{"a": 1}], dtype=object)},
    ],
    ids=["smplx_hands", "amass_hands", "smplx", "smplh", "columns", "float32", "big_endian"],
)
def test_both_hands_are_found_in_every_format(tmp_path, arrays):
    found = poses(written(tmp_path / "a.npz", **arrays))
    assert found.dtype == np.float32 and found.shape == (7, 30, 3)
    np.testing.assert_array_equal(found, BOTH.reshape(7, 30, 3).astype(np.float32))


@pytest.mark.parametrize("name", ["pose", "poses"])
@pytest.mark.parametrize("width", [45, 48])
def test_a_mano_file_gets_its_other_hand_from_the_mirror(tmp_path, name, width):
    turned = np.concatenate([np.full((7, width - 45), 0.5), RIGHT], 1)
    path = written(tmp_path / "a.npz", **{name: turned})
    for side, own, other in (("right", 1, 0), ("left", 0, 1)):
        hands = poses(path, Convention("absolute", side=side)).reshape(7, 2, 45)
        np.testing.assert_array_equal(hands[:, own], RIGHT.astype(np.float32))
        np.testing.assert_array_equal(hands[:, other], (RIGHT * MIRROR).astype(np.float32))
    with pytest.raises(UserError, match="one hand; choose data.side=left or"):
        PoseFile(path, ABSOLUTE)
    told = written(tmp_path / "b.npz", **{name: turned, "side": np.array("left")})
    np.testing.assert_array_equal(poses(told)[:, :15].reshape(7, 45), RIGHT.astype(np.float32))


def test_offsets_are_added_to_the_mean_hands_and_absolute_poses_are_not(tmp_path):
    path = written(tmp_path / "a.npz", pose_hand=BOTH)
    means = written(tmp_path / "means.npz", lhand_mean=MEANS[0], rhand_mean=MEANS[1])
    found = poses(path, Convention("offset", str(means))).reshape(7, 90)
    np.testing.assert_allclose(found, BOTH + MEANS.reshape(-1), atol=1e-6)
    np.testing.assert_array_equal(poses(path).reshape(7, 90), BOTH.astype(np.float32))
    mano = written(tmp_path / "b.npz", pose=RIGHT, side=np.array("right"))
    found = poses(mano, Convention("offset", str(means))).reshape(7, 2, 45)
    np.testing.assert_allclose(found[:, 1], RIGHT + MEANS[1], atol=1e-6)
    np.testing.assert_allclose(found[:, 0], found[:, 1] * MIRROR, atol=1e-6)


def test_what_the_numbers_stand_for_is_never_guessed(tmp_path):
    silent = written(tmp_path / "a.npz", pose_hand=BOTH)
    with pytest.raises(UserError, match="a.npz does not tell .* data.hand_mean=absolute, or"):
        PoseFile(silent, Convention())
    told = written(tmp_path / "b.npz", pose_hand=BOTH, hand_mean=np.array("absolute"))
    assert len(PoseFile(told, Convention())) == len(PoseFile(told, ABSOLUTE)) == 7
    means = str(written(tmp_path / "means.npz", lhand_mean=MEANS[0], rhand_mean=MEANS[1]))
    with pytest.raises(UserError, match="says that its poses are absolute"):
        PoseFile(told, Convention("offset", means))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("relative",), "data.hand_mean='relative' is unknown"),
        (("absolute", None, "lef"), "data.side='lef' is unknown; nearest: 'left'"),
        (("offset",), "data.hand_mean_path=<an NPZ .* go together"),
        (("absolute", "means.npz"), "go together; they are absolute and means.npz"),
        (("offset", "missing.npz"), "missing.npz does not exist"),
        (("offset", "short.npz"), "must hold lhand_mean and rhand_mean, 45 radians each"),
    ],
)
def test_a_convention_that_says_nothing_clear_is_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "short.npz", lhand_mean=MEANS[0], rhand_mean=MEANS[1, :44])
    with pytest.raises(UserError, match=message):
        Convention(*arguments)


def test_a_rotation_is_wrapped_by_its_angle_and_stays_the_same_rotation(tmp_path):
    axes = np.random.default_rng(3).standard_normal((7, 30, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    turned = axes * np.deg2rad([10, 179, 181, 200, 359, 400, 720 + 30])[:, None, None]
    found = poses(written(tmp_path / "a.npz", pose_hand=turned.reshape(7, 90)))
    angle = np.rad2deg(np.linalg.norm(found, axis=-1))
    expected = np.array([10, 179, 179, 160, 1, 40, 30])
    np.testing.assert_allclose(angle, np.tile(expected[:, None], 30), atol=1e-3)
    before, after = (Rotation.from_rotvec(x.reshape(-1, 3)) for x in (turned, found))
    assert (before * after.inv()).magnitude().max() < 1e-5


def test_chosen_frames_come_in_pieces_and_in_order(tmp_path):
    many = np.arange(2 * CHUNK + 5, dtype=np.float32)[:, None] * np.full(90, 1e-6, np.float32)
    path = written(tmp_path / "a.npz", pose_hand=many)
    rows = np.array([0, 3, 3, CHUNK - 1, CHUNK, 2 * CHUNK + 4])
    np.testing.assert_array_equal(poses(path, rows=rows).reshape(-1, 90), many[rows])


# -- sequences


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [0] * 7),
        ({"sequence_id": [5, 5, 2, 2, 2, 9, 5]}, [1, 1, 0, 0, 0, 2, 1]),
        ({"sequence_id": list("aabbbca")}, [0, 0, 1, 1, 1, 2, 0]),
        (
            {"image_ids": [f"b_{i:03d}.jpg" for i in (1, 2, 3)] + [f"a/7-{i}" for i in range(4)]},
            [1, 1, 1, 0, 0, 0, 0],
        ),
        ({"image_ids": [f"{i:05d}" for i in range(7)]}, [0] * 7),
        (
            {"image_ids": [b"b_%03d.jpg" % i for i in range(4)] + [b"a_7.png"] * 3},
            [1] * 4 + [0] * 3,
        ),
    ],
    ids=["one", "numbers", "names", "stems", "only_numbers", "bytes"],
)
def test_frames_of_one_name_are_one_sequence(tmp_path, more, expected):
    arrays = {name: np.array(values) for name, values in more.items()}
    path = written(tmp_path / "a.npz", pose_hand=BOTH, **arrays)
    assert PoseFile(path, ABSOLUTE).sequences().tolist() == expected


def test_hands_that_do_not_move_are_found_over_the_ends_of_pieces(tmp_path):
    count = CHUNK + 40
    rng = np.random.default_rng(4)
    ids = np.repeat([0, 1, 2, 3], [CHUNK - 10, 40, count - CHUNK - 31, 1])
    still = np.tile(rng.uniform(-1, 1, (1, 90)), (count, 1))
    still += rng.normal(0, 2e-4, still.shape) * (ids == 1)[:, None]  # what a tracker leaves
    still[ids == 2, 17] += rng.normal(0, 0.01, (ids == 2).sum())  # one finger bends a little
    file = PoseFile(written(tmp_path / "a.npz", pose_hand=still, sequence_id=ids), ABSOLUTE)
    assert file.still(file.sequences()).tolist() == [0, 1]  # and of a single frame nobody knows


# -- bad files


def truncated(path: Path) -> None:
    written(path, pose_hand=np.random.default_rng(5).standard_normal((400, 90)))
    path.write_bytes(path.read_bytes()[:-2000])


def damaged(path: Path) -> None:
    np.savez(path, pose_hand=np.ones((400, 90)))
    content = bytearray(path.read_bytes())
    content[5000:5010] = bytes(10)
    path.write_bytes(content)


def short_array(path: Path) -> None:
    header = Path(written(path.with_name("whole.npz"), pose_hand=BOTH))
    with zipfile.ZipFile(header) as whole, zipfile.ZipFile(path, "w") as cut:
        cut.writestr("pose_hand.npy", whole.read("pose_hand.npy")[:-100])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "cannot be read as arrays: File is not a zip file"),
        (damaged, "cannot be read as arrays: Bad CRC-32"),
        (short_array, "pose_hand ends too early"),
        (lambda path: path.write_bytes(b""), "cannot be read as arrays"),
        (lambda path: path.write_bytes(pickle.dumps(BOTH)), "cannot be read as arrays"),
        (lambda path: None, "does not exist"),
        (
            lambda path: written(path, poses=np.zeros((4, 72)), betas=np.zeros(10)),
            r"holds poses \[4, 72\], betas \[10\]; known are lhand_pose and .* \(N, 45\) of MANO",
        ),
        (lambda path: written(path, lhand_pose=LEFT), r"it holds lhand_pose \[7, 45\]; known"),
        (lambda path: written(path, pose_hand=BOTH[0]), r"holds pose_hand \[90\]"),
        (lambda path: written(path, pose_hand=BOTH[:0]), "has 0 frames in pose_hand"),
        (
            lambda path: written(path, lhand_pose=LEFT, rhand_pose=RIGHT[1:]),
            "7 frames in lhand_pose and 6 frames in rhand_pose",
        ),
        (lambda path: written(path, pose_hand=BOTH.astype(int)), "pose_hand of type int64"),
        (lambda path: written(path, pose_hand=BOTH.astype(object)), "pose_hand of type object"),
        (
            lambda path: written(path, pose_hand=BOTH, sequence_id=np.arange(6)),
            r"7 frames and sequence_id of shape \[6\]",
        ),
        (
            lambda path: written(path, pose_hand=BOTH, image_ids=np.array(["a"] * 7, object)),
            "Object arrays cannot be loaded",
        ),
    ],
)
def test_bad_files_are_refused_in_one_sentence_that_names_them(tmp_path, make, message):
    path = tmp_path / "bad.npz"
    make(path)
    with pytest.raises(UserError, match=message) as refused:
        file = PoseFile(path, ABSOLUTE)
        file.sequences()
        list(file.read(np.arange(len(file))))
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_frames_without_finite_values_are_refused_where_they_are_wanted(tmp_path, bad):
    broken = BOTH.copy()
    broken[4, 50] = bad
    path = written(tmp_path / "a.npz", pose_hand=broken)
    with pytest.raises(UserError, match=re.escape(f"{path}: frame 4 has NaN or infinite")):
        poses(path)
    assert len(poses(path, rows=np.array([0, 3, 5, 6]))) == 4
