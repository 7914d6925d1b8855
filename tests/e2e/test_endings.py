"""However a run ends, its record says so and nothing trained is lost."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.runs import PAUSE, RESUME, STOP, read_run, request
from tests.e2e.conftest import Shell

pytestmark = pytest.mark.slow

# Everything that a resumed run must carry over: a schedule of the KL and of the learning rate, and early stopping.
EXACT = [
    "trainer.max_epochs=6",
    "logger=none",
    "test=false",
    "callbacks.figures=null",
    "callbacks.kl_warmup.duration=4",
    "callbacks.early_stopping.patience=50",
    "model/scheduler=cosine",
    "data.batch_size=16",
]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until ``condition``, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def step(directory: Path) -> int:
    """The last step that was logged."""
    rows = list(read_run(directory).metrics()) if (directory / "run.json").exists() else []
    return max((row["step"] for row in rows if row["step"] is not None), default=-1)


def contents(directory: Path) -> dict:
    """What ``last.ckpt`` holds."""
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same_training(one: Path, other: Path) -> None:
    """Weights, optimiser, scheduler, early stopping and random state are equal to the last bit."""
    a, b = contents(one), contents(other)
    assert a["global_step"] == b["global_step"]
    assert all(
        torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"]
    )
    for state_a, state_b in zip(
        a["optimizer_states"][0]["state"].values(),
        b["optimizer_states"][0]["state"].values(),
        strict=True,
    ):
        assert all(torch.equal(state_a[name], state_b[name]) for name in state_a)
    assert a["lr_schedulers"] == b["lr_schedulers"]
    stopping = next(name for name in a["callbacks"] if name.startswith("EarlyStopping"))
    assert str(a["callbacks"][stopping]) == str(b["callbacks"][stopping])
    assert torch.equal(a["rng"][0]["torch"], b["rng"][0]["torch"])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training that the interrupted ones must equal."""
    return Shell(tmp_path_factory.mktemp("whole")).train(*EXACT)


def test_killed_and_resumed_is_bit_equal(shell: Shell, uninterrupted: Path) -> None:
    process = shell.start(*shell.arguments(*EXACT))
    directory, when = shell.directory("run"), random.randint(90, 350)
    wait_for(lambda: step(directory) >= when)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert read_run(directory).state == "dead"
    assert json.loads((directory / "run.json").read_text())["state"] == "running"
    shell(f"ckpt_path={directory}/checkpoints/last.ckpt")
    assert read_run(directory).state == "finished"
    assert_same_training(directory, uninterrupted)


def test_the_last_epoch_is_kept_though_an_earlier_one_was_best(shell: Shell) -> None:
    worst = ("callbacks.checkpoint.monitor=val/mse", "callbacks.checkpoint.mode=max")
    run = shell.train(*EXACT, *worst)  # the first epoch's is the largest
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    last = contents(run)
    assert best["epoch"] < last["epoch"] == 5
    assert last["global_step"] == read_run(run).info["progress"]["step"]


def test_pause_resume_and_stop_by_request(shell: Shell, uninterrupted: Path) -> None:
    process = shell.start(*shell.arguments(*EXACT))
    directory = shell.directory("run")
    wait_for(lambda: step(directory) >= 10)
    request(directory, PAUSE)
    wait_for(lambda: read_run(directory).state == "paused")
    paused_at = read_run(directory).info["progress"]["step"]
    time.sleep(0.5)
    assert read_run(directory).info["progress"]["step"] == paused_at
    request(directory, RESUME)
    wait_for(lambda: step(directory) > paused_at + 20)
    request(directory, STOP)
    process.communicate(timeout=60)
    assert process.returncode == 0 and read_run(directory).state == "stopped"
    assert paused_at < contents(directory)["global_step"] < contents(uninterrupted)["global_step"]
    shell(f"ckpt_path={directory}/checkpoints/last.ckpt")
    assert_same_training(directory, uninterrupted)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_in_the_middle_of_an_epoch(
    shell: Shell, uninterrupted: Path, number: signal.Signals, status: int
) -> None:
    process = shell.start(*shell.arguments(*EXACT))
    directory = shell.directory("run")
    wait_for(lambda: step(directory) >= 30)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status and read_run(directory).state == "stopped"
    shell("trainer.max_epochs=6", f"ckpt_path={directory}/checkpoints/last.ckpt")
    assert_same_training(directory, uninterrupted)


