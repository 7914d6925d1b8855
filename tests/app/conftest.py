"""Runs for the pages: what a page shows needs files, and what it computes needs trained models."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from streamlit.testing.v1 import AppTest

from tests.e2e.conftest import SMALL, Shell, parent

__all__ = ["parent"]
QUICK = ["logger=none", "features=none", "importance_samples=2"]


Train = Callable[..., None]


@pytest.fixture(scope="session")
def logs_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, Train], Path]]:
    """``logs_of("digits", make)`` → a folder that ``make(train)`` has filled, once for all of pytest's workers."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    shell = Shell(shared / "logs_of_pages")
    shell.folder.mkdir(exist_ok=True)

    def filled(name: str, make: Train) -> Path:
        done = shell.folder / f"{name}.done"
        with FileLock(shell.folder / f"{name}.lock"):
            if not done.exists():
                make(
                    lambda run, *arguments: shell.train(
                        *arguments, name=f"{name}/{run}", small=False
                    )
                )
                done.touch()
        return shell.directory(name)

    yield filled
    shell.close()


@pytest.fixture(scope="session")
def digits_logs(logs_of: Callable[[str, Train], Path]) -> Path:
    """Logs with two trained VAEs of digits, ``vae/1`` and ``vae/2``, whose seeds differ; tests must not change them."""

    def make(train: Train) -> None:
        for seed in (1, 2):
            train(f"vae/{seed}", *SMALL, *QUICK, f"seed={seed}", "trainer.max_epochs=2")

    return logs_of("digits", make)


@pytest.fixture(scope="session")
def sequence_logs(logs_of: Callable[[str, Train], Path]) -> Path:
    """Logs with one Riemannian flow VAE of sprite sequences, ``flow``."""
    few = [f"data.characters.{split}={n}" for split, n in (("train", 8), ("val", 4), ("test", 6))]
    sizes = ["model.latent_dim=4", "model.metric.centroids=8", "data.batch_size=4"]
    command = ["model=riemannian_flow", "trainer.max_epochs=1", *sizes, *few, *QUICK]
    return logs_of("sequences", lambda train: train("flow", *command))


@pytest.fixture(scope="session")
def hand_logs(logs_of: Callable[[str, Train], Path]) -> Path:
    """Logs with one pose prior, ``hand``, and its calibrated energy."""
    sizes = ["data.frames=600", "data.batch_size=128", "trainer.max_epochs=1"]
    command = ["experiment=hand_quick", *sizes, *QUICK]
    return logs_of("hands", lambda train: train("hand", *command))


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder whose runs the pages show."""
    monkeypatch.setenv("LATENT_LAB_LOGS", str(tmp_path))
    return tmp_path


def at(page: AppTest, **address: str) -> AppTest:
    """The page at this address, run once, without an exception."""
    for key, value in address.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception, page.exception
    return page


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """``open_page("gallery", logs, run="vae/1")`` → the page as ``AppTest``, run once, without an exception."""

    def opened(name: str, logs: Path, **address: str) -> AppTest:
        monkeypatch.setenv("LATENT_LAB_LOGS", str(logs))
        script = f"from src.app.{name} import page\npage()\n"
        return at(AppTest.from_string(script, default_timeout=120), **address)

    return opened
