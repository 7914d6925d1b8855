"""The same command on two processes."""

import os
import signal
from pathlib import Path

import psutil
import pytest
import torch

from src.datamodules import DigitsDataModule
from src.runs import list_runs, load_model, read_run
from tests.e2e.conftest import Shell
from tests.e2e.test_endings import step, wait_for

pytestmark = pytest.mark.slow
DDP = ["trainer=ddp_cpu", "data=digits", "trainer.max_epochs=2", "logger=none", "callbacks=minimal"]


def mse_of_the_whole_test_split(run: Path) -> float:
    """Computed here, every sample once, from the model that the run has written."""
    data = DigitsDataModule(name="digits", shape=[1, 8, 8], kind="image")
    data.setup()
    x = data.floats("test")
    with torch.no_grad():
        return float((load_model(run).reconstruct(x) - x).square().mean())


def test_every_test_sample_is_evaluated_once(shell: Shell) -> None:
    run = read_run(shell.train(*DDP, "model.lr_scaling=sqrt"))
    metrics = {name: row["value"] for name, row in run.results["metrics"].items()}
    assert run.state == "finished" and run.info["device"] == "2 × cpu"
    assert metrics["test/num_samples"] == 359  # odd: the two processes have different shares
    assert metrics["test/mse"] == pytest.approx(mse_of_the_whole_test_split(run.path), rel=1e-5)
    assert {row["metrics"].get("val/num_samples") for row in run.metrics()} - {None} == {180.0}
    # 1258 samples over 2 processes in batches of 128: 5 steps an epoch, against 10 on one.
    assert run.info["progress"]["step"] == 10
    assert run.info["batch"] == {
        "per_process": 128,
        "processes": 2,
        "accumulated": 1,
        "global": 256,
        "learning_rate": pytest.approx(0.001 * 2**0.5),
        "lr_scaling": "sqrt",
    }


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


@pytest.mark.parametrize(
    "number, status, first", [(signal.SIGTERM, 143, True), (signal.SIGINT, 130, False)]
)
def test_a_signal_to_one_process_stops_both(
    shell: Shell, number: signal.Signals, status: int, first: bool
) -> None:
    process = shell.start(*shell.arguments(*DDP, "trainer.max_epochs=100000"))
    directory = shell.directory("run")
    wait_for(lambda: step(directory) >= 10)
    os.kill(process.pid if first else other_rank(directory), number)
    process.communicate(timeout=60)
    assert process.returncode == status
    run = read_run(directory)
    assert (run.state, run.info["stopped_by"]) == ("stopped", number.name)
    assert torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0


def other_rank(run: Path) -> int:
    """The process that rank 0 has started."""
    (child,) = psutil.Process(read_run(run).info["pid"]).children()
    return child.pid


def gone(pid: int) -> bool:
    """Whether a process has ended; where nobody asks how, it stays as a zombie."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    "whose, number, said",
    [
        ("first", signal.SIGKILL, "process 0 of this training was killed"),
        ("other", signal.SIGKILL, "process 1 of this training was killed by SIGKILL"),
        ("other", signal.SIGSTOP, "has not answered within trainer.strategy.timeout_s"),
    ],
)
def test_a_dead_or_silent_process_ends_the_run_as_failed_and_says_so(
    shell: Shell, whose: str, number: signal.Signals, said: str
) -> None:
    endless = [*DDP, "trainer.max_epochs=100000", "trainer.strategy.timeout_s=20"]
    process = shell.start(*shell.arguments(*endless))
    directory = shell.directory("run")
    wait_for(lambda: step(directory) >= 10)
    first, other = read_run(directory).info["pid"], other_rank(directory)
    os.kill(first if whose == "first" else other, number)
    printed, _ = process.communicate(timeout=60)
    wait_for(lambda: gone(other))
    run = read_run(directory)
    assert run.state == "failed" and said in run.info["error"]
    assert "Traceback" not in printed
    assert process.returncode == (-signal.SIGKILL if whose == "first" else 1)
    assert (run.path / "checkpoints" / "last.ckpt").exists()


def test_a_sharded_training_is_that_of_whole_models_and_goes_on_bit_equal(shell: Shell) -> None:
    arguments = [*DDP, "model.likelihood.scale=learned", "trainer.gradient_clip_val=1"]
    arguments += ["trainer.accumulate_grad_batches=2", "model/scheduler=cosine"]
    sharded = [*arguments, "trainer=fsdp", "trainer.accelerator=cpu"]
    whole = read_run(shell.train(*arguments, name="whole"))
    run = read_run(shell.train(*sharded, name="run"))
    period = "model.scheduler.curve.T_max=2"
    short = shell.train(*sharded, "trainer.max_epochs=1", period, name="short")
    shell("trainer.max_epochs=2", f"ckpt_path={short}/checkpoints/last.ckpt")
    for one in (run, read_run(short)):
        assert one.results["metrics"]["test/nll"]["value"] == pytest.approx(
            whole.results["metrics"]["test/nll"]["value"], rel=1e-4
        )
    states = [
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for path in (run.path, short)
    ]
    assert states[0].keys() == load_model(run.path).state_dict().keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_cannot_be_sharded_is_refused(shell: Shell) -> None:
    printed = shell(
        *shell.arguments(*DDP, "trainer=fsdp", "trainer.accelerator=cpu", "model=factor_vae"),
        status=1,
    )
    assert "trainer=fsdp cannot train factor_vae" in printed and "Traceback" not in printed
