"""LeRobot episodes as recordings: which frames and actions, and conversions that are broken off or repeated."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet as pq
import pytest

from src.recordings.lerobot.convert import convert
from src.recordings.listing import find_recordings
from src.recordings.recording import Recording
from src.recordings.windows import transitions, windows
from src.recordings.writer import RecordingWriter
from src.utils.errors import UserError
from tests.recordings.lerobot_files import FPS, Dataset, code, read_code

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
LENGTHS = [12, 9, 11]
TWO = {FRONT: "video", WRIST: "video"}


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """An arm with two cameras, as v3.0."""
    files = Dataset(tmp_path_factory.mktemp("arm") / "set", LENGTHS, TWO)
    files.v30([[0, 1], [2]])
    return files


def opened(paths):
    return [Recording.open(path) for path in paths]


def codes(recording, half=slice(None)):
    return [read_code(recording.frame(i)[half]) for i in range(len(recording.observations))]


def by_velocity(files, episode, joint=0):
    """0 still, 1 up, 2 down, from how the episode was made."""
    return (files.velocity[episode][:, joint] % 3).tolist()


def test_every_frame_with_the_joint_s_motion(arm, tmp_path, capsys):
    found = opened(convert(arm.root, tmp_path, joint="shoulder_lift", size=64))
    assert len(found) == 3 and capsys.readouterr().err
    for episode, recording in enumerate(found):
        assert recording.finished and not recording.warnings and recording.robot == "so101"
        assert recording.path.parent == tmp_path / "so101"
        assert recording.name.startswith(f"session_so101_ep000{episode}_")
        n = LENGTHS[episode]
        assert recording.frame(0).shape == (128, 64, 3)
        assert codes(recording, slice(0, 64)) == [code(episode, i, 0) for i in range(n)]
        assert codes(recording, slice(64, None)) == [code(episode, i, 1) for i in range(n)]
        assert recording.action_codes.tolist() == by_velocity(arm, episode, 1)[:-1]
        assert recording.is_action.tolist() == [False, True] * (n - 1) + [False]
        assert np.allclose(recording.times, np.arange(2 * n - 1) / 2 / FPS)
        before, _, after = transitions(recording)
        assert before.tolist() == list(range(n - 1)) and after.tolist() == list(range(1, n))


def test_what_the_metadata_says(arm, tmp_path):
    meta = Recording.open(convert(arm.root, tmp_path, [2], stack="horizontal", size=16)[0]).meta
    told = {
        "robot_type": "so101_follower",
        "source": "lerobot_v3",
        "source_path": str(arm.root),
        "episode_index": 2,
        "joint_name": "shoulder_pan.pos",
        "joint_index": 0,
        "action_duration": 1 / FPS,
        "position_delta": None,
        "used_discrete_action_log": False,
        "cameras": [FRONT, WRIST],
        "stack_mode": "horizontal",
        "tasks": ["Lift it"],
        "episode_end": None,
        "action_space": [
            {"action": 0, "duration": 0.0},
            {"action": 1, "duration": 0.1},
            {"action": 2, "duration": 0.1},
        ],
    }
    assert {key: meta[key] for key in told} == told
    assert meta["collection"]["dataset"] == "set"


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (448, 224, 3)),
        ({"stack": "horizontal"}, (224, 448, 3)),
        ({"stack": "single"}, (224, 224, 3)),
        ({"cameras": ["wrist"], "size": 32}, (32, 32, 3)),
        ({"size": [16, 24]}, (32, 24, 3)),
        ({"size": None}, (128, 64, 3)),
    ],
)
def test_cameras_and_sizes(arm, tmp_path, options, shape):
    recording = Recording.open(convert(arm.root, tmp_path, [1], **options)[0])
    assert recording.frame(3).shape == shape
    if options.get("cameras") or options.get("stack") == "single":
        camera = 1 if options.get("cameras") else 0
        assert codes(recording) == [code(1, i, camera) for i in range(9)]


def test_the_joint_that_nobody_named_is_told(arm, tmp_path, capsys):
    convert(arm.root, tmp_path, size=16)
    assert capsys.readouterr().err.count("first joint, shoulder_pan.pos") == 1


def logged(tmp_path, decisions, **header):
    files = Dataset(tmp_path / "set", LENGTHS)
    files.v21()
    files.log(1, decisions, **header)
    return files


def test_with_a_log_only_frames_at_decisions(tmp_path):
    files = logged(tmp_path, [(0, 1), (2, 0), (4, 2), (6, 0), (8, 0)], joint="gripper.pos")
    with_log, without = opened(convert(files.root, tmp_path / "out", [1, 0], size=64))
    assert codes(with_log) == [code(1, i) for i in (0, 2, 4, 6)]
    assert with_log.action_codes.tolist() == [1, 0, 2]
    assert np.allclose(with_log.times, np.arange(7) * 0.1)
    assert with_log.action_set[2] == {"action": 2, "duration": 0.2}
    told = [
        with_log.meta[k]
        for k in ("used_discrete_action_log", "joint_name", "joint_index", "position_delta")
    ]
    assert told == [True, "gripper.pos", 2, 0.1]
    assert not without.meta["used_discrete_action_log"] and len(without.observations) == LENGTHS[0]


def test_decisions_past_the_end_led_to_nothing(tmp_path):
    files = logged(tmp_path, [(0, 1), (5, 2), (8, 1), (30, 2)])
    recording = Recording.open(convert(files.root, tmp_path / "out", [1])[0])
    assert codes(recording) == [code(1, i) for i in (0, 5, 8)]
    assert recording.action_codes.tolist() == [1, 2]


@pytest.mark.parametrize("decisions", [[], [(0, 0), (2, 0)]])
def test_a_log_of_a_header_is_no_log_and_one_of_stays_is_one(tmp_path, decisions):
    files = logged(tmp_path, decisions)
    recording = Recording.open(convert(files.root, tmp_path / "out", [1])[0])
    assert recording.meta["used_discrete_action_log"] == bool(decisions)
    assert len(recording.observations) == (1 if decisions else 9)


def test_a_log_that_was_cut_off_is_read_so_far(tmp_path):
    files = logged(tmp_path, [(0, 1), (4, 2), (6, 1)])
    file = files.root / "meta/discrete_action_logs/episode_000001.jsonl"
    file.write_text(file.read_text()[:-10])
    assert Recording.open(convert(files.root, tmp_path / "out", [1])[0]).action_codes.tolist() == [
        1,
        2,
    ]
    file.write_text(file.read_text().replace('"frame_index": 0', '"frame_index": null'))
    with pytest.raises(UserError, match=r"episode_000001\.jsonl is damaged"):
        convert(files.root, tmp_path / "other", [1])


def test_a_log_of_another_joint(tmp_path):
    files = logged(tmp_path, [(0, 1), (4, 2)])
    with pytest.raises(UserError, match="is of joint 'shoulder_pan.pos', not of 'gripper'"):
        convert(files.root, tmp_path / "out", [1], joint="gripper")
    path = convert(files.root, tmp_path / "out", [1], joint="gripper", actions="velocity")[0]
    assert Recording.open(path).action_codes.tolist() == by_velocity(files, 1, 2)[:-1]
    with pytest.raises(UserError, match="holds no decisions"):
        convert(files.root, tmp_path / "out", [0], actions="log")


def test_a_column_of_whole_numbers_is_taken_as_it_is(tmp_path):
    files = Dataset(
        tmp_path / "set",
        [2, 9],
        {FRONT: "image"},
        discrete=True,
        extra=("next.reward",),
        robot=None,
    )
    short, long = opened(convert(files.v30([[0, 1]]), tmp_path / "out"))
    assert short.robot == "lerobot"
    assert short.action_set == long.action_set == [{"action": 2}, {"action": 3}, {"action": 4}]
    assert [long.action_set[one]["action"] for one in long.action_codes] == [2, 3, 4, 2, 3, 4, 2, 3]
    # next.reward of frame i is i, received at frame i + 1.
    assert np.isnan(long.rewards[0]) and long.rewards[1:].tolist() == list(range(8))
    assert long.terminated.tolist() == [False] * 8 + [True]
    assert long.meta["episode_end"] == "terminated"
    with pytest.raises(UserError, match="no column of actions"):
        convert(Dataset(tmp_path / "real", [3]).v21(), tmp_path / "out", actions="column")
    for file in files.root.glob("data/*/*.parquet"):
        pq.write_table(pq.read_table(file).drop(["action"]), file)
    with pytest.raises(UserError, match="no column of actions"):
        convert(files.root, tmp_path / "without", actions="column")


def test_a_joint_that_may_be_two(tmp_path):
    names = ["left_pan.pos", "right_pan.pos", "pan_tool.pos"]
    files = Dataset(tmp_path / "set", [3], names=names)
    files.v21()
    with pytest.raises(UserError, match="any of left_pan.pos, right_pan.pos in .*whole name"):
        convert(files.root, tmp_path / "out", joint="pan")
    (path,) = convert(files.root, tmp_path / "out", joint="right_pan")
    assert Recording.open(path).action_codes.tolist() == by_velocity(files, 0, 1)[:-1]


def test_a_velocity_that_is_not_known_is_no_motion(tmp_path):
    files = Dataset(tmp_path / "set", [3])
    files.state[0][1, 0] = np.nan
    files.v21()
    with pytest.raises(UserError, match="velocity of 'shoulder_pan.pos' is not known"):
        convert(files.root, tmp_path / "out")
    convert(files.root, tmp_path / "out", joint="gripper")


def test_frames_alone(arm, tmp_path):
    recording = Recording.open(convert(arm.root, tmp_path, [0], actions="none")[0])
    assert len(recording.observations) == 12 and not len(recording.actions)


def test_all_in_one_with_a_cut_between(arm, tmp_path):
    (path,) = convert(arm.root, tmp_path, cameras=["front"], size=64, combine=True)
    recording = Recording.open(path)
    assert codes(recording) == [code(e, i) for e, n in enumerate(LENGTHS) for i in range(n)]
    stays = [by_velocity(arm, 0)[:-1], [0], by_velocity(arm, 1)[:-1], [0], by_velocity(arm, 2)[:-1]]
    assert recording.action_codes.tolist() == sum(stays, [])
    assert (np.diff(recording.times) > 0).all()
    assert np.flatnonzero(recording.truncated).tolist() == [11, 20]
    rows, _ = windows(recording, 3)
    assert all(not ({11, 12} <= set(row) or {20, 21} <= set(row)) for row in rows.tolist())
    assert len(rows) == sum(LENGTHS) - 2 * len(LENGTHS)
    assert recording.meta["combined_episodes"] == [0, 1, 2] and recording.meta["num_episodes"] == 3


def test_a_second_conversion_makes_nothing_twice(arm, tmp_path, capsys):
    first = convert(arm.root, tmp_path, [0, 1], size=16)
    capsys.readouterr()
    second = convert(arm.root, tmp_path, size=16)
    assert second[:2] == first and len(find_recordings(tmp_path)) == 3
    told = capsys.readouterr().err
    assert f"episode 0 is there already: {first[0]}" in told and "episode 2 is there" not in told
    others = convert(arm.root, tmp_path, [0], size=16, joint="gripper")
    assert others[0] not in second and len(find_recordings(tmp_path)) == 4


def test_an_episode_that_was_recorded_anew_is_converted_anew(tmp_path):
    files = Dataset(tmp_path / "set", [3], {FRONT: "image"})
    first = convert(files.v30([[0]]), tmp_path / "out")
    files.state[0] += 1
    files.v30([[0]])
    assert convert(files.root, tmp_path / "out") != first


def test_a_log_that_was_changed_is_converted_anew(tmp_path):
    files = logged(tmp_path, [(0, 1), (2, 2)])
    first = convert(files.root, tmp_path / "out", [1], size=16)
    files.log(1, [(0, 2), (2, 2)])
    (second,) = convert(files.root, tmp_path / "out", [1], size=16)
    assert second != first[0] and Recording.open(second).action_codes.tolist() == [2, 2]


def test_an_end_that_is_not_shown_is_not_told(tmp_path):
    files = Dataset(tmp_path / "set", [9], extra=("next.reward",))
    files.v21()
    files.log(0, [(0, 1), (2, 2), (4, 0), (6, 0)])
    recording = Recording.open(convert(files.root, tmp_path / "out", size=16)[0])
    assert codes(recording) == [code(0, i) for i in (0, 2, 4)]
    assert recording.meta["episode_end"] is None and not recording.terminated.any()


def test_a_log_without_a_joint_has_a_stay_between_episodes(tmp_path):
    files = logged(tmp_path, [(0, 1), (2, 2)], joint=None)
    files.log(0, [(0, 2)], joint=None)
    (path,) = convert(files.root, tmp_path / "out", [0, 1], size=16, combine=True)
    assert Recording.open(path).action_codes.tolist() == [2, 0, 1, 2]


def test_a_conversion_that_fails_leaves_what_was_whole(arm, tmp_path, monkeypatch):
    observe, calls = RecordingWriter.observe, []

    def full(self, *args, **data):
        calls.append(1)
        if len(calls) > LENGTHS[0] + 4:
            raise UserError("no room is left")
        return observe(self, *args, **data)

    monkeypatch.setattr(RecordingWriter, "observe", full)
    with pytest.raises(UserError, match="no room"):
        convert(arm.root, tmp_path, size=16)
    monkeypatch.undo()
    left = find_recordings(tmp_path)
    assert len(left) == 1 and Recording.open(left[0]).finished
    assert not list(tmp_path.rglob("*ep0001*"))
    assert (
        convert(arm.root, tmp_path, size=16)[0] == left[0] and len(find_recordings(tmp_path)) == 3
    )


def test_a_conversion_that_is_killed(arm, tmp_path):
    script = f"""
        import os, signal, sys
        from src.recordings.lerobot.convert import convert
        from src.recordings.writer import RecordingWriter
        observe, calls = RecordingWriter.observe, []
        def killed(self, *args, **data):
            calls.append(1)
            if len(calls) > {LENGTHS[0] + 4}:
                os.kill(os.getpid(), signal.SIGKILL)
            return observe(self, *args, **data)
        RecordingWriter.observe = killed
        convert({str(arm.root)!r}, {str(tmp_path)!r}, size=16)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=os.getcwd(), timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = find_recordings(tmp_path)
    assert list(tmp_path.rglob("*ep0001*"))  # half of it, where no listing looks
    assert convert(arm.root, tmp_path, size=16)[0] == left
    assert [Recording.open(path).meta["episode_index"] for path in find_recordings(tmp_path)] == [
        0,
        1,
        2,
    ]
    assert not list((tmp_path / "so101" / ".converting").glob("session_*"))


