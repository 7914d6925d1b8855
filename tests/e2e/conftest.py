"""Runs of the real command line; every process is started in a session of its own, which is ended with the test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.warm import Parent, WarmProcess

ROOT = Path(__file__).parents[2]
SMALL = [
    "model.encoder.out_features=32",
    "model.decoder.width=32",
    "model.latent_dim=4",
    "importance_samples=4",
]


Process = subprocess.Popen[str] | WarmProcess
PARENT = Parent()


class Shell:
    """Starts the project's commands with ``logs`` in a folder of the test's own.

    Args:
        folder: the test's own.
        warm: commands are forks of a process that has imported the libraries; else they start from nothing.
    """

    def __init__(self, folder: Path, warm: bool = True) -> None:
        self.folder, self.warm = folder, warm
        self.processes: list[Process] = []
        self.environment = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}

    def start(self, *arguments: str, script: str = "run_experiment.py") -> Process:
        """Start and go on."""
        started = self._fork if self.warm else self._start
        self.processes.append(started(script, list(arguments)))
        return self.processes[-1]

    def _fork(self, script: str, arguments: list[str]) -> Process:
        return PARENT.start(script, arguments, os.environ | self.environment)

    def _start(self, script: str, arguments: list[str]) -> Process:
        command = [sys.executable, script, *arguments]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | self.environment,
            text=True,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def __call__(
        self,
        *arguments: str,
        script: str = "run_experiment.py",
        status: int = 0,
        timeout: float = 120,
    ) -> str:
        """Run to the end and return what was printed."""
        process = self.start(*arguments, script=script)
        printed, _ = process.communicate(timeout=timeout)
        assert process.returncode == status, printed[-3000:]
        return printed

    def train(
        self, *arguments: str, name: str = "run", small: bool = True, status: int = 0
    ) -> Path:
        """Train and return the run's directory."""
        self(*self.arguments(*arguments, name=name, small=small), status=status)
        return self.directory(name)

    def arguments(self, *arguments: str, name: str = "run", small: bool = True) -> list[str]:
        """What a training of the test is started with."""
        return [f"hydra.run.dir={self.directory(name)}", *(SMALL if small else []), *arguments]

    def directory(self, name: str) -> Path:
        """Where the run called ``name`` lies."""
        return self.folder / name

    def close(self) -> None:
        """End what is still there."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()


@pytest.fixture(scope="session", autouse=True)
def parent() -> Iterator[None]:
    """End what warm commands are forks of."""
    yield
    PARENT.close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """The command line with a folder of its own."""
    one = Shell(tmp_path)
    yield one
    one.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One small finished run, shared; tests must not change it."""
    one = Shell(tmp_path_factory.mktemp("trained"), warm=False)
    yield one.train(
        "trainer.max_epochs=3",
        "logger=many",
        "callbacks.figures.every_n_epochs=2",
        "callbacks.periodic_checkpoint.every_n_epochs=2",
    )
    one.close()


@pytest.fixture
def run_file() -> Callable[[Path], dict]:
    """Reads run.json."""
    return lambda directory: json.loads((directory / "run.json").read_text())
