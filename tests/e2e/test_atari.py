"""Atari from the command line: recorded at the first use, trained, and told beside its baselines."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.recordings import Recording, find_recordings
from tests.e2e.conftest import Shell

pytestmark = pytest.mark.slow
DATA = ["data.episodes=3", "data.max_steps=40", "data.batch_size=16"]
NARROW = ["trainer.max_epochs=1", "importance_samples=2", "logger=none"]
FIGURES = [
    "kl_per_dimension",
    "latent_distributions",
    "latent_scatter",
    "loss_curves",
    "reconstructions",
    "samples",
    "traversals",
]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, Path]]:
    """The quick experiment, on three short episodes."""
    one = Shell(tmp_path_factory.mktemp("atari"))
    root = f"paths.data_dir={one.folder / 'data'}"
    yield one, one.train("experiment=atari_quick", *DATA, *NARROW, root, small=False)
    one.close()


def test_episodes_are_recorded_and_readable(quick: tuple[Shell, Path]) -> None:
    shell, _ = quick
    recordings = [Recording.open(path) for path in find_recordings(shell.folder / "data")]
    assert len(recordings) == 3 and {one.robot for one in recordings} == {"atari_breakout"}
    for one in recordings:
        assert one.finished and len(one.actions) == len(one.observations) - 1 <= 40
        assert one.frame(0).shape == (64, 64, 3) and one.frame(0).max() > 100


def test_results_stand_beside_mean_frame_and_linear_codes(quick: tuple[Shell, Path]) -> None:
    _, run = quick
    results = json.loads((run / "results.json").read_text())["metrics"]
    names = {"mse", "psnr", "pixel_accuracy", "foreground_psnr"}
    for name in names:
        assert {"mean image", "PCA-8", "PCA-32"} <= results[f"test/{name}"]["baselines"].keys()
    assert {"test/psnr_sampled", "test/kl", "test/active_units"} <= results.keys()
    text = (run / "metrics.txt").read_text().splitlines()
    assert text[0] == f"MSE: {results['test/mse']['value']:.6f}"
    assert text[1] == f"PSNR: {results['test/psnr']['value']:.2f} dB"
    assert text[2] == f"Accuracy (±0.1): {100 * results['test/pixel_accuracy']['value']:.2f} %"
    assert [name for name in FIGURES if not (run / "figures" / f"{name}.png").exists()] == []


def test_a_second_test_records_nothing_again(quick: tuple[Shell, Path]) -> None:
    shell, run = quick
    before = (run / "results.json").read_text()
    made = {path: path.stat().st_mtime_ns for path in find_recordings(shell.folder / "data")}
    shell(
        f"run={run}",
        "importance_samples=2",
        f"paths.data_dir={shell.folder / 'data'}",
        script="scripts/evaluate.py",
    )
    assert {p: p.stat().st_mtime_ns for p in find_recordings(shell.folder / "data")} == made
    again, first = (
        json.loads(text)["metrics"]["test/foreground_psnr"]
        for text in ((run / "results.json").read_text(), before)
    )
    assert again["value"] == pytest.approx(first["value"], rel=1e-4)