def test_two_conversions_into_one_folder(arm, tmp_path):
    from filelock import FileLock

    (tmp_path / "so101" / ".converting").mkdir(parents=True)
    with (
        FileLock(tmp_path / "so101" / ".converting" / "lock"),
        pytest.raises(UserError, match="another conversion is writing into"),
    ):
        convert(arm.root, tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"joint": "shoulder_pen"}, "no joint 'shoulder_pen'; nearest: 'shoulder_pan.pos'"),
        ({"cameras": ["frint"]}, "no camera 'frint'"),
        ({"cameras": []}, "leaves nothing to see"),
        ({"stack": "vertcal"}, "nearest: 'vertical'"),
        ({"actions": "logs"}, "nearest: 'log'"),
        ({"size": 0}, "size=0 must be"),
        ({"size": [1, 2, 3]}, "size=.* must be"),
        ({"size": "big"}, "size=big must be"),
        ({"episodes": "abc"}, "episodes=abc must be"),
        ({"episodes": [0, 1.5]}, "episodes=.* must be"),
        ({"still": "abc"}, "still=abc must be"),
        ({"still": -1.0}, "still=-1.0 must be"),
        ({"joint": "gripper", "actions": "none"}, "joint=gripper decides nothing"),
        ({"image_format": "gif"}, "image_format"),
        ({"episodes": [7]}, "no episode 7; it has 0 to 2"),
        ({"episodes": []}, "no episode to convert"),
    ],
)
def test_bad_options(arm, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        convert(arm.root, tmp_path, **options)
    assert not find_recordings(tmp_path)


def test_a_root_that_cannot_be_written(arm, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        convert(arm.root, tmp_path / "file")


def test_nothing_to_see(tmp_path):
    with pytest.raises(UserError, match="has no camera"):
        convert(Dataset(tmp_path / "set", [3], cameras={}).v21(), tmp_path / "out")
