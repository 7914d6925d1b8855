"""What happens to a process whose companion dies while it waits for it."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

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


def test_an_error_of_ones_own_is_not_blamed_on_others() -> None:
    with pytest.raises(RuntimeError, match="mine") as caught, many_processes():
        raise RuntimeError("mine")
    assert not isinstance(caught.value, LostProcess)
    with pytest.raises(ValueError, match="timed out"), many_processes():
        raise ValueError("timed out")


def test_nobody_is_left_behind_by_a_failed_process() -> None:
    import lightning.pytorch.strategies.launchers.subprocess_script as launcher

    import src.utils.ddp as ddp

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
