"""Reading runs, whoever wrote them and whatever state they ended in. Nothing here imports torch or deletes."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from src.runs.record import METRICS_FILE, RESULTS_FILE, RUN_FILE
from src.utils.errors import UserError

ALIVE = ("starting", "running", "paused")
# A run on another machine whose file has not been touched for this long, in seconds, is taken for dead.
SILENCE = 300.0
LAST_MOMENT = 1e11  # s since 1970
# Of a run: no other run lies in there.
OWN_FOLDERS = {".hydra", "checkpoints", "features", "figures", "model"}


@dataclass(frozen=True)
class Run:
    """One run as its files tell it.

    Attributes:
        path: its directory.
        state: as written, ``dead`` where the file says alive but the process is gone, ``unreadable`` where
            ``run.json`` is damaged.
        info: the content of ``run.json``; of an unreadable run only ``error``, what is wrong with it.
    """

    path: Path
    state: str
    info: dict[str, Any]

    @property
    def results(self) -> dict[str, Any]:
        """The content of ``results.json``, empty while there is none.

        Raises:
            UserError: it is damaged.
        """
        try:
            return read_object(self.path / RESULTS_FILE, "run's results")
        except FileNotFoundError:
            return {}

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The logged rows so far.

        A line that is still being written, or that a killed process left half-written, is passed over.

        Raises:
            UserError: metrics.jsonl is there and cannot be read.
        """
        try:
            lines = open(self.path / METRICS_FILE, encoding="utf-8", errors="replace")  # noqa: SIM115
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
        with lines:
            yield from rows_of(lines)


def rows_of(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The logged rows among ``lines``; what is no whole row is passed over."""
    for line in lines:
        with suppress(ValueError):
            row = parsed(line)
            if isinstance(row, dict) and isinstance(row.get("metrics"), dict):
                yield row


def read_run(directory: str | Path) -> Run:
    """The run in ``directory``.

    Raises:
        UserError: there is none, or its run.json cannot be read.
    """
    directory = Path(directory)
    try:
        info = read_object(directory / RUN_FILE, "run")
    except FileNotFoundError as error:
        raise UserError(f"{directory} is no run: it has no {RUN_FILE}") from error
    return Run(directory, _true_state(info), info)


def read_object(file: Path, what: str) -> dict[str, Any]:
    """The JSON object in a file, which describes a ``what``.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it holds something else.
    """
    try:
        content = parsed(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise UserError(f"{file} is not JSON: {error}") from error
    except FileNotFoundError:
        raise
    except OSError as error:  # somebody else's, or no file at all
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} describes no {what}")
    return content


def bytes_of(file: Path) -> bytes:
    """What is in a file of a run.

    Raises:
        UserError: it cannot be read, or is no longer there.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


def file_stamp(file: Path) -> tuple[int, int] | None:
    """When a file was written (ns since 1970), and its size in bytes; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def parsed(text: str) -> Any:
    """What a JSON text says, in values that can be shown: halves of characters in it become question marks.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        content = json.loads(text)
        if "\\u" in text:
            content = json.loads(json.dumps(content, ensure_ascii=False).encode(errors="replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return content


def is_number(value: Any) -> bool:
    """Whether it is one that can be drawn: a stranger's file may hold anything."""
    most = sys.float_info.max  # whole numbers in JSON have no end
    return isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most


def is_moment(value: Any) -> bool:
    """Whether it is a number of seconds since 1970 that a calendar can still tell of."""
    return is_number(value) and 0 <= value <= LAST_MOMENT


def list_runs(root: str | Path = "logs") -> list[Run]:
    """All runs below ``root``, newest first; one that is damaged is listed too and hides no other.

    What lies in folders whose names are no text is not: no page and no address could name it.
    """
    runs = [_read_or_unreadable(directory) for directory in _directories(root)]
    return sorted(runs, key=lambda run: _number(run.info.get("started")), reverse=True)


def _directories(root: str | Path) -> Iterator[Path]:
    """Those that hold a run.json; where a run keeps its own files, thousands perhaps, none is looked for."""
    for place, folders, files in os.walk(root):
        passed = OWN_FOLDERS if RUN_FILE in files else set()
        folders[:] = [name for name in folders if name not in passed and is_text(name)]
        if RUN_FILE in files:
            yield Path(place)


def is_text(name: str) -> bool:
    """Whether a file's name can be written: any bytes may be one."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _number(value: Any) -> float:
    """``value``, or 0 where a damaged file holds something else."""
    return float(value) if is_number(value) else 0.0


def _read_or_unreadable(directory: Path) -> Run:
    try:
        return read_run(directory)
    except UserError as error:
        return Run(directory, "unreadable", {"error": str(error)})


def _true_state(info: dict[str, Any]) -> str:
    state = str(info.get("state", "unknown"))
    if state not in ALIVE:
        return state
    if info.get("host") != socket.gethostname():
        return state if time.time() - _number(info.get("updated")) < SILENCE else "dead"
    try:
        same = is_running(int(info["pid"]), float(info["pid_started"]))
    except (KeyError, TypeError, ValueError, OverflowError):  # not a number, or none of a process
        same = False
    return state if same else "dead"


def made_by(info: dict[str, Any], pid: int, started: float) -> bool:
    """Whether ``run.json`` was written by the process of this machine that had ``pid`` and began at ``started`` (s)."""
    same = info.get("host") == socket.gethostname() and info.get("pid") == pid
    return same and abs(_number(info.get("pid_started")) - started) < 2


def is_running(pid: int, started: float) -> bool:
    """Whether the process of this machine that had ``pid`` and began at ``started`` (s since 1970) still works."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < 2
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