def test_nan_ends_the_run_and_keeps_what_was_good(shell: Shell) -> None:
    arguments = shell.arguments(
        "trainer.max_epochs=40",
        "logger=none",
        "callbacks=minimal",
        "model.likelihood.scale=fixed",
        "model.optimizer.lr=1e18",
    )
    printed = shell(*arguments, status=1)
    run = read_run(shell.directory("run"))
    assert run.state == "failed" and "not finite" in run.info["error"]
    assert "error: the loss is not finite" in printed and "Traceback" not in printed
    for checkpoint in run.path.glob("checkpoints/*.ckpt"):
        assert all(
            t.isfinite().all()
            for t in torch.load(checkpoint, weights_only=True)["state_dict"].values()
        )


def test_an_exception_is_recorded(shell: Shell) -> None:
    shell(*shell.arguments("logger=none", "data.batch_size=0"), status=1)
    run = read_run(shell.directory("run"))
    assert run.state == "failed" and run.info["error"]


def test_a_full_disk_keeps_the_earlier_checkpoint(shell: Shell) -> None:
    disk = shell.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        arguments = [
            "logger=none",
            "callbacks=minimal",
            "callbacks.periodic_checkpoint.every_n_epochs=1",
            "trainer.max_epochs=60",
        ]
        printed = shell(*shell.arguments(*arguments, name="disk/run"), status=1)
        directory = disk / "run"
        assert "error: the disk is full" in printed and "Traceback" not in printed
        assert read_run(directory).state in ("failed", "dead")
        assert contents(directory)["global_step"] > 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("damage", ["truncated", "pickle", "architecture"])
def test_a_bad_checkpoint_is_refused_and_nothing_overwritten(
    shell: Shell, trained: Path, damage: str
) -> None:
    checkpoint, sentinel = shell.folder / "bad.ckpt", shell.folder / "executed"
    content = (trained / "checkpoints" / "last.ckpt").read_bytes()
    if damage == "truncated":
        checkpoint.write_bytes(content[: len(content) // 2])
    elif damage == "pickle":

        class Payload:
            def __reduce__(self) -> tuple:
                return os.system, (f"touch {sentinel}",)

        torch.save({"state_dict": Payload()}, checkpoint)
    else:
        checkpoint.write_bytes(content)
    arguments = [] if damage == "architecture" else ["model.latent_dim=4"]
    printed = shell(
        f"hydra.run.dir={shell.folder}/run",
        "logger=none",
        *arguments,
        f"ckpt_path={checkpoint}",
        status=1,
    )
    expected = {
        "truncated": "truncated",
        "pickle": "is not opened",
        "architecture": "is of another architecture",
    }
    assert expected[damage] in printed and "Traceback" not in printed
    assert not sentinel.exists()


def test_a_refused_resumption_leaves_the_run_as_it_was(shell: Shell, trained: Path) -> None:
    run = shutil.copytree(trained, shell.folder / "run")
    names = ("run.json", "config.yaml", "results.json", "model/model.safetensors")
    before = [(run / name).read_bytes() for name in names]
    printed = shell("model.latent_dim=5", f"ckpt_path={run}/checkpoints/last.ckpt", status=1)
    assert "is of another architecture" in printed
    printed = shell("trainer.max_epochs=0", f"ckpt_path={run}/checkpoints/last.ckpt", status=1)
    epoch = contents(run)["epoch"]
    assert "trainer.max_epochs=0: " in printed and f"has reached epoch {epoch} already" in printed
    assert [(run / name).read_bytes() for name in names] == before
    shell("train=false", f"ckpt_path={run}/checkpoints/best.ckpt")
    after = read_run(run).results
    assert after["checkpoint"] == "best.ckpt"
    assert after["metrics"]["test/mse"] == json.loads(before[2])["metrics"]["test/mse"]


def test_a_living_run_is_not_resumed(shell: Shell) -> None:
    process = shell.start(*shell.arguments(*EXACT, "trainer.max_epochs=100000"))
    directory = shell.directory("run")
    wait_for(lambda: (directory / "checkpoints" / "last.ckpt").exists())
    printed = shell(f"ckpt_path={directory}/checkpoints/last.ckpt", status=1)
    assert "stop it first" in printed and read_run(directory).state == "running"
    os.killpg(process.pid, signal.SIGKILL)
