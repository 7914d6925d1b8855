"""What is left of this machine, and what a driver that is not there, or says nothing of use, makes of it."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from src.runs.machine import Gpu, folder_size, gpus, machine, size_text


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A machine whose nvidia-smi is this shell script."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_machine_is_the_one_that_the_system_tells_of(tmp_path: Path) -> None:
    found = machine(tmp_path / "not" / "there yet")
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.memory_total == psutil.virtual_memory().total
    assert 0 < found.memory_used < found.memory_total
    assert found.disk_total == psutil.disk_usage(str(tmp_path)).total
    assert 0 < found.disk_free < found.disk_total


def test_gpus_are_as_their_driver_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "NVIDIA H200, 1024, 143771, 37\\nA, with a comma, [N/A], [N/A], [N/A]\\n\\n"
    driver(tmp_path, monkeypatch, f"printf '{lines}'; echo \"$@\" > {tmp_path}/asked")
    assert gpus() == (
        (
            Gpu("NVIDIA H200", 1024 * 2**20, 143771 * 2**20, 0.37),
            Gpu("A, with a comma", None, None, None),
        ),
        None,
    )
    assert "memory.used,memory.total" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'couldn'\\''t communicate with the NVIDIA driver'; exit 9", "communicate"),
        ("exit 3", "status 3"),
        ("sleep 5", "does not answer"),
    ],
)
def test_a_driver_in_trouble_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    monkeypatch.setattr("src.runs.machine.PATIENCE_S", 0.3)
    driver(tmp_path, monkeypatch, script)
    found, trouble = gpus()
    assert found == () and trouble is not None and said in trouble


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent / "nothing"))
    assert gpus() == ((), None)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1 kB"),
        (25_300_000_000, "25.3 GB"),
        (4.2e15, "4.2e+03 TB"),
    ],
)
def test_sizes_are_told_in_powers_of_a_thousand(number: float, text: str) -> None:
    assert size_text(number) == text


def test_a_folder_is_as_large_as_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "deep" / "er" / "b").write_bytes(b"123")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert folder_size(tmp_path) == 8 + (tmp_path / "dangling").lstat().st_size
    assert folder_size(tmp_path / "nowhere") == 0
