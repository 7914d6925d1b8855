"""The files of a run as its own process writes them."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from src.runs import slurm
from src.utils.errors import UserError

SCHEMA = 1
RUN_FILE, METRICS_FILE, RESULTS_FILE, CONFIG_FILE = (
    "run.json",
    "metrics.jsonl",
    "results.json",
    "config.yaml",
)


def write_atomic(path: Path, text: str) -> None:
    """Replace ``path`` at once: a reader sees the old file or the new one, never half of either."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing_into(directory: Path) -> Iterator[None]:
    """Writing into ``directory`` for somebody who is told in one sentence where it fails; a training stops instead.

    Raises:
        UserError: it is not ours to write into, is gone, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{directory} cannot be written into: {error.strerror}") from error


def write_json(path: Path, content: Any) -> None:
    """``write_atomic`` for JSON; NaN and infinity are written as null, which every reader understands."""
    write_atomic(path, json.dumps(finite(content), indent=2, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """``value`` with None in the place of every float that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return (
        None
        if isinstance(value, float) and (value != value or abs(value) == float("inf"))
        else value
    )


class RunRecord:
    """``run.json`` of one run, kept up to date by the process that trains.

    Args:
        directory: the run's directory, made if needed.
        fields: what is known at the start, such as the name, tags and command.
    """

    def __init__(self, directory: Path, **fields: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self._lock = directory, threading.Lock()
        process = psutil.Process()
        self.content: dict[str, Any] = {
            "schema": SCHEMA,
            "state": "starting",
            **fields,
            "progress": {"epoch": 0, "max_epochs": None, "step": 0, "fraction": 0.0},
            "host": socket.gethostname(),
            "pid": process.pid,
            "pid_started": process.create_time(),
            "job_id": slurm.job_id(),
            "nodes": slurm.nodes(),
            "restarts": slurm.restarts(),
            "commit": git_commit(),
            "versions": {
                name: version(name) for name in ("torch", "lightning", "hydra-core", "numpy")
            },
            "device": None,
            "error": None,
            "started": time.time(),
        }
        self.update()

    def update(self, **fields: Any) -> None:
        """Change fields and write the file."""
        with self._lock:  # a thread that watches the other processes writes too
            self.content |= fields | {"updated": time.time()}
            write_json(self.directory / RUN_FILE, self.content)


def amend(directory: Path, **fields: Any) -> None:
    """Change fields of a run whose own process is gone."""
    file = directory / RUN_FILE
    write_json(
        file, json.loads(file.read_text(encoding="utf-8")) | fields | {"updated": time.time()}
    )


def forget_metrics_after(directory: Path, size: int | None) -> None:
    """Cut ``metrics.jsonl`` to the ``size`` bytes that it had when a checkpoint was written, which is gone on from.

    What was logged after that is logged again. A file that this would not leave whole lines of stays as it is.
    """
    file = directory / METRICS_FILE
    if size is None or not file.exists() or file.stat().st_size <= size:
        return
    if size == 0 or file.read_bytes()[size - 1 : size] == b"\n":
        os.truncate(file, size)


def git_commit() -> str | None:
    """The commit of the code that runs, with ``+`` when it has uncommitted changes; None outside a checkout."""
    root = Path(__file__).parents[2]
    calls = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (
            subprocess.run(c, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for c in calls
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")
