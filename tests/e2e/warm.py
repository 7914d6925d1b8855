"""Commands as forks of one process that has imported the libraries already.

Importing torch, Lightning and what they bring takes five seconds in each of two hundred commands. A fork of a process
that has done so has its own pid, session, environment and output, and runs the script as ``python script.py …`` does.
"""

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HEAVY = (
    "lightning.pytorch",
    "matplotlib.figure",
    "sklearn.decomposition",
    "src.experiment",
    "src.jobs",
    "torch.utils.tensorboard",
    "torchmetrics",
)


class WarmProcess:
    """A forked command, with the part of ``subprocess.Popen`` that the tests use."""

    def __init__(self, pid: int, output: int, status: int) -> None:
        self.pid, self._output, self._status = pid, output, status
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._status_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        found = self._status_within(timeout)
        if found is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return found

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """What it printed, to the end."""
        end = None if timeout is None else time.monotonic() + timeout
        printed = bytearray()
        while chunk := self._read(None if end is None else end - time.monotonic()):
            printed += chunk
        os.close(self._output)
        self.wait(None if end is None else max(1.0, end - time.monotonic()))
        return printed.decode(), None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> bytes:
        if not _readable(self._output, timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return os.read(self._output, 2**16)

    def _status_within(self, timeout: float | None) -> int | None:
        if self.returncode is None and _readable(self._status, timeout):
            told = os.read(self._status, 64)
            os.close(self._status)
            self.returncode = int(told) if told else -signal.SIGKILL  # the parent of all is gone
        return self.returncode


def _readable(descriptor: int, timeout: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(None if timeout is None else max(timeout, 0)))


class Parent:
    """The process that commands are forks of, started when the first one is asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def start(self, script: str, arguments: list[str], environment: dict[str, str]) -> WarmProcess:
        """Run ``python script arguments`` in the project's root, in a session of its own."""
        ours = self._connected()
        output, status = os.pipe(), os.pipe()
        request = json.dumps({"argv": [script, *arguments], "environment": environment})
        socket.send_fds(ours, [f"{request}\n".encode()], [output[1], status[1]])
        for end in (output[1], status[1]):
            os.close(end)
        return WarmProcess(int(_line(ours)), output[0], status[0])

    def close(self) -> None:
        """End it; commands that still run go on."""
        if self._process and self._socket:
            self._socket.close()
            self._process.wait(timeout=30)
            self._process = self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            command = [sys.executable, "-m", "tests.e2e.warm", str(theirs.fileno())]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()]
            )
            theirs.close()
        return self._socket


def _line(connection: socket.socket) -> bytes:
    found = bytearray()
    while not found.endswith(b"\n"):
        if not (chunk := connection.recv(1)):
            raise RuntimeError("the process that commands are forks of has ended")
        found += chunk
    return bytes(found)


def serve(connection: socket.socket) -> list[str]:
    """Fork for every request; returns only in a fork, with the command that it is to run."""
    statuses: dict[int, int] = {}
    wake, woken = _woken_by_ends()
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == wake:
                    os.read(wake, 4096)
                    _tell_ended(statuses)
                    continue
                request, descriptors = _request(connection)
                pid = os.fork()
                if pid == 0:
                    _become(request["environment"], descriptors[0])
                    for descriptor in (*descriptors, *statuses.values(), wake, woken):
                        os.close(descriptor)
                    connection.close()
                    return list(request["argv"])
                statuses[pid] = descriptors[1]
                os.close(descriptors[0])
                connection.sendall(f"{pid}\n".encode())


def _woken_by_ends() -> tuple[int, int]:
    """A pipe that can be read when a fork has ended."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake, woken


def _request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What is to be run, and where its output and its status go; nobody asks any more: the end."""
    data, descriptors, *_ = socket.recv_fds(connection, 2**16, 2)
    if not data:
        os._exit(0)
    if not data.endswith(b"\n"):  # a large environment comes in parts
        data += _line(connection)
    return json.loads(data), descriptors


def _tell_ended(statuses: dict[int, int]) -> None:
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            descriptor = statuses.pop(pid)
            os.write(descriptor, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(descriptor)


def _become(environment: dict[str, str], output: int) -> None:
    """A new process as ``Popen`` would have started it."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, goal in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, goal)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(environment)


def main() -> None:
    """Import, wait for requests, and be the command that one asks for."""
    for name in HEAVY:
        __import__(name)
    gc.freeze()  # what is imported stays, and the forks share its memory
    argv = serve(socket.socket(fileno=int(sys.argv[1])))
    sys.argv, sys.path[0] = argv, str((ROOT / argv[0]).parent)
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
