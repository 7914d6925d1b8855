"""What happens to a process whose companion dies while it waits for it."""

import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch.strategies.launchers.subprocess_script as launcher
import psutil
import pytest
import torch

from src.utils import ddp
from src.utils.ddp import LostProcess, many_processes

ROOT = Path(__file__).parents[2]
# The main thread waits as in a collective: nothing but the end of the process gets it out.
WAITING = """
import subprocess, sys, time
from pathlib import Path
from src.utils import ddp

ddp.GRACE = 0.2
folder = Path(sys.argv[1])
with ddp.many_processes((folder / "told").write_text):
    import lightning.pytorch.strategies.launchers.subprocess_script as launcher

    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    launcher._launch_process_observer(children)
    (folder / "pid").write_text(str(children[0].pid))
    children[1].kill()
    time.sleep(60)
"""


def test_a_process_that_waits_for_a_dead_one_says_so_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITING, str(tmp_path)], cwd=ROOT, timeout=60, capture_output=True
    )
    assert done.returncode == 1
    assert "process 2 of this training was killed by SIGKILL" in (tmp_path / "told").read_text()
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def group(tmp_path: Path) -> None:
    """A training of one process that thinks of itself as one of many; the context under test leaves it."""
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)


def with_a_companion(ends_with: int, after: float = 0.0) -> None:
    """Another process of this training, which ends by itself."""
    code = f"import time; time.sleep({after}); raise SystemExit({ends_with})"
    launcher._launch_process_observer([subprocess.Popen([sys.executable, "-c", code])])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DataLoader timed out after 60 seconds"),
        ValueError("by peer"),
    ],
)
def test_an_error_of_ones_own_is_not_blamed_on_others(group: None, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, many_processes():
        with_a_companion(ends_with=1)
        raise error
    assert caught.value is error


def test_a_collective_that_fails_is_blamed_on_the_process_that_did(group: None) -> None:
    with (
        pytest.raises(LostProcess, match="process 1 of this training ended with status 3"),
        many_processes(),
    ):
        with_a_companion(ends_with=3, after=1.5)  # it has waited itself before it ends
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")


def test_without_a_group_nobody_else_is_blamed() -> None:
    with pytest.raises(RuntimeError, match="^timed out by peer$"), many_processes():
        raise RuntimeError("timed out by peer")


def test_a_process_that_cannot_tell_ends_all_the_same(tmp_path: Path) -> None:
    code = WAITING.replace('(folder / "told").write_text', "lambda sentence: 1 / 0")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, timeout=60, capture_output=True
    )
    assert done.returncode == 1


def test_nobody_is_left_behind_by_a_failed_process() -> None:
    child = subprocess.Popen(["sleep", "60"])
    start, before = time.monotonic(), ddp.GRACE
    ddp.GRACE = 0.2
    try:
        with pytest.raises(KeyError), many_processes():
            launcher._launch_process_observer([child])  # type: ignore[attr-defined]
            raise KeyError
    finally:
        ddp.GRACE = before
    assert child.wait(5) < 0 and time.monotonic() - start < 10
