"""Writing files so that a reader never sees half of one, and saying in one sentence why it cannot be done."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import BinaryIO, TypeVar

from rich.progress import track

from src.utils.errors import UserError

T = TypeVar("T")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when the block ends, and leaves nothing where it fails.

    The system has it then; it is not forced to the disk, for which nobody waits thousands of times.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def explained(path: Path, cure: str = "") -> Iterator[None]:
    """Turn what the system refuses into a ``UserError`` that names ``path``; ``cure`` follows the reason."""
    try:
        yield
    except OSError as error:
        raise refusal(path, error, cure) from error


def refusal(path: Path, error: OSError, cure: str = "") -> UserError:
    """The sentence for what the system said."""
    return UserError(f"{path} cannot be written: {error.strerror or error}{cure}")


def shown(items: Iterable[T], total: int, text: str, wanted: bool = True) -> Iterable[T]:
    """``items`` with a progress bar while they are gone through; without one where there is no terminal."""
    is_seen = wanted and sys.stdout.isatty()
    return track(items, text, total, transient=True) if is_seen else items
