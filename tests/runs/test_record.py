"""Writing the files of a run, and asking a run for something."""

import json
import os
import subprocess

import pytest

from src.runs import PAUSE, RESUME, STOP, request
from src.runs.__main__ import main
from src.runs.control import clear, pending
from src.runs.record import RunRecord, finite, git_commit, write_atomic, write_json
from src.utils.errors import UserError


def test_a_file_is_replaced_whole(tmp_path):
    write_atomic(tmp_path / "a.txt", "old")
    write_atomic(tmp_path / "a.txt", "new ∞")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new ∞" and os.listdir(tmp_path) == [
        "a.txt"
    ]


@pytest.mark.parametrize("failure", ["full disk", "interrupt", "unwritable text"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failure):
    write_atomic(tmp_path / "a.txt", "old")
    error = {
        "full disk": OSError(28, "No space left on device"),
        "interrupt": KeyboardInterrupt(),
        "unwritable text": UnicodeEncodeError,
    }[failure]
    if failure != "unwritable text":

        def fail(*args):
            raise error

        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error) if failure != "unwritable text" else error):
        write_atomic(tmp_path / "a.txt", "new" if failure != "unwritable text" else "\udc80")
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_numbers_that_json_has_no_word_for_become_null(tmp_path):
    content = {
        "a": float("nan"),
        "b": [1.5, float("inf"), (float("-inf"), "x")],
        "c": {"d": 0, "e": True, "f": None},
    }
    write_json(tmp_path / "a.json", content)
    read = json.loads(
        (tmp_path / "a.json").read_text(),
        parse_constant=lambda word: pytest.fail(f"{word} is not JSON"),
    )
    assert (
        read
        == finite(content)
        == {"a": None, "b": [1.5, None, [None, "x"]], "c": {"d": 0, "e": True, "f": None}}
    )


def test_a_record_tells_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    content = RunRecord(tmp_path).content
    assert content["job_id"] == "4711" and content["versions"].keys() == {
        "torch",
        "lightning",
        "hydra-core",
        "numpy",
    }
    assert content["started"] <= content["updated"]


def test_the_commit_is_that_of_the_code():
    found = git_commit()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert (found or "").rstrip("+") == head


def test_a_request_waits_until_it_is_cleared(tmp_path):
    RunRecord(tmp_path)
    assert pending(tmp_path) is None
    for what in (PAUSE, RESUME, STOP):
        request(str(tmp_path), what)
        assert pending(tmp_path) == what
    clear(tmp_path)
    clear(tmp_path)
    assert pending(tmp_path) is None


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(UserError, match="is no run: it has no run.json"):
        request(tmp_path, STOP)
    RunRecord(tmp_path)
    with pytest.raises(UserError, match="request 'stopp' is unknown; nearest: 'stop'"):
        request(tmp_path, "stopp")
    assert pending(tmp_path) is None


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_a_run_that_has_ended_takes_no_requests(tmp_path, state):
    RunRecord(tmp_path).update(state=state)
    with pytest.raises(UserError, match=f"is {state}: nobody is there to pause it"):
        request(tmp_path, PAUSE)
    assert pending(tmp_path) is None


def test_the_shell_asks_too(tmp_path, capsys):
    RunRecord(tmp_path)
    main(["pause", str(tmp_path)])
    assert pending(tmp_path) == "pause" and "asked" in capsys.readouterr().out
