"""Tags and notes of runs."""

import json
from pathlib import Path

import pytest

from src.runs import read_run
from src.runs.notes import LONGEST, Notes, known_tags, read_notes, write_notes
from src.runs.reading import Run
from src.utils.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "run.json").write_text(json.dumps({"state": "finished", "tags": ["dev", "x"]}))
    return read_run(tmp_path)


def test_without_notes_the_tags_are_those_the_run_was_started_with(run: Run) -> None:
    assert read_notes(run) == Notes(("dev", "x"), "")


def test_notes_are_read_as_they_were_written_and_run_json_stays(run: Run) -> None:
    before = (run.path / "run.json").read_bytes()
    write_notes(run, [" good ", "good", "", "β"], "ein <b>Text</b>\nmit Zeilen")
    assert read_notes(run) == Notes(("good", "β"), "ein <b>Text</b>\nmit Zeilen")
    assert (run.path / "run.json").read_bytes() == before
    write_notes(run, [], "")
    assert read_notes(run) == Notes((), "")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"tags": "a", "text": ""}', '{"tags": []}', "\xff"]
)
def test_damaged_notes_are_told_in_a_sentence(run: Run, content: str) -> None:
    (run.path / "notes.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="notes.json"):
        read_notes(run)


def test_a_note_has_an_end(run: Run) -> None:
    with pytest.raises(UserError, match="at most"):
        write_notes(run, [], "x" * (LONGEST + 1))
    assert read_notes(run).text == ""


def test_foreign_tags_are_shown_as_text(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"state": "finished", "tags": [1, {"a": 2}]}))
    assert read_notes(read_run(tmp_path)).tags == ("1", "{'a': 2}")
    (tmp_path / "run.json").write_text(json.dumps({"state": "finished", "tags": "dev"}))
    assert read_notes(read_run(tmp_path)).tags == ()


def test_known_tags_are_those_of_all_runs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text(
        json.dumps({"state": "finished", "tags": ["x", "a"]})
    )
    other = read_run(tmp_path / "other")
    write_notes(run, ["new"], "")
    assert known_tags([run, other]) == ["a", "new", "x"]
    (run.path / "notes.json").write_text("{")
    assert known_tags([run, other]) == ["a", "x"]


def test_a_run_that_is_not_ours_to_write_into_is_told(run: Run) -> None:
    (run.path / "notes.json").mkdir()
    with pytest.raises(UserError, match="cannot be written into: Is a directory"):
        write_notes(run, [], "x")
