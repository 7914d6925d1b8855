"""``python -m src.recordings``: the list of recordings and the contact sheet of one."""

import os

import numpy as np
import pytest
from PIL import Image

from src.recordings import RecordingWriter, find_recordings
from src.recordings.__main__ import main
from src.utils.errors import UserError


@pytest.fixture
def root(tmp_path):
    """A finished recording of a dot, and a crashed one whose frame is missing."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    space = [{"action": 0}, {"action": 1}]
    meta = {"action_meanings": ["STAY", "MOVE"]}
    with RecordingWriter(
        tmp_path / "dot/session_2", "ToroidalDotRobot", space, meta=meta
    ) as writer:
        for number, colour in enumerate(colours):
            writer.observe(np.broadcast_to(colour, (16, 20, 3)), timestamp=2.0 * number)
            if number == 0:
                writer.act({"action": 1}, timestamp=1.0)
    writer = RecordingWriter(tmp_path / "arm/session_1", "so101_follower")
    writer.observe(np.zeros((4, 4, 3), np.uint8))
    writer.abandon()
    (tmp_path / "arm/session_1/frames/frame_000000.png").unlink()
    return tmp_path


def test_recordings_are_found_by_robot_and_name(root):
    expected = [root / "arm/session_1", root / "dot/session_2"]
    (root / "dot/session_3").mkdir()  # nothing in it
    (root / "dot/.converting").mkdir()
    os.rename(root / "dot/session_3", root / "dot/.converting/session_3")
    (root / "dot/.converting/session_3/events_shard_000.jsonl").write_text("{}")
    (root / "dot/notes").mkdir()
    assert find_recordings(root) == expected == find_recordings(str(root))
    assert find_recordings(root / "dot/session_2") == expected[1:]
    assert find_recordings(root / "nowhere") == []


def test_the_list_tells_what_is_there(root, capsys):
    main(["list", str(root)])
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells == [
        ["so101", "session_1", "0", "0", "0.0", "", "crashed", "1"],
        ["toroidal_dot", "session_2", "3", "1", "4.0", "16×20", "finished", ""],
    ]


def test_odd_names_of_others_are_listed_and_shown(root, capsys):
    with RecordingWriter(root / "x/session_[1]", "[/red]\ud800") as writer:
        writer.observe(np.zeros((4, 4, 3), np.uint8))
    main(["list", str(root)])
    assert "session_[1]" in (told := capsys.readouterr().out) and "[/red]" in told
    main(["show", str(root / "x/session_[1]"), "--out", str(root / "x.png")])
    assert "\\ud800" in capsys.readouterr().out


def test_the_default_root_and_an_empty_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="data/recordings does not exist.*record.py"):
        main([])
    with pytest.raises(UserError, match="holds no recordings"):
        main(["list", str(tmp_path)])


def test_a_sheet_shows_the_frames_in_order(root, capsys):
    out = root / "sheet.png"
    main(["show", str(root / "dot/session_2"), "--out", str(out)])
    told = capsys.readouterr().out
    assert '"robot_type": "ToroidalDotRobot"' in told and told.splitlines()[-1] == str(out)
    with Image.open(out) as image:
        pixels = np.asarray(image)
    colours = [pixels[20, 20 + 146 * place].tolist() for place in range(3)]
    assert colours == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    below = pixels[6 + 7 * 16 :, :, 0]
    # Both frames have a step, but only the first has an action after it.
    step, action = below[:14], below[14:28]
    assert (step[:, :140] < 200).any() and (step[:, 146:280] < 200).any()
    assert (action[:, :140] < 200).any() and not (action[:, 146:] < 200).any()


def test_fewer_frames_are_spread_over_the_whole(root):
    out = root / "sheet.png"
    main(["show", str(root / "dot/session_2"), "--out", str(out), "--frames", "2"])
    with Image.open(out) as image:
        pixels = np.asarray(image)
    assert pixels[20, 20].tolist() == [255, 0, 0] and pixels[20, 166].tolist() == [0, 0, 255]


def test_a_sheet_that_cannot_be_drawn_is_told(root):
    with pytest.raises(UserError, match="0 frames"):
        main(["show", str(root / "arm/session_1")])
    with pytest.raises(UserError, match="cannot be written"):
        main(["show", str(root / "dot/session_2"), "--out", str(root / "nowhere/x.png")])
