"""Writing recordings: every bit is there again, and nothing is lost when a process or a disk gives out."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.recordings import Recording, RecordingWriter, find_recordings
from src.recordings.images import decode, encode_png
from src.utils.errors import UserError

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
SPACE = [{"action": 0}, {"action": 1}]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("shape", [(1, 1), (8, 9), (64, 64), (7, 300)])
def test_our_png_is_what_pillow_reads(shape):
    for frame in (
        RNG.integers(0, 256, (*shape, 3), dtype=np.uint8),
        np.zeros((*shape, 3), np.uint8),
    ):
        with Image.open(io.BytesIO(encode_png(frame))) as image:
            assert image.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(image), frame)


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_a_round_trip_keeps_every_bit(tmp_path, image_format):
    path = tmp_path / "robot/session_1"
    with RecordingWriter(path, "R", SPACE, image_format=image_format, meta={"seed": 3}) as writer:
        for number, frame in enumerate(FRAMES):
            # As environments give them: views, and NumPy's own numbers.
            step = writer.observe(
                frame[::-1], reward=np.float32(number), terminated=np.bool_(number == 5)
            )
            assert step == 2 * number
            if number < 5:
                assert writer.act({"action": np.int64(number % 2)}) == 2 * number + 1
    found = Recording.open(path)
    assert found.finished and found.warnings == () and found.meta["seed"] == 3
    assert found.rewards.tolist() == [0, 1, 2, 3, 4, 5] and found.terminated.tolist() == [
        False
    ] * 5 + [True]
    assert found.action_codes.tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_array_equal([found.frame(row) for row in range(6)], FRAMES[:, ::-1])
    np.testing.assert_array_equal(found.frames(), FRAMES[:, ::-1].transpose(0, 3, 1, 2))


def test_jpeg_is_close_and_named_as_the_format_says(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8)[:, None], (16, 16, 3))
    with RecordingWriter(tmp_path / "session_1", "R", image_format="jpeg") as writer:
        writer.observe(smooth)
    found = Recording.open(tmp_path / "session_1")
    assert found.event(0)["data"] == {"frame_path": "frames/frame_000000.jpg"}
    assert np.abs(found.frame(0).astype(int) - smooth).max() <= 16


def test_the_files_are_those_of_the_format(tmp_path):
    path = tmp_path / "session_1"
    with RecordingWriter(path, "R", SPACE, shard_size=4) as writer:
        begun = json.loads((path / "session_meta.json").read_text())
        for frame in FRAMES:
            writer.observe(frame, timestamp=1.5)
    assert begun["robot_type"] == "R" and begun["action_space"] == SPACE and "end_time" not in begun
    meta = json.loads((path / "session_meta.json").read_text())
    assert meta.keys() - begun.keys() == {"end_time", "total_steps"}
    assert (
        meta["total_steps"] == 6
        and meta["total_shards"] == 2
        and meta["session_name"] == "session_1"
    )
    shards = [(path / f"events_shard_{n:03d}.jsonl").read_text().splitlines() for n in range(2)]
    assert [len(lines) for lines in shards] == [4, 2]
    expected = {"step": 5, "type": "observation", "timestamp": 1.5}
    assert json.loads(shards[1][1]) == expected | {
        "data": {"frame_path": "frames/frame_000005.png"}
    }
    assert (
        sorted(file.name for file in path.iterdir())[-1] == "session_meta.json"
    )  # nothing is left over


def test_what_does_not_fit_is_refused_and_the_recording_goes_on(tmp_path):
    with RecordingWriter(tmp_path / "session_1", "R", SPACE) as writer:
        writer.observe(FRAMES[0])
        for frame in (
            FRAMES[0, :4],
            FRAMES[0].astype(float),
            FRAMES[0].transpose(2, 0, 1),
            FRAMES[0, ..., 0],
        ):
            with pytest.raises(UserError, match="frame"):
                writer.observe(frame)
        with pytest.raises(UserError, match="no action of .*session_1; actions: .*0"):
            writer.act({"action": 2})
        with pytest.raises(UserError, match="JSON"):
            writer.observe(FRAMES[1], reward=float("nan"))
        with pytest.raises(UserError, match="frame_path"):
            writer.observe(FRAMES[1], frame_path="../x")
        assert writer.observe(FRAMES[1]) == 1
    assert Recording.open(tmp_path / "session_1").num_events == 2


def test_two_sizes_are_named(tmp_path):
    with RecordingWriter(tmp_path / "session_1", "R") as writer:
        writer.observe(FRAMES[0])
        with pytest.raises(UserError, match="4×9 where the others are 8×9"):
            writer.observe(FRAMES[0, :4])


def test_names_and_keys_that_are_not_free_are_refused(tmp_path):
    RecordingWriter(tmp_path / "session_1", "R").close(episode_end="truncated")
    assert Recording.open(tmp_path / "session_1").meta["episode_end"] == "truncated"
    with pytest.raises(UserError, match="exists"):
        RecordingWriter(tmp_path / "session_1", "R")
    with pytest.raises(UserError, match="session_mine"):
        RecordingWriter(tmp_path / "mine", "R")
    with pytest.raises(UserError, match="total_steps"):
        RecordingWriter(tmp_path / "session_2", "R", meta={"total_steps": 1})
    with pytest.raises(UserError, match="nearest: 'png'"):
        RecordingWriter(tmp_path / "session_2", "R", image_format="pgn")
    with pytest.raises(UserError, match="closed"):
        writer = RecordingWriter(tmp_path / "session_2", "R")
        writer.close()
        writer.observe(FRAMES[0])


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="session_1 cannot be written: Not a directory"):
        RecordingWriter(tmp_path / "file/session_1", "R")

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UserError, match="session_1 cannot be written: Permission denied"):
        RecordingWriter(tmp_path / "session_1", "R")


@pytest.mark.parametrize("room", range(0, 1200, 83))
def test_what_was_written_before_the_disk_was_full_stays_readable(tmp_path, monkeypatch, room):
    real, left = os.write, room

    def write(file: int, content: bytes) -> int:
        """A disk with so much room; the last write fits in part, as it does on a real one."""
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(file, content[:left])
        left -= written
        return written

    writer = RecordingWriter(tmp_path / "session_1", "R")
    monkeypatch.setattr("src.recordings.writer.os.write", write)
    with (
        pytest.raises(
            UserError, match=r"session_1 cannot be written: No space left.*first \d+ events"
        ),
        writer,
    ):
        for frame in FRAMES:
            writer.observe(frame, timestamp=0.0)
            writer.act({"action": 1}, timestamp=0.0)
    with pytest.raises(UserError, match="closed"):
        writer.act({"action": 1})
    monkeypatch.undo()
    found = Recording.open(tmp_path / "session_1")
    assert found.num_events == writer.steps and not found.finished
    for row in range(len(found.observations)):
        np.testing.assert_array_equal(found.frame(row), FRAMES[row])


def test_a_shard_that_cannot_be_begun_is_told_and_no_file_is_closed_twice(tmp_path, monkeypatch):
    real = os.open

    def refuse(path, *args, **kwargs):
        if "shard_001" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with RecordingWriter(tmp_path / "session_1", "R", shard_size=2) as writer:
        writer.observe(FRAMES[0])
        writer.observe(FRAMES[1])
        with pytest.raises(UserError, match="No space left.*first 2 events"):
            writer.observe(FRAMES[2])
    assert Recording.open(tmp_path / "session_1").num_events == 2


def test_an_exception_leaves_a_readable_recording_without_an_end(tmp_path):
    with pytest.raises(KeyboardInterrupt), RecordingWriter(tmp_path / "session_1", "R") as writer:
        writer.observe(FRAMES[0])
        raise KeyboardInterrupt
    found = Recording.open(tmp_path / "session_1")
    assert found.num_events == 1 and not found.finished


RECORDS_UNTIL_KILLED = """
import sys, numpy as np
from src.recordings import RecordingWriter
writer = RecordingWriter(sys.argv[1], "R", [{"action": 0}], shard_size=50)
for number in range(10**6):
    frame = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    print(writer.observe(frame), flush=True)
    print(writer.act({"action": 0}), flush=True)
"""


@pytest.mark.parametrize("events", [1, 60, 301])
def test_a_killed_process_loses_nothing_that_it_had_reported(tmp_path, events):
    path = tmp_path / "robot/session_1"
    command = [sys.executable, "-c", RECORDS_UNTIL_KILLED, str(path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    reported = [int(child.stdout.readline()) for _ in range(events)]
    os.kill(child.pid, signal.SIGKILL)
    reported += [int(line) for line in child.stdout.read().splitlines() if line]
    child.wait()
    found = Recording.open(path)
    assert found.num_events >= reported[-1] + 1 and not found.finished
    assert found.steps.tolist() == list(range(found.num_events))
    for row in range(len(found.observations)):
        frame = np.random.default_rng(row).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        np.testing.assert_array_equal(decode(found.frame_path(row)), frame)
    with RecordingWriter(tmp_path / "robot/session_2", "R") as writer:
        writer.observe(FRAMES[0])
    assert find_recordings(tmp_path) == [path, tmp_path / "robot/session_2"]
