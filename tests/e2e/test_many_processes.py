"""The same command on two processes."""

import os
import signal
from pathlib import Path

import pytest
import torch

from src.datamodules import DigitsDataModule
from src.runs import list_runs, load_model, read_run
from tests.e2e.conftest import Shell
from tests.e2e.test_endings import step, wait_for

pytestmark = pytest.mark.slow
DDP = ["trainer=ddp", "data=digits", "trainer.max_epochs=2", "logger=none", "callbacks=minimal"]


def mse_of_the_whole_test_split(run: Path) -> float:
    """Computed here, every sample once, from the model that the run has written."""
    data = DigitsDataModule(name="digits", shape=[1, 8, 8], kind="image")
    data.setup()
    x = data.floats("test")
    with torch.no_grad():
        return float((load_model(run).reconstruct(x) - x).square().mean())


def test_every_test_sample_is_evaluated_once(shell: Shell) -> None:
    run = read_run(shell.train(*DDP))
    metrics = {name: row["value"] for name, row in run.results["metrics"].items()}
    assert run.state == "finished" and run.info["device"] == "2 × cpu"
    assert metrics["test/num_samples"] == 359  # odd: the two processes have different shares
    assert metrics["test/mse"] == pytest.approx(mse_of_the_whole_test_split(run.path), rel=1e-5)
    assert {row["metrics"].get("val/num_samples") for row in run.metrics()} - {None} == {180.0}
    # 1258 samples over 2 processes in batches of 128: 5 steps an epoch, against 10 on one.
    assert run.info["progress"]["step"] == 10


def test_a_multirun_trains_the_same_trial_on_both_ranks(shell: Shell) -> None:
    sweep = shell.folder / "sweep"
    shell(
        "-m",
        "seed=1,2",
        f"hydra.sweep.dir={sweep}",
        *DDP,
        "model.latent_dim=4",
        "importance_samples=2",
        timeout=180,
    )
    runs = list_runs(sweep)
    assert sorted(run.path.name for run in runs) == ["0", "1"]
    assert [run.state for run in runs] == ["finished", "finished"]
    for run in runs:
        seed = int(run.path.name) + 1
        assert f"seed: {seed}" in (run.path / "config.yaml").read_text()
        assert (run.path / "run_rank1.log").exists()
        # Two ranks with different seeds or trials would not have trained the weights that rank 0 has saved and tested.
        assert run.results["metrics"]["test/mse"]["value"] == pytest.approx(
            mse_of_the_whole_test_split(run.path), rel=1e-5
        )
    assert (
        runs[0].results["metrics"]["test/mse"]["value"]
        != runs[1].results["metrics"]["test/mse"]["value"]
    )


def test_a_signal_to_one_process_stops_both(shell: Shell) -> None:
    process = shell.start(*shell.arguments(*DDP, "trainer.max_epochs=100000"))
    directory = shell.directory("run")
    wait_for(lambda: step(directory) >= 10)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143 and read_run(directory).state == "stopped"
    assert torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0
