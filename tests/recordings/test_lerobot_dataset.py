"""LeRobot datasets of every version that is read: each frame of each episode, and every way of being damaged."""

import json
import shutil
import sys
import tracemalloc

import av
import numpy as np
import pyarrow as pa
import pytest

from src.recordings.lerobot.dataset import open_dataset
from src.recordings.lerobot.video import frames_at
from src.utils.errors import UserError
from tests.recordings.lerobot_files import (
    FPS,
    JOINTS,
    Dataset,
    code,
    picture,
    read_code,
    write_video,
)

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
LENGTHS = [12, 9, 11]


def all_codes(dataset, camera):
    return [[read_code(one) for one in dataset.frames(e, camera)] for e in dataset.episodes]


def expected(camera=0, lengths=LENGTHS):
    return [[code(e, i, camera) for i in range(n)] for e, n in enumerate(lengths)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """v3.0: two episodes in one file, the third in a second; a camera in videos and one in the table."""
    files = Dataset(
        tmp_path_factory.mktemp("v30") / "set",
        LENGTHS,
        {FRONT: "video", WRIST: "image"},
        extra=("next.reward",),
    )
    return files, files.v30([[0, 1], [2]])


@pytest.fixture
def copy(packed, tmp_path):
    """The packed dataset, to be damaged."""
    return shutil.copytree(packed[1], tmp_path / "copy")


def change_info(root, **values):
    file = root / "meta" / "info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_every_frame_of_packed_episodes_is_the_right_one(packed):
    dataset = open_dataset(packed[1])
    assert dataset.version == "v3.0" and dataset.fps == FPS and dataset.cameras == (FRONT, WRIST)
    assert [one.length for one in dataset.episodes.values()] == LENGTHS
    assert dataset.episode(2).tasks == ("Lift it",)
    assert all_codes(dataset, FRONT) == expected(0)
    assert all_codes(dataset, "wrist") == expected(1)


def test_a_frame_is_found_by_itself_in_any_order(packed):
    dataset = open_dataset(packed[1])
    for episode, number in [(1, 8), (1, 0), (2, 10), (0, 11), (0, 0), (1, 4)]:
        for place, camera in enumerate((FRONT, WRIST)):
            frame = dataset.frame(episode, camera, number)
            assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
            assert read_code(frame) == code(episode, number, place)


def test_some_frames_in_order_and_one_of_them_twice(packed):
    dataset = open_dataset(packed[1])
    for camera, place in ((FRONT, 0), (WRIST, 1)):
        found = [read_code(one) for one in dataset.frames(1, camera, [1, 4, 4, 8])]
        assert found == [code(1, number, place) for number in (1, 4, 4, 8)]


def test_a_start_that_is_told_inexactly_is_still_the_nearest_frame(tmp_path):
    files = Dataset(tmp_path / "set", LENGTHS)
    root = files.v30([[0, 1], [2]], gap=0.0)
    files_row = files.episode_row
    rows = [files_row(e, n, s) for e, n, s in ((0, 0, 0.03), (1, 0, 1.2 - 0.04), (2, 1, 0.0))]
    files.write_table("meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    assert all_codes(open_dataset(root), FRONT) == expected()


def test_tables_of_packed_episodes(packed):
    files, root = packed
    dataset = open_dataset(root)
    for episode, length in enumerate(LENGTHS):
        table = dataset.table(episode)
        assert np.array_equal(table["observation.state"], files.state[episode])
        assert table["action"].shape == (length, 3)
        assert table["frame_index"].tolist() == list(range(length))
        assert set(table["episode_index"]) == {episode}
        assert table["next.done"].tolist() == [False] * (length - 1) + [True]
        assert FRONT not in table and WRIST not in table


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_one_file_for_each_episode_in_chunks(tmp_path, version):
    cameras = {FRONT: "video", WRIST: "video"}
    root = Dataset(tmp_path / "set", LENGTHS, cameras).v21(chunks_size=2, codebase_version=version)
    assert (root / "data/chunk-001/episode_000002.parquet").is_file()
    dataset = open_dataset(root)
    assert dataset.version == version
    assert all_codes(dataset, FRONT) == expected(0)
    assert all_codes(dataset, WRIST) == expected(1)
    assert dataset.table(2)["index"].tolist() == list(range(21, 32))


def test_av1(tmp_path):
    lengths = [12, 9]
    dataset = open_dataset(Dataset(tmp_path / "set", lengths, codec="libsvtav1").v30([[0, 1]]))
    assert all_codes(dataset, FRONT) == expected(lengths=lengths)


def test_the_paths_of_info_json_are_followed(tmp_path):
    root = Dataset(tmp_path / "set", [5]).v21(
        data_path="tables/{episode_index}.parquet",
        video_path="films/{video_key}-{episode_index:03d}.mp4",
    )
    for old, new in (
        ("data/chunk-000/episode_000000.parquet", "tables/0.parquet"),
        (f"videos/chunk-000/{FRONT}/episode_000000.mp4", f"films/{FRONT}-000.mp4"),
    ):
        (root / new).parent.mkdir()
        (root / old).rename(root / new)
    assert all_codes(open_dataset(root), FRONT) == expected(lengths=[5])


def test_without_pictures_the_tables_are_read(tmp_path):
    dataset = open_dataset(Dataset(tmp_path / "set", [5], cameras={}).v30([[0]]))
    assert dataset.cameras == () and dataset.table(0)["action"].shape == (5, 3)


@pytest.mark.parametrize(
    ("names", "entries"),
    [
        (JOINTS, JOINTS),
        ({"motors": JOINTS}, JOINTS),
        ({"left": JOINTS[:1], "right": JOINTS[1:]}, JOINTS),
        ({"b": 1, "c": 2, "a": 0}, ["a", "b", "c"]),
        ([JOINTS], JOINTS),
        (None, ["action_0", "action_1", "action_2"]),
    ],
)
def test_names_of_joints_in_every_form(tmp_path, names, entries):
    dataset = open_dataset(Dataset(tmp_path / "set", [2], cameras={}, names=names).v21())
    assert list(dataset.features["action"].entries) == entries


def test_only_a_few_frames_are_in_memory(tmp_path):
    size, length = 256, 60
    dataset = open_dataset(Dataset(tmp_path / "set", [length], size=(size, size)).v30([[0]]))
    list(dataset.frames(0, FRONT, [0]))  # imports
    tracemalloc.start()
    found = [read_code(one) for one in dataset.frames(0, FRONT)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == expected(lengths=[length])[0]
    assert peak < 12 * size * size * 3


def test_a_container_that_seeks_to_a_key_frame_that_is_too_late(tmp_path):
    """MPEG-TS is sought by decoding time, before which the key frame's own time of presentation may lie."""
    pictures = [picture(number) for number in range(40)]
    file = tmp_path / "film.ts"
    write_video(file, pictures, [number / FPS for number in range(40)], form="mpegts")
    with av.open(str(file)) as film:
        start = next(film.decode(video=0)).time
    times = [start + number / FPS for number in range(40)]
    found = [read_code(next(frames_at(file, [time], 0.5 / FPS))) for time in times]
    assert found == list(range(40))


def test_an_unknown_version_names_those_that_are_read(copy):
    change_info(copy, codebase_version="v4.2")
    with pytest.raises(UserError, match=r"v4\.2; versions that are read: v2\.0, v2\.1, v3\.0"):
        open_dataset(copy)


def test_no_dataset_there(tmp_path):
    with pytest.raises(UserError, match="no LeRobot dataset: meta/info.json is not there$"):
        open_dataset(tmp_path)
    with pytest.raises(UserError, match="nor is the folder there"):
        open_dataset(tmp_path / "other")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"fps": 0}, "more than 0"),
        ({"fps": None}, "damaged"),
        ({"features": {"action": {}}}, "does not say 'dtype'"),
        ({"features": []}, "damaged"),
    ],
)
def test_bad_info(copy, values, sentence):
    change_info(copy, **values)
    with pytest.raises(UserError, match=sentence):
        open_dataset(copy)


