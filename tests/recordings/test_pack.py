"""The mapped file of all frames: decoded once, found again, never taken for whole when it is not."""

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from src.recordings import Recording, RecordingWriter
from src.recordings.pack import pack
from src.utils.errors import UserError

RNG = np.random.default_rng(0)


def record(path: Path, count: int = 4, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    frames = RNG.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    with RecordingWriter(path, "R") as writer:
        for frame in frames:
            writer.observe(frame)
    return frames.transpose(0, 3, 1, 2)


@pytest.fixture
def three(tmp_path):
    """Three recordings and their frames; the second has none."""
    paths = [tmp_path / f"robot/session_{number}" for number in range(3)]
    frames = [record(path, count) for path, count in zip(paths, (4, 0, 3), strict=True)]
    return [Recording.open(path) for path in paths], np.concatenate([frames[0], frames[2]])


@pytest.fixture
def no_decoding(monkeypatch):
    monkeypatch.setattr("src.recordings.recording.decode", None)


def test_frames_lie_in_order_and_starts_say_whose(three):
    recordings, frames = three
    found = pack(recordings)
    assert found.starts.tolist() == [0, 4, 4, 7] and isinstance(found.frames, np.memmap)
    assert (
        found.frames.dtype == np.uint8 and found.path.parent == recordings[0].path.parent / ".cache"
    )
    np.testing.assert_array_equal(found.frames, frames)


def test_it_is_found_again_without_decoding(three, request):
    recordings, frames = three
    pack(recordings)
    request.getfixturevalue("no_decoding")
    again = [Recording.open(one.path) for one in recordings]
    np.testing.assert_array_equal(pack(again).frames, frames)


def test_a_changed_recording_is_packed_anew_and_the_old_file_goes(three):
    recordings, frames = three
    old = pack(recordings).path
    shard = recordings[2].path / "events_shard_000.jsonl"
    shard.write_text("".join(shard.read_text().splitlines(True)[:-1]))
    found = pack([Recording.open(one.path) for one in recordings])
    np.testing.assert_array_equal(found.frames, frames[:-1])
    assert not old.exists() and len(list(old.parent.glob("pack_*"))) == 1


def test_other_choices_have_files_of_their_own(three, tmp_path):
    recordings, frames = three
    everything, part = pack(recordings), pack(recordings[:1])
    small = pack(recordings, size=(3, 4))
    elsewhere = pack(recordings, folder=tmp_path / "elsewhere")
    assert len({one.path for one in (everything, part, small, elsewhere)}) == 4
    np.testing.assert_array_equal(part.frames, frames[:4])
    boxes = frames.reshape(7, 3, 3, 2, 4, 2).mean((3, 5))
    np.testing.assert_allclose(small.frames, boxes, atol=1)
    assert all(one.path.exists() for one in (everything, part, small, elsewhere))


def test_frames_of_two_sizes_are_named_with_the_cure(three, tmp_path):
    recordings, _ = three
    record(tmp_path / "robot/session_9", size=(5, 5))
    mixed = [*recordings, Recording.open(tmp_path / "robot/session_9")]
    with pytest.raises(
        UserError, match=r"session_9 is 5×5 where .*session_0 is 6×8; give data.size"
    ):
        pack(mixed)
    assert pack(mixed, size=(6, 8)).frames.shape == (11, 3, 6, 8)


def test_two_sizes_within_a_recording_are_named(tmp_path):
    record(tmp_path / "session_1")
    record(tmp_path / "session_2", 1, (5, 5))
    frames = [tmp_path / f"session_{n}/frames/frame_00000{m}.png" for n, m in ((2, 0), (1, 3))]
    frames[0].replace(frames[1])
    with pytest.raises(UserError, match=r"frame_000003.png is 5×5 where .*frame_000000.png is 6×8"):
        Recording.open(tmp_path / "session_1").frames()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", None])
def test_a_file_that_is_not_whole_is_built_anew(three, content):
    recordings, frames = three
    file = pack(recordings).path
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    np.testing.assert_array_equal(pack(recordings).frames, frames)


def test_a_build_that_fails_leaves_nothing(three, monkeypatch):
    recordings, frames = three
    from src.recordings import recording

    real, calls = recording.decode, []

    def decode(*args):
        calls.append(args)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    monkeypatch.setattr("src.recordings.recording.decode", decode)
    with pytest.raises(
        UserError, match=r"\.cache cannot be written: No space left.*another folder"
    ):
        pack(recordings)
    cache = recordings[0].path.parent / ".cache"
    assert [file.name for file in cache.iterdir()] == [".pack.lock"]
    np.testing.assert_array_equal(pack(recordings).frames, frames)


def test_what_a_killed_build_left_is_not_taken_for_whole(three):
    recordings, frames = three
    cache = recordings[0].path.parent / ".cache"
    cache.mkdir()
    (cache / ".pack.tmp").write_bytes(b"x" * 10_000)
    np.testing.assert_array_equal(pack(recordings).frames, frames)
    assert not (cache / ".pack.tmp").exists()


def test_a_place_that_cannot_be_written_is_named(three, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x cannot be written.*another folder"):
        pack(three[0], folder=tmp_path / "file/x")


def test_no_frames_are_told(three):
    with pytest.raises(UserError, match="no frames.*session_1 has none"):
        pack(three[0][1:2])
    with pytest.raises(UserError, match="no frames"):
        pack([])


def test_two_that_ask_at_once_build_it_once(three, monkeypatch):
    recordings, frames = three
    from src.recordings import recording

    real, calls = recording.decode, []

    def decode(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr("src.recordings.recording.decode", decode)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: pack(recordings, progress=False).frames, range(4)))
    assert len(calls) == 7
    for one in found:
        np.testing.assert_array_equal(one, frames)
