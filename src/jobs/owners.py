"""Which process works on which trial of a study, and whether it is still there."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from src.jobs.storage import storage_errors

# Seconds between two signs of life; after one is overdue a worker elsewhere is doubted, after the other given up.
BEAT, DOUBT, SILENCE = 15.0, 45.0, 120.0
HERE, DOUBTED, GONE = "here", "doubted", "gone"
_PREFIX = "worker:"


def own_name() -> str:
    """This process under a name that no other has."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def whereabouts(name: str | None, beats: dict[str, Any]) -> str:
    """Whether the worker ``name`` is here, doubted or gone.

    Args:
        name: of the worker; None for a trial that its worker has given back.
        beats: the study's system attributes, with the last sign of life of every worker.
    """
    if name is None:
        return GONE
    host, pid, started = name.rsplit(":", 2)
    if host == socket.gethostname():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(pid))
            same = abs(process.create_time() - float(started)) < 2
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return HERE
        return GONE
    silence = time.time() - float(beats.get(_PREFIX + name, 0.0))
    return HERE if silence < DOUBT else DOUBTED if silence < SILENCE else GONE


@contextmanager
def beating(storage: Any, study_id: int, name: str) -> Iterator[None]:
    """Give signs of life of the worker ``name`` to those on other machines."""
    done = threading.Event()

    def beat() -> None:
        while True:
            # A database that is away for a moment is the main thread's to judge.
            with suppress(*storage_errors()):
                storage.set_study_system_attr(study_id, _PREFIX + name, time.time())
            if done.wait(BEAT):
                return

    thread = threading.Thread(target=beat, daemon=True, name="beat")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5)
