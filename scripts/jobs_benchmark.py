"""What a second process brings a training, and what a trial costs beside its training; for scripts/benchmark.py.

Everything is measured from outside: the command as a person types it, and the times in the runs' own files.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from src.callbacks.report import epoch_seconds
from src.runs.reading import list_runs, read_run

ROOT = Path(__file__).resolve().parents[1]
Table = tuple[list[str], list[list[str]]]
EPOCHS = 11  # of a trial
QUIET = ("logger=none", "callbacks=minimal", "features=none", "test=false")
# A network large enough that a step is worth dividing, and one so small that the work between steps shows.
NETWORKS = {
    "conv, (3, 64, 64), batch 64 a process": (
        (3, 64, 64),
        64,
        ("model/encoder=conv", "model/decoder=conv"),
    ),
    "MLP, (1, 28, 28), batch 128 a process": ((1, 28, 28), 128, ()),
}


def run(arguments: Sequence[str], folder: Path) -> float:
    """Run the command in ``folder``; returns its wall time in seconds."""
    command = [sys.executable, str(ROOT / "run_experiment.py"), *arguments]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return time.perf_counter() - start


def scaling(rounds: int = 3, batches: int = 40) -> Table:
    """Samples per second on two processes over those on one, the batch of each process being the same."""
    rows = []
    for name, (shape, batch, overrides) in NETWORKS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            pictures = np.random.default_rng(0).integers(
                0, 256, (batches * batch, *shape), np.uint8
            )
            np.savez(folder / "x.npz", train=pictures, val=pictures[:4], test=pictures[:4])
            common = [
                *QUIET,
                *overrides,
                "data=images",
                "data.path=x.npz",
                f"data.batch_size={batch}",
            ]
            common += ["trainer.max_epochs=6", "trainer.accelerator=cpu"]
            found: dict[str, list[float]] = {"cpu": [], "ddp_cpu": []}
            for number in range(rounds):
                for trainer, seconds in found.items():
                    directory = folder / f"{trainer}{number}"
                    run([*common, f"trainer={trainer}", f"hydra.run.dir={directory}"], folder)
                    seconds.append(epoch_seconds(directory) or float("nan"))
        one, two = (len(pictures) / median(seconds) for seconds in found.values())
        rows.append([name, f"{one:.0f}", f"{two:.0f}", f"{two / one:.2f}", "2"])
        print(*rows[-1], sep=" | ", flush=True)
    return ["training on the CPU", "1 process, samples/s", "2 processes", "ratio", "at most"], rows


def trials(number: int = 8, alone: int = 3) -> Table:
    """A trial of a study, whose process is used again, against the same training in a process of its own."""
    training = [*QUIET, "data=digits", f"trainer.max_epochs={EPOCHS}", "model.latent_dim=4"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runs = [folder / f"alone{seed}" for seed in range(alone)]
        walls = [
            run([*training, f"seed={seed}", f"hydra.run.dir={directory}"], folder)
            for seed, directory in enumerate(runs)
        ]
        trained = [_training_seconds(directory) for directory in runs]
        sweep = folder / "sweep"
        start = time.time()
        run(
            [
                "-m",
                "hydra/sweeper=study",
                "hydra/launcher=processes",
                "hydra/sweeper/sampler=random",
                "hydra/sweeper/pruner=none",
                "model.optimizer.lr=tag(log,interval(1e-4,1e-2))",
                *training,
                f"hydra.sweeper.n_trials={number}",
                f"hydra.sweep.dir={sweep}",
            ],
            folder,
        )
        end = time.time()
        starts = sorted(one.info["started"] for one in list_runs(sweep))
        of_trials = [_training_seconds(one.path) for one in list_runs(sweep)]
    between = median(np.diff(starts))
    rows = [
        ["a process of its own", median(walls), median(trained)],
        ["a trial after the first", between, median(of_trials)],
        ["a study's start, until its first trial begins", starts[0] - start, 0.0],
        ["a study's end, after its last trial began", end - starts[-1], median(of_trials)],
    ]
    cells = [
        [str(name), f"{wall:.2f}", f"{fit:.2f}", f"{wall - fit:.2f}"] for name, wall, fit in rows
    ]
    overheads = [wall - fit for _, wall, fit in rows[:2]]  # type: ignore[operator]
    cells.append(["ratio of the first two overheads", "", "", f"{overheads[0] / overheads[1]:.1f}"])
    return [f"{EPOCHS} epochs of digits", "wall, s", "of it training, s", "overhead, s"], cells


def _training_seconds(directory: Path) -> float:
    """From the end of a run's first epoch to that of its last, and one epoch more for the first."""
    times: list[Any] = [row["time"] for row in read_run(directory).metrics()]
    return float(times[-1] - times[0]) * EPOCHS / (EPOCHS - 1)
