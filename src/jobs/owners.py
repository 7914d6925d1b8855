"""Which process works on which trial of a study, and whether it is still there."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from src.runs.reading import is_running

# Seconds between two heartbeats; after how many a worker elsewhere is doubted, and after how many it is given up.
HEARTBEAT, DOUBT, SILENCE = 15.0, 45.0, 120.0
ALIVE, DOUBTED, GONE = "alive", "doubted", "gone"
_PREFIX = "worker:"


def own_name() -> str:
    """This process under a name that no other has."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def owner_state(name: str | None, beats: dict[str, Any]) -> str:
    """Whether the worker ``name`` is alive, doubted or gone.

    Args:
        name: of the worker; None for a trial that its worker has given back.
        beats: the study's system attributes, with the last heartbeat of every worker.
    """
    if name is None:
        return GONE
    host, pid, started = name.rsplit(":", 2)
    if host == socket.gethostname():
        return ALIVE if is_running(int(pid), float(started)) else GONE
    silence = time.time() - float(beats.get(_PREFIX + name, 0.0))
    return ALIVE if silence < DOUBT else DOUBTED if silence < SILENCE else GONE


def anybody(beats: dict[str, Any]) -> bool:
    """Whether any worker of a study is alive, ``beats`` being as for ``owner_state``."""
    names = [key.removeprefix(_PREFIX) for key in beats if key.startswith(_PREFIX)]
    return any(owner_state(name, beats) == ALIVE for name in names)


@contextmanager
def heartbeat(
    storage: Any, study_id: int, name: str, errors: tuple[type[Exception], ...]
) -> Iterator[None]:
    """Let workers on other machines see that the worker ``name`` is alive.

    Args:
        errors: what the storage raises while it is away, which is the main thread's to judge.
    """
    done = threading.Event()

    def beat() -> None:
        while True:
            with suppress(*errors):
                storage.set_study_system_attr(study_id, _PREFIX + name, time.time())
            if done.wait(HEARTBEAT):
                return

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5)
