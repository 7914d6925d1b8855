"""How fast a training step is, and how soon a config is composed, as ratios measured in one run.

``python scripts/benchmark.py`` lists the benchmarks; ``--write`` puts a table into docs/benchmarks.md.
"""

import argparse
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from src.experiment import assemble
from src.runs.record import RunRecord, write_atomic
from src.utils.build import build
from src.utils.main import CONF, register_resolvers

PAGE = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Workload:
    """A training to be timed: what is trained, on how much, in chunks of how many steps.

    Attributes:
        overrides: of the config.
        shape: of a sample; ``kind`` image is stored uint8, vector float32.
        steps: batches an epoch; a chunk is cut where an epoch ends, and the epoch's end is timed apart.
        chunk: steps timed together.
        chunks: how many of each side.
        target: least ratio.
    """

    name: str
    overrides: tuple[str, ...]
    shape: tuple[int, ...]
    batch_size: int
    steps: int
    chunk: int
    chunks: int
    target: float

    @property
    def kind(self) -> str:
        return "vector" if len(self.shape) == 1 else "image"


CONV = ("model/encoder=conv", "model/decoder=conv")
WORKLOADS = (
    Workload("MLP, (90,), batch 8192", (), (90,), 8192, steps=50, chunk=10, chunks=20, target=0.97),
    Workload("conv, (3, 64, 64), batch 128", CONV, (3, 64, 64), 128, steps=50, chunk=10, chunks=12, target=0.97),
    Workload("the same, compile=true", (*CONV, "compile=true"), (3, 64, 64), 128, steps=50, chunk=10, chunks=12, target=1.15),
    Workload("MLP, (1, 28, 28), batch 128", (), (1, 28, 28), 128, steps=460, chunk=20, chunks=80, target=0.90),
)


class BareLoop:
    """What one would write by hand for the same networks: floats in memory, one gather a batch, no framework.

    The loss is the ELBO in closed form, with the batch's optimal σ: D/2 (log 2πe + log MSE) + KL.
    """

    def __init__(self, latent: nn.Module, x: Tensor, batch_size: int, lr: float) -> None:
        self.encoder, self.head, self.decoder = latent.encoder, latent.posterior.head, latent.decoder
        self.x, self.batch_size = x, batch_size
        parameters = [p for part in (self.encoder, self.head, self.decoder) for p in part.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
        self.order: list[Tensor] = []

    def step(self) -> None:
        """Take one step."""
        if not self.order:
            self.order = list(torch.randperm(len(self.x)).split(self.batch_size))
        x = self.x.index_select(0, self.order.pop())
        mean, log_sigma = self.head(self.encoder(x)).chunk(2, dim=-1)
        z = mean + log_sigma.exp() * torch.randn_like(mean)
        mse = nn.functional.mse_loss(self.decoder(z).squeeze(1), x)
        recon_nll = x[0].numel() / 2 * (mse.log() + math.log(2 * math.pi) + 1)
        kl = (0.5 * (mean.square() + (2 * log_sigma).exp() - 1) - log_sigma).sum(-1).mean()
        self.optimizer.zero_grad()
        (recon_nll + kl).backward()
        self.optimizer.step()


class Interleave(Callback):
    """Times chunks of the fit's steps, and between two of them as many bare steps.

    A chunk runs from the start of a batch to the start of the batch ``chunk`` later, so it holds everything that
    the fit does for a step: the data, hooks, callbacks, logging. The first chunk of each side is warm-up.

    Attributes:
        ours, bare: seconds a step, one value a chunk.
        epoch_end: seconds from the end of an epoch's last step to the next epoch's first: validation and checkpoints.
    """

    def __init__(self, loop: BareLoop, chunk: int, chunks: int, tick: Callable[[], Any] = lambda: None) -> None:
        self.loop, self.chunk, self.chunks, self.tick = loop, chunk, chunks, tick
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.epoch_end: list[float] = []
        self._start: float | None = None
        self._epoch_ended: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and self._epoch_ended is not None:
            self.epoch_end.append(time.perf_counter() - self._epoch_ended)
        elif batch_idx % self.chunk == 0 and self._start is not None:
            self.ours.append((time.perf_counter() - self._start) / self.chunk)
            start = time.perf_counter()
            for _ in range(self.chunk):
                self.loop.step()
            self.bare.append((time.perf_counter() - start) / self.chunk)
            self.tick()
        if len(self.ours) > self.chunks:
            trainer.should_stop = True
        if batch_idx % self.chunk == 0:
            self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._epoch_ended = time.perf_counter()


@dataclass(frozen=True)
class Timing:
    """Seconds a step of both sides, one value a chunk."""

    workload: Workload
    ours: list[float] = field(repr=False)
    bare: list[float] = field(repr=False)
    epoch_end: list[float] = field(repr=False)

    @property
    def ratio(self) -> float:
        """Our throughput over the bare loop's: a ratio of medians."""
        return median(self.bare) / median(self.ours)

    def row(self) -> list[str]:
        """The table's cells."""
        low, _, high = quantiles([b / o for b, o in zip(self.bare, self.ours, strict=True)], n=4)
        return [
            self.workload.name,
            f"{1e3 * median(self.bare):.2f}",
            f"{1e3 * median(self.ours):.2f}",
            f"{self.ratio:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{self.workload.target:.2f}",
            f"{1e3 * median(self.epoch_end):.0f}" if self.epoch_end else "",
            str(self.workload.steps),
        ]


HEADER = ["training", "bare, ms", "ours, ms", "throughput", "half of the pairs", "target", "epoch end, ms", "steps an epoch"]


class Terminal:
    """A terminal nobody looks at: the progress bar draws as it would for a person."""

    def __init__(self) -> None:
        self.sink = open(os.devnull, "w", encoding="utf-8")

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sink, name)