def test_cut_info(copy):
    file = copy / "meta" / "info.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(UserError, match=r"info\.json cannot be read"):
        open_dataset(copy)


@pytest.mark.parametrize(
    "template",
    [
        "/etc/{chunk_index}",
        "../../{chunk_index}.parquet",
        "data/../../../x{file_index}",
        "data\0{chunk_index}",
    ],
)
def test_paths_that_lead_out_are_refused(copy, template):
    change_info(copy, data_path=template)
    with pytest.raises(UserError, match="outside of itself"):
        open_dataset(copy).table(0)


def test_links_in_a_circle_lead_nowhere(copy):
    shutil.rmtree(copy / "data")
    (copy / "data").symlink_to(copy / "data")
    with pytest.raises(UserError, match="file-000.parquet"):
        open_dataset(copy).table(0)


def test_a_folder_that_leads_out_is_refused(copy, tmp_path):
    shutil.move(copy / "data", tmp_path / "elsewhere")
    (copy / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="outside of itself"):
        open_dataset(copy).table(0)


@pytest.mark.parametrize(
    "template",
    [
        "{chunk_index.__class__}",
        "{episode}",
        "{0}",
        "{chunk_index:xyz}",
        "{chunk_index:>999999999}",
        "{",
    ],
)
def test_templates_with_other_fields(copy, template):
    change_info(copy, data_path=template)
    with pytest.raises(UserError, match="data_path"):
        open_dataset(copy).table(0)


