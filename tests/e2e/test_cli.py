"""One command composes, trains, evaluates and records."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.runs import list_runs, load_model, read_run
from tests.e2e.conftest import ROOT, Shell

pytestmark = pytest.mark.slow


def test_help_shows_groups_and_five_commands(shell: Shell) -> None:
    printed = shell("--help")
    assert all(
        f"\n{group}: " in printed
        for group in (
            "model",
            "data",
            "trainer",
            "logger",
            "callbacks",
            "model/likelihood",
            "debug",
        )
    )
    assert printed.count("python run_experiment.py ") == 5


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--help"], ["model.latent_dims=3"]])
def test_answers_without_torch(arguments: list[str]) -> None:
    code = (
        "import runpy, sys; sys.argv = ['run_experiment.py', *%r]\n"
        "try: runpy.run_path('run_experiment.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'hydra' in sys.modules and not {'torch', 'numpy', 'lightning'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code % arguments], cwd=ROOT, check=True, capture_output=True
    )


def test_a_finished_run_holds_everything(trained: Path) -> None:
    run = read_run(trained)
    assert run.state == "finished"
    assert run.info["progress"]["epoch"] == 3 and run.info["progress"]["fraction"] == 1.0
    assert run.info["device"] and run.info["versions"]["torch"] and run.info["error"] is None
    expected = [
        "config.yaml",
        ".hydra/overrides.yaml",
        "metrics.jsonl",
        "results.json",
        "metrics.txt",
        "run.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/epoch_0002.ckpt",
        "model/model.safetensors",
        "model/config.yaml",
    ]
    figures = [
        "reconstructions",
        "samples",
        "traversals",
        "latent_scatter",
        "kl_per_dimension",
        "latent_distributions",
        "loss_curves",
    ]
    expected += [
        f"figures/{name}{suffix}.png" for name in figures for suffix in ("", "_epoch_0002")
    ]
    assert [name for name in expected if not (trained / name).exists()] == []
    assert list(trained.glob("csv/*/metrics.csv"))
    assert list(trained.glob("tensorboard/events*")) and list(trained.glob("wandb/**/*.wandb"))


def test_metrics_are_logged_under_their_names(trained: Path) -> None:
    rows = list(read_run(trained).metrics())
    names = {name for row in rows for name in row["metrics"]}
    expected = {
        f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "recon_nll", "kl")
    }
    expected |= {
        f"{stage}/{name}"
        for stage in ("val", "test")
        for name in ("mse", "psnr", "pixel_accuracy", "active_units", "energy_mean")
    }
    assert expected | {"test/nll", "test/ssim", "test/elbo", "test/knn_accuracy"} <= names
    losses = [row["metrics"]["val/loss"] for row in rows if "val/loss" in row["metrics"]]
    assert len(losses) == 3 and losses[-1] < losses[0]


def test_results_stand_beside_their_baselines(trained: Path) -> None:
    metrics = json.loads((trained / "results.json").read_text())["metrics"]
    assert metrics["test/num_samples"]["value"] == 359
    assert set(metrics["test/mse"]["baselines"]) == {"mean image", "PCA-4"}
    assert metrics["test/nll"]["unit"] == "nats" and metrics["test/psnr"]["unit"] == "dB"
    assert (
        metrics["test/mse"]["baselines"]["PCA-4"] < metrics["test/mse"]["baselines"]["mean image"]
    )


def test_evaluating_later_finds_the_same(trained: Path, tmp_path: Path, shell: Shell) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    before = json.loads((copy / "results.json").read_text())
    (copy / "results.json").unlink()
    shutil.rmtree(copy / "model")  # as after a run that was stopped: the best checkpoint is taken
    shell(f"run={copy}", "importance_samples=4", script="scripts/evaluate.py")
    after = json.loads((copy / "results.json").read_text())
    for name, row in before["metrics"].items():
        assert after["metrics"][name]["value"] == pytest.approx(row["value"], rel=1e-4), name


@pytest.mark.parametrize("format, suffix", [("torch_export", "pt2"), ("onnx", "onnx")])
def test_export_agrees_with_the_model(
    trained: Path, shell: Shell, format: str, suffix: str
) -> None:
    printed = shell(
        f"run={trained}",
        f"format={format}",
        f"output={shell.folder}/out",
        script="scripts/export.py",
    )
    assert printed.count("largest difference from the model") == 2
    if format == "torch_export":
        model, x = load_model(trained), torch.rand(7, 1, 8, 8)
        program = torch.export.load(shell.folder / "out" / f"encoder.{suffix}").module()
        assert torch.allclose(program(x), model.encode(x).mean, atol=1e-5)


def test_pictures_of_ones_own(shell: Shell) -> None:
    folder = shell.folder / "pictures"
    for label in ("dark", "bright"):
        (folder / label).mkdir(parents=True)
        for i in range(20):
            level = 60 * (label == "bright") + np.random.default_rng(i).integers(
                0, 120, (18, 22, 3)
            )
            Image.fromarray(level.astype(np.uint8)).save(folder / label / f"{i}.png")
    arguments = [
        "data=images",
        f"data.path={folder}",
        "data.batch_size=16",
        "data.size=[16,24]",
        "trainer.max_epochs=2",
        "logger=none",
    ]
    run = shell.train(
        *arguments,
        "model/encoder=conv",
        "model/decoder=conv",
        "model.encoder.channels=8",
        small=False,
    )
    assert load_model(run).sample(2).shape == (2, 3, 16, 24)
    assert "test/knn_accuracy" in read_run(run).results["metrics"]  # the folders are the labels


def test_a_multirun_trains_every_combination(shell: Shell) -> None:
    sweep = shell.folder / "sweep"
    shell(
        "-m",
        "seed=1,2",
        f"hydra.sweep.dir={sweep}",
        "trainer.max_epochs=1",
        "logger=none",
        "callbacks=minimal",
        "model.latent_dim=4",
        "importance_samples=2",
    )
    runs = list_runs(sweep)
    assert [run.state for run in runs] == ["finished"] * 2
    assert len({run.results["metrics"]["test/nll"]["value"] for run in runs}) == 2


def test_a_collapsed_run_says_so(shell: Shell) -> None:
    run = shell.train(
        "model.objective.beta=1000", "trainer.max_epochs=2", "logger=none", "callbacks=minimal"
    )
    (warning,) = read_run(run).results["warnings"]
    assert warning.startswith("posterior collapse: 0 of 4 latent units")


def test_the_default_model_is_worth_having(shell: Shell) -> None:
    run = shell.train("logger=none", small=False)
    results = read_run(run).results
    metrics = {name: row["value"] for name, row in results["metrics"].items()}
    baselines = results["metrics"]["test/nll"]["baselines"]
    assert metrics["test/nll"] < min(baselines.values())
    assert metrics["test/knn_accuracy"] >= 0.95 and metrics["test/mse"] <= 0.016
    assert results["warnings"] == []


BAD_INPUT = [
    (["model=vaee"], "nearest: 'vae'"),
    (["trainer.max_epoch=3"], "nearest: 'trainer.max_epochs'"),
    (["+model.objective.bta=3"], "nearest: 'beta'"),
    (
        ["model/encoder=conv", "data.kind=vector", "data.shape=[64]"],
        "data that fits: atari, digits, images, recordings",
    ),
    (["data=images"], "needs data.path="),
    (["data=images", "data.path=/nowhere"], "/nowhere does not exist"),
    (["data.batch_size=5000"], "use at most 1258"),
    (["data.shape=[1,9,9]"], "the train samples are [1, 8, 8]"),
    (["ckpt_path=/nowhere/last.ckpt"], "/nowhere/last.ckpt does not exist"),
    (["model.encoder._target_=os.system"], "is refused"),
    (["model.encoder._target_=torch.hub.load"], "is refused"),
    (["model.encoder._target_=src.runs.control.request"], "is refused"),
    (["model/posterior=delta"], "use model/objective=reconstruction"),
    (["model.likelihood.scale=wide"], "choices: fixed, learned"),
    (["seed=one"], "seed=one must be of type int"),
    (["data.split=[0.5,0.5,0.5]"], "three positive fractions"),
]


@pytest.mark.parametrize("arguments, sentence", BAD_INPUT, ids=[" ".join(a) for a, _ in BAD_INPUT])
def test_bad_input_gets_one_sentence(shell: Shell, arguments: list[str], sentence: str) -> None:
    printed = shell(f"hydra.run.dir={shell.folder}/run", "logger=none", *arguments, status=1)
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and sentence in errors[0]
    assert "Traceback" not in printed