@contextmanager
def composed(workload: Workload) -> Iterator[DictConfig]:
    """The config of a workload, with a directory of its own that is removed again."""
    register_resolvers()
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base=None):
        fixed = [f"paths.output_dir={folder}", "trainer=cpu", "threads=1", "trainer.max_epochs=10000", "callbacks.early_stopping.patience=10000"]
        cfg = compose("config", [*fixed, *workload.overrides])
        with open_dict(cfg):
            cfg.data = {
                "_target_": "src.datamodules.base.ArrayDataModule",
                "name": "synthetic",
                "shape": list(workload.shape),
                "kind": workload.kind,
                "value_range": "unit" if workload.kind == "image" else "real",
                "batch_size": workload.batch_size,
            }
        yield cfg


def synthetic(workload: Workload) -> dict[str, dict[str, Tensor]]:
    """Splits of made-up data, uint8 pictures or float32 vectors, ten validation batches for every hundred.

    Sixteen factors make every sample: of pure noise a VAE learns nothing, and its vanishing gradients become
    denormal numbers, which a CPU multiplies slowly.
    """
    size = workload.steps * workload.batch_size
    mixing = torch.randn(16, math.prod(workload.shape)) / 4

    def split(n: int) -> Tensor:
        x = (torch.randn(n, 16) @ mixing).view(n, *workload.shape)
        return x.sigmoid().mul(255).byte() if workload.kind == "image" else x

    return {name: {"x": split(n)} for name, n in (("train", size), ("val", max(size // 10, 2)), ("test", 2))}


def time_training(workload: Workload, tick: Callable[[], Any] = lambda: None) -> Timing:
    """Fit with the default callbacks and loggers, interleaved with the bare loop on as many threads."""
    with composed(workload) as cfg:
        directory = Path(cfg.paths.output_dir)
        with redirect_stdout(Terminal()):  # type: ignore[type-var]
            trainer, model, data, _ = assemble(cfg, directory, RunRecord(directory, name=cfg.name))
            data.splits = synthetic(workload)
            bare = BareLoop(build(cfg.model, compile=False).latent, data.floats("train"), workload.batch_size, cfg.model.optimizer.lr)
            timer = Interleave(bare, workload.chunk, workload.chunks, tick)
            trainer.callbacks.insert(0, timer)
            trainer.fit(model, datamodule=data)
    return Timing(workload, timer.ours[1:], timer.bare[1:], timer.epoch_end)


def training(workloads: Sequence[Workload] = WORKLOADS) -> tuple[list[str], list[list[str]]]:
    """A training step of ours against a bare PyTorch loop."""
    return HEADER, [time_training(workload).row() for workload in workloads]
