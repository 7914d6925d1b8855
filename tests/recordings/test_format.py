"""Reading recordings that others wrote, in whatever state they left them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.recordings import Recording
from src.utils.errors import UserError

SPACE = [{"action": 0}, {"action": 1}]


def frame(number: int) -> np.ndarray:
    return np.full((4, 5, 3), 10 * number, np.uint8)


def line(step: int, kind: str = "observation", **data) -> str:
    if kind == "observation":
        data = {"frame_path": f"frames/frame_{step:06d}.png"} | data
    return json.dumps({"step": step, "type": kind, "data": data, "timestamp": 100.0 + step})


@pytest.fixture
def session(tmp_path):
    """``session(shard, shard, …, meta=…, frames=…)`` → a session written by hand; a shard is a list of lines."""

    def written(*shards: list[str], meta: object = None, frames: int = 9) -> Path:
        path = tmp_path / "robot" / "session_1"
        (path / "frames").mkdir(parents=True, exist_ok=True)
        (path / "session_meta.json").write_text(
            json.dumps({"action_space": SPACE} if meta is None else meta)
        )
        for number, lines in enumerate(shards):
            (path / f"events_shard_{number:03d}.jsonl").write_text("\n".join(lines) + "\n")
        for number in range(frames):
            Image.fromarray(frame(number)).save(path / f"frames/frame_{number:06d}.png")
        return path

    return written


O_A_O = [line(0), line(1, "action", action=1), line(2, reward=2.5, terminated=True)]


def test_columns_of_a_plain_session(session):
    found = Recording.open(session(O_A_O))
    assert found.num_events == 3 and found.steps.tolist() == [0, 1, 2]
    assert found.times.tolist() == [100.0, 101.0, 102.0] and found.warnings == ()
    assert found.is_action.tolist() == [False, True, False]
    assert found.observations.tolist() == [0, 2] and found.actions.tolist() == [1]
    assert found.action_set == SPACE and found.action_codes.tolist() == [1]
    assert found.actions_before.tolist() == [0, 1] and found.ends_before.tolist() == [0, 0]
    np.testing.assert_array_equal(found.rewards, np.float32([np.nan, 2.5]))
    assert found.terminated.tolist() == [False, True] and not found.truncated.any()
    np.testing.assert_array_equal(found.frame(1), frame(2))
    assert found.event(1)["data"] == {"action": 1} and not found.finished


def test_events_are_sorted_by_step_and_keep_their_order_where_steps_are_equal_or_missing(session):
    unnumbered = json.dumps({"type": "action", "data": {"action": 1}})
    found = Recording.open(session([line(4), line(2, "action", action=0)], [line(0), unnumbered]))
    assert found.steps.tolist() == [0, 0, 2, 4]
    assert found.action_codes.tolist() == [1, 0]  # of steps 0 and 2
    assert found.event(0) == json.loads(line(0)) and found.event(1) == json.loads(unnumbered)
    np.testing.assert_array_equal(found.frame(0), frame(0))
    np.testing.assert_array_equal(found.frame(1), frame(4))
    assert np.isnan(found.times[1])


def test_shards_past_999_are_sorted_by_number(session):
    path = session([line(0)])
    for number, step in ((999, 1), (1000, 2)):
        event = json.dumps(
            {"type": "observation", "data": {"frame_path": f"frames/frame_{step:06d}.png"}}
        )
        (path / f"events_shard_{number}.jsonl").write_text(
            event
        )  # no step: in the order of reading
    found = Recording.open(path)
    assert [found.frame(row)[0, 0, 0] for row in range(3)] == [0, 10, 20]


def test_a_line_cut_off_and_damaged_lines_are_told_and_the_rest_is_kept(session):
    damaged = ["{nonsense", "[1]", '{"step": "x"}', "[" * 100_000, "\udcff"[:0] + "\x00\x00"]
    path = session([line(0), "", *damaged, line(2)], [line(4), line(6)[:30]])
    shard = path / "events_shard_001.jsonl"
    shard.write_text(shard.read_text().rstrip("\n"))
    found = Recording.open(path)
    assert found.steps.tolist() == [0, 2, 4]
    lines, cut = found.warnings
    assert "events_shard_000.jsonl line 3" in lines and "and 2 more" in lines
    assert "events_shard_001.jsonl line 2" in cut and "cut off" in cut


def test_missing_frames_are_named_and_left_out(session):
    path = session([line(step) for step in range(9)], frames=3)
    found = Recording.open(path)
    assert len(found.observations) == 3 and found.num_events == 9
    (warning,) = found.warnings
    assert "frames/frame_000003.png" in warning and "and 3 more" in warning


def test_a_frame_removed_later_is_missed(session):
    path = session(O_A_O)
    assert len(Recording.open(path).observations) == 2
    (path / "frames/frame_000002.png").unlink()
    found = Recording.open(path)
    assert len(found.observations) == 1 and "frame_000002" in found.warnings[0]


def test_unknown_types_are_passed_over_and_unknown_keys_kept(session):
    meta = {"height_targets": [1], "robot_type": "X"}
    found = Recording.open(session([line(0, extra=[1, {"a": 2}]), line(1, "thought")], meta=meta))
    assert found.num_events == 1 and found.event(0)["data"]["extra"] == [1, {"a": 2}]
    assert found.meta == meta and "'thought'" in found.warnings[0]


@pytest.mark.parametrize("meta", [None, "{", "[]", "\x00"])
def test_without_readable_metadata_there_are_defaults_and_a_warning(session, meta):
    path = session(O_A_O)
    file = path / "session_meta.json"
    if meta is None:
        file.unlink()
    else:
        file.write_text(meta)
    found = Recording.open(path)
    assert found.meta == {} and "session_meta.json" in found.warnings[0] and not found.finished
    assert found.action_set == [{"action": 1}] and found.robot == "toroidal_dot"


def test_without_a_space_actions_are_those_recorded_in_the_order_of_their_first_use(session):
    acts = [{"b": 1, "a": 2}, {"a": 0, "b": [1]}, {"a": 2, "b": 1}, {"a": 0.0, "b": [1]}]
    lines = [line(step, "action", **data) for step, data in enumerate(acts)]
    found = Recording.open(session(lines, meta={"action_space": None}))
    assert found.action_set == acts[:2] and found.action_codes.tolist() == [0, 1, 0, 1]


def test_an_action_outside_of_the_space_is_appended_and_told(session):
    found = Recording.open(session([line(0, "action", action=7), line(1, "action", action=1)]))
    assert found.action_set == [*SPACE, {"action": 7}] and found.action_codes.tolist() == [2, 1]
    assert '{"action": 7}' in found.warnings[0]


@pytest.mark.parametrize(
    "escape",
    ["../../../secret.png", "frames/../../other.png", "/etc/passwd", "C:/x.png", "x\0/y.png"],
)
def test_a_frame_outside_of_the_recording_is_refused(session, escape):
    path = session([line(0), line(1, frame_path=escape)])
    Image.fromarray(frame(1)).save(path.parent / "other.png")
    found = Recording.open(path)
    assert "refused" in found.warnings[0]
    for asked in (lambda: found.frame(1), lambda: found.frame_path(1), found.frames):
        with pytest.raises(UserError, match="leads out of the recording"):
            asked()


def test_a_link_out_of_the_recording_is_refused(session):
    path = session([line(0), line(7)], frames=1)
    Image.fromarray(frame(1)).save(path.parent / "other.png")
    os.symlink(path.parent / "other.png", path / "frames/frame_000007.png")
    with pytest.raises(UserError, match="frame_000007.png.*leads out"):
        Recording.open(path).frames()


def test_a_link_that_goes_in_a_circle_is_named(session):
    path = session([line(7)], frames=1)
    os.symlink("frame_000007.png", path / "frames/frame_000007.png")
    with pytest.raises(UserError, match="frame_000007.png cannot be read"):
        Recording.open(path).frame(0)


def test_a_frame_that_is_no_picture_is_named(session):
    path = session(O_A_O)
    (path / "frames/frame_000002.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match="frame_000002.png cannot be read"):
        Recording.open(path).frame(1)


@pytest.mark.parametrize(
    ("meta", "folder", "robot"),
    [
        ({"robot_type": "ToroidalDotRobot"}, "x", "toroidal_dot"),
        ({"robot_type": "JetBotInterface", "action_space": SPACE}, "x", "jetbot"),
        ({"robot_type": "so101_follower"}, "x", "so101"),
        ({"robot_type": "Atari_Breakout", "action_space": SPACE}, "x", "atari_breakout"),
        ({"robot_type": None}, "SO-101", "so101"),
        ({"action_space": SPACE}, "x", "toroidal_dot"),
        ({"action_space": [{"motor_left": 0}]}, "x", "jetbot"),
        ({}, "Walker", "walker"),
    ],
)
def test_the_robot_is_told_by_its_type_its_folder_or_its_actions(
    session, tmp_path, meta, folder, robot
):
    moved = tmp_path / folder / "session_1"
    moved.parent.mkdir()
    session([line(0)], meta=meta).rename(moved)
    assert Recording.open(moved).robot == robot


def test_a_recording_that_grows_is_seen_with_its_new_events(session):
    path = session(O_A_O)
    assert Recording.open(path).num_events == 3
    with open(path / "events_shard_000.jsonl", "a") as shard:
        shard.write(line(3, "action", action=0) + "\n")
    assert Recording.open(path).num_events == 4
    (path / "events_shard_001.jsonl").write_text(line(4))
    found = Recording.open(path)
    assert found.num_events == 5 and len(found.observations) == 3


def columns(found: Recording) -> list[object]:
    arrays = ["steps", "times", "is_action", "observations", "actions", "action_codes", "rewards"]
    arrays += ["terminated", "truncated", "actions_before", "ends_before"]
    values = [(getattr(found, name).dtype, getattr(found, name).tolist()) for name in arrays]
    return [str(values), found.action_set, found.warnings]


def test_the_second_opening_reads_the_index_and_finds_the_same(session, monkeypatch):
    path = session([*O_A_O, "{nonsense", line(20)], [line(3, "action", action=9)])
    first = columns(Recording.open(path))
    monkeypatch.setattr("src.recordings.index.read_table", None)  # no shard is read
    found = Recording.open(path)
    assert columns(found) == first and found.event(3)["data"] == {"action": 9}


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"\x80\x04pickle", b"[" * 200_000, None])
def test_a_damaged_index_is_built_anew(session, damage):
    path = session(O_A_O)
    first = columns(Recording.open(path))
    index = path / ".cache/index.bin"
    index.write_bytes(index.read_bytes()[:-9] if damage is None else damage)
    assert columns(Recording.open(path)) == first and Recording.open(path).warnings == ()


def test_an_index_that_leads_out_of_the_recording_is_not_believed(session):
    path = session(O_A_O)
    first = columns(Recording.open(path))
    (path.parent / "secret").write_text(line(0, secret="1234"))
    index = path / ".cache/index.bin"
    header, rest = index.read_bytes().split(b"\n", 1)
    told = json.loads(header)
    told["shards"] = ["../secret"]
    # The mark that would be right for it: nothing but the last shard's own part differs.
    status = os.stat(path.parent / "secret")
    told["mark"][-1] = [status.st_mtime_ns, status.st_size]
    forged = json.dumps(told).encode() + b"\n"
    columns_of = rest[-(len(header) + 1) % 64 :]  # without what fills the header's last 64 bytes
    index.write_bytes(forged + bytes(-len(forged) % 64) + columns_of)
    found = Recording.open(path)
    assert columns(found) == first and "secret" not in found.event(0)["data"]


def test_without_a_place_for_the_index_it_is_told(session):
    path = session(O_A_O)
    (path / ".cache").write_text("in the way")
    found = Recording.open(path)
    assert found.num_events == 3 and "no index can be written" in found.warnings[0]


def test_what_is_no_recording_is_refused(session, tmp_path):
    session(O_A_O)
    with pytest.raises(UserError, match="nearest: 'session_1'"):
        Recording.open(tmp_path / "robot/session_2")
    with pytest.raises(UserError, match="is no recording"):
        Recording.open(tmp_path / "robot")
    with pytest.raises(UserError, match="does not exist"):
        Recording.open(tmp_path / "a/b/session_1")


ODD = [
    {"step": 0, "type": "observation", "data": {"frame_path": 7}},
    {"step": 0, "type": "observation", "data": {"frame_path": ["frames"]}},
    {"step": 0, "type": "observation", "data": {"frame_path": ""}},
    {"step": 0, "type": "observation", "data": {"frame_path": "frames"}},
    {"step": 0, "type": "observation", "data": {"frame_path": "frames/.."}},
    {"step": 0, "type": ["observation"], "data": {}},
    {"step": 0, "type": "action", "data": None},
    {"step": 2**63, "type": "action", "data": {}},
]


@pytest.mark.parametrize("event", ODD, ids=str)
def test_an_event_that_makes_no_sense_is_told_and_is_no_observation(session, event):
    found = Recording.open(session([json.dumps(event), line(2)]))
    assert len(found.observations) == 1 and found.warnings
    np.testing.assert_array_equal(found.frame(0), frame(2))


def test_odd_numbers_and_actions_are_read_as_they_are(session):
    huge = {"type": "action", "data": {"a": [1, {"b": None}]}, "timestamp": 10**400}
    told = line(1, reward="much", terminated=1, truncated=None)
    found = Recording.open(session([json.dumps(huge), told], meta={}))
    assert np.isnan(found.times[0]) and np.isnan(found.rewards[0]) and found.warnings == ()
    assert found.terminated[0] and not found.truncated[0]
    assert found.action_set == [{"a": [1, {"b": None}]}]


def test_whatever_is_damaged_opening_tells_it_and_goes_on(session):
    """Bytes of a shard changed, cut out and put in at random."""
    random = np.random.default_rng(0)
    path = session([line(0), *[line(step, reward=1.5) for step in range(8)], *O_A_O])
    shard = path / "events_shard_000.jsonl"
    whole = shard.read_bytes()
    for _ in range(40):
        content = bytearray(whole)
        for place in random.integers(0, len(content) - 40, 4):
            length = random.integers(0, 30)
            content[place : place + length] = random.bytes(random.integers(0, 4))
        shard.write_bytes(content)
        found = Recording.open(path)
        assert found.num_events == 12 or found.warnings or content.count(b"\n") < 12
        assert all(found.frame(row).shape == (4, 5, 3) for row in range(len(found.observations)))