def test_a_picture_beside_the_table_stays_inside(tmp_path):
    files = Dataset(tmp_path / "set", [3], {WRIST: "image"})
    root = files.v21()
    table = files.rows(0).drop([WRIST])
    (root / "picture.png").write_bytes(files.rows(0)[WRIST][1]["bytes"].as_py())
    for name, sentence in (("picture.png", None), ("../../secret.png", "outside of itself")):
        cells = pa.array([{"bytes": None, "path": name}] * 3)
        files.write_table(
            "data/chunk-000/episode_000000.parquet", table.append_column(WRIST, cells)
        )
        if sentence is None:
            assert read_code(open_dataset(root).frame(0, WRIST, 2)) == code(0, 1)
        else:
            with pytest.raises(UserError, match=sentence):
                open_dataset(root).frame(0, WRIST, 0)


def test_missing_and_damaged_files(copy):
    dataset = open_dataset(copy)
    film = dataset.episode(2).videos[FRONT].file
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"file-001\.mp4 cannot be decoded"):
        list(dataset.frames(2, FRONT))
    film.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(UserError, match="git lfs pull"):
        list(dataset.frames(2, FRONT))
    film.unlink()
    with pytest.raises(UserError, match=r"file-001\.mp4 is not there"):
        list(dataset.frames(2, FRONT))
    data = dataset.episode(2).data
    data.write_bytes(data.read_bytes()[:200])
    with pytest.raises(UserError, match=r"file-001\.parquet cannot be read as parquet"):
        dataset.table(2)
    assert [read_code(one) for one in dataset.frames(1, FRONT)] == expected()[1]


def test_a_video_that_ends_too_early(copy, packed):
    film = open_dataset(copy).episode(2).videos[FRONT].file
    write_video(film, packed[0].pictures(2)[:6], [i / FPS for i in range(6)])
    frames = open_dataset(copy).frames(2, FRONT)
    assert [read_code(next(frames)) for _ in range(6)] == expected()[2][:6]
    with pytest.raises(
        UserError, match=r"no frame at 0\.6000 s; there is the nearest at 0\.5000 s"
    ):
        next(frames)


def test_a_table_with_rows_missing(copy, packed):
    packed[0].root, root = copy, packed[0].root
    packed[0].write_table("data/chunk-000/file-001.parquet", packed[0].rows(2).slice(0, 7))
    packed[0].root = root
    with pytest.raises(UserError, match="has 7 rows of .* for episode 2; its metadata says 11"):
        open_dataset(copy).table(2)


@pytest.mark.parametrize("cells", [[[1.0], [1.0, 2.0, 3.0]], [[1.0], None], [["a"], 3]])
def test_a_column_that_is_no_table(tmp_path, cells):
    files = Dataset(tmp_path / "set", [2], cameras={})
    root = files.v21()
    if cells[-1] == 3:
        cells = ["a", "b"]  # of a feature that should be numbers
    table = files.rows(0).drop(["action"]).append_column("action", pa.array(cells))
    files.write_table("data/chunk-000/episode_000000.parquet", table)
    with pytest.raises(UserError, match="column 'action' is no table of numbers"):
        open_dataset(root).table(0)


def test_damaged_episode_rows(tmp_path, copy):
    root = Dataset(tmp_path / "set", [5], cameras={}).v21()
    file = root / "meta/episodes.jsonl"
    file.write_text(file.read_text() + "\n{broken\n")
    with pytest.raises(UserError, match=r"episodes\.jsonl, line 3 is damaged"):
        open_dataset(root).episode(0)
    for length in ('"many"', "NaN", "Infinity", "2.5", "-1"):
        file.write_text(f'{{"episode_index": 0, "length": {length}}}\n')
        with pytest.raises(UserError, match="'length' is .* where a number from 0 is needed"):
            open_dataset(root).episode(0)
    shutil.rmtree(copy / "meta/episodes")
    with pytest.raises(UserError, match="has no meta/episodes"):
        open_dataset(copy).episode(0)


def test_unknown_names(packed):
    dataset = open_dataset(packed[1])
    with pytest.raises(UserError, match="no episode 3; it has 0 to 2"):
        dataset.table(3)
    with pytest.raises(
        UserError, match="no camera 'observation.images.fornt'; nearest: 'observation.images.front'"
    ):
        dataset.frames(0, "observation.images.fornt")
    with pytest.raises(UserError, match="frames 0 to 11"):
        dataset.frame(0, FRONT, 12)


@pytest.mark.parametrize("package", ["pyarrow", "av"])
def test_a_missing_package_is_named_with_its_extra(packed, monkeypatch, package):
    for name in [one for one in sys.modules if one.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"with {package}, .* pip install 'latent-lab\[lerobot\]'"):
        open_dataset(packed[1]).frame(0, FRONT, 0)
