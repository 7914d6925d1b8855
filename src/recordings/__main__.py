"""``python -m src.recordings [list [root]]`` lists recordings; ``… show <path> [--out file.png]`` draws one."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.recordings.listing import Summary, summaries
from src.recordings.recording import Recording
from src.recordings.sheet import contact_sheet
from src.utils.errors import UserError

ROOT = "data/recordings"


def main(arguments: list[str]) -> None:
    """List the recordings below a directory, or draw the frames of one."""
    parser = argparse.ArgumentParser(prog="python -m src.recordings", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    listing = commands.add_parser("list", help="recordings below a directory")
    listing.add_argument("root", nargs="?", default=ROOT, type=Path)
    showing = commands.add_parser("show", help="metadata and a contact sheet of one recording")
    showing.add_argument("path", type=Path)
    showing.add_argument("--out", type=Path, help="the picture; <name>.png without it")
    showing.add_argument("--frames", type=int, default=24, help="how many, evenly spread")
    given = parser.parse_args(arguments)
    # Somebody else's metadata may hold what no encoding knows.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if given.command == "show":
        show(given.path, given.out, given.frames)
    else:
        list_all(getattr(given, "root", Path(ROOT)))


def list_all(root: Path) -> None:
    """Print a table of the recordings at or below ``root``.

    Raises:
        UserError: there are none.
    """
    found = summaries(root)
    if not found:
        there = "holds no recordings" if root.is_dir() else "does not exist"
        raise UserError(
            f"{root} {there}; python scripts/record.py env=ToroidalDot-v0 episodes=1 makes one"
        )
    columns = "robot", "session", "observations", "actions", "seconds", "frame", "state", "warnings"
    table = Table(*columns)
    for summary in found:
        table.add_row(*map(Text, _row(summary)))  # no markup, whatever a robot is called
    _console().print(table)


def _row(summary: Summary) -> list[str]:
    size = f"{summary.size[0]}×{summary.size[1]}" if summary.size else ""
    warnings = str(len(summary.warnings)) if summary.warnings else ""
    return [
        summary.robot,
        summary.path.name,
        str(summary.observations),
        str(summary.actions),
        f"{summary.seconds:.1f}" if summary.seconds == summary.seconds else "",
        size,
        summary.state,
        warnings,
    ]


def show(path: Path, out: Path | None, frames: int) -> None:
    """Print what is known of a recording, and write its contact sheet.

    Raises:
        UserError: it is none, has no frames, or the picture cannot be written.
    """
    recording = Recording.open(path)
    print(f"{recording!r} of {recording.robot}, {'finished' if recording.finished else 'crashed'}")
    print(json.dumps(recording.meta, indent=2, ensure_ascii=False))
    for warning in recording.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    out = out or Path(f"{recording.name}.png")
    contact_sheet(recording, out, frames)
    print(out)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
