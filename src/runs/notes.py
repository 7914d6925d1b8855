"""What people write down about a run: ``notes.json`` beside its files, which the training never touches."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from src.runs.reading import Run, read_object
from src.runs.record import write_json, writing_into
from src.utils.errors import UserError

NOTES_FILE = "notes.json"
LONGEST = 100_000


@dataclass(frozen=True)
class Notes:
    """What is written down about a run.

    Attributes:
        tags: those given since, else those that the run was started with.
        text: anything.
    """

    tags: tuple[str, ...]
    text: str


def read_notes(run: Run) -> Notes:
    """What is written down about ``run``.

    Raises:
        UserError: its notes.json is damaged.
    """
    file = run.path / NOTES_FILE
    try:
        content = read_object(file, "run's notes")
    except FileNotFoundError:
        return Notes(_first_tags(run), "")
    tags, text = content.get("tags"), content.get("text")
    if not isinstance(tags, list) or not isinstance(text, str):
        raise UserError(f"{file} describes no run's notes: it needs tags, a list, and text")
    return Notes(_cleaned(tags), text)


def known_tags(runs: Iterable[Run]) -> list[str]:
    """The tags that any of ``runs`` has; damaged notes have none."""
    found: set[str] = set()
    for run in runs:
        with suppress(UserError):
            found.update(read_notes(run).tags)
    return sorted(found)


def write_notes(run: Run, tags: Iterable[str], text: str) -> None:
    """Replace what is written down about ``run``; its run.json stays as it is.

    Raises:
        UserError: the text is longer than ``LONGEST`` characters, or nothing can be written there.
    """
    if len(text) > LONGEST:
        raise UserError(f"a note has at most {LONGEST} characters, and this one {len(text)}")
    with writing_into(run.path):
        write_json(run.path / NOTES_FILE, {"tags": [*_cleaned(tags)], "text": text})


def _first_tags(run: Run) -> tuple[str, ...]:
    tags = run.info.get("tags")
    return _cleaned(tags) if isinstance(tags, list) else ()


def _cleaned(tags: Iterable[object]) -> tuple[str, ...]:
    """Every tag once, without blanks around it."""
    return tuple(dict.fromkeys(text for tag in tags if (text := str(tag).strip())))
