"""Reading runs, whoever wrote them and whatever state they ended in. Nothing here imports torch or deletes."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from src.runs.record import METRICS_FILE, RESULTS_FILE, RUN_FILE
from src.utils.errors import UserError

ALIVE = ("starting", "running", "paused")
# A run on another machine whose file has not been touched for this long, in seconds, is taken for dead.
SILENCE = 300.0


@dataclass(frozen=True)
class Run:
    """One run as its files tell it.

    Attributes:
        path: its directory.
        state: as written, or ``dead`` where the file says alive but the process is gone.
        info: the content of ``run.json``.
    """

    path: Path
    state: str
    info: dict[str, Any]

    @property
    def results(self) -> dict[str, Any]:
        """The content of ``results.json``, empty while there is none."""
        file = self.path / RESULTS_FILE
        return json.loads(file.read_text()) if file.exists() else {}

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The logged rows so far; a last line that is still being written is left for later."""
        file = self.path / METRICS_FILE
        if file.exists():
            with open(file, encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines if line.endswith("\n"))


def read_run(directory: str | Path) -> Run:
    """The run in ``directory``.

    Raises:
        UserError: there is none, or its run.json cannot be read.
    """
    directory = Path(directory)
    try:
        info = json.loads((directory / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{directory} is no run: it has no {RUN_FILE}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{directory / RUN_FILE} is not JSON: {error}") from error
    return Run(directory, _true_state(info), info)


def list_runs(root: str | Path = "logs") -> list[Run]:
    """All runs below ``root``, newest first."""
    runs = [read_run(file.parent) for file in Path(root).rglob(RUN_FILE)]
    return sorted(runs, key=lambda run: run.info.get("started", 0), reverse=True)


def _true_state(info: dict[str, Any]) -> str:
    state = str(info.get("state", "unknown"))
    if state not in ALIVE:
        return state
    if info.get("host") != socket.gethostname():
        return state if time.time() - info.get("updated", 0) < SILENCE else "dead"
    try:
        process = psutil.Process(info["pid"])
        same = abs(process.create_time() - info["pid_started"]) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError):
        same = False
    return state if same else "dead"
