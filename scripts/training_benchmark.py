"""How fast a training step is against a bare PyTorch loop; for scripts/benchmark.py."""

import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from bare_loops import BareLoop, BarePoses, BareRotations
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict
from torch import Tensor

from src.datamodules.loader import BatchLoader
from src.experiment.assembly import assemble
from src.runs.record import RunRecord
from src.utils.build import build
from src.utils.main import CONF, register_resolvers

WARM_UP = 2  # chunks


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
        bare: what one would write by hand.
    """

    name: str
    overrides: tuple[str, ...]
    shape: tuple[int, ...]
    batch_size: int
    steps: int
    chunk: int
    chunks: int
    target: float
    bare: type[BareLoop] = BareLoop

    @property
    def kind(self) -> str:
        return "image" if len(self.shape) == 3 else "vector"

    @property
    def value_range(self) -> str:
        return {1: "real", 2: "rotation", 3: "unit"}[len(self.shape)]


CONV = ("model/encoder=conv", "model/decoder=conv")
WORKLOADS = (
    Workload("MLP, (90,), batch 8192", (), (90,), 8192, steps=50, chunk=10, chunks=20, target=0.97),
    Workload(
        "conv, (3, 64, 64), batch 128",
        CONV,
        (3, 64, 64),
        128,
        steps=50,
        chunk=10,
        chunks=20,
        target=0.97,
    ),
    Workload(
        "the same, compile=true",
        (*CONV, "compile=true"),
        (3, 64, 64),
        128,
        steps=50,
        chunk=10,
        chunks=24,
        target=1.15,
    ),
    Workload(
        "MLP, (1, 28, 28), batch 128",
        (),
        (1, 28, 28),
        128,
        steps=460,
        chunk=115,
        chunks=24,
        target=0.90,
    ),
    *(
        Workload(
            f"{model}, (30, 3), batch 8192",
            (f"model={model}",),
            (30, 3),
            8192,
            steps=10,
            chunk=2,
            chunks=16,
            target=0.97,
            bare=bare,
        )
        for model, bare in (("hand_standard", BarePoses), ("hand_so3", BareRotations))
    ),
)


@contextmanager
def bare_loop_of_its_own(workload: "Workload") -> Iterator[Callable[[int], float]]:
    """``BareLoop.steps`` in a process that does nothing else, as a person would run it; it waits while we measure."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve_bare_steps, args=(there, workload), daemon=True)
    process.start()
    there.close()

    def steps(n: int) -> float:
        here.send(n)
        return float(here.recv())

    try:
        yield steps
    finally:
        process.terminate()
        process.join()


def _serve_bare_steps(connection: Connection, workload: "Workload") -> None:
    with composed(workload) as cfg:
        torch.set_num_threads(cfg.threads)
        torch.manual_seed(cfg.seed)
        data = build(cfg.data)
        data.splits = synthetic(workload)
        bare = workload.bare.of(cfg, data)
    while True:
        connection.send(bare.steps(connection.recv()))


class Stopwatch(BatchLoader):
    """The training data, which times chunks of the fit's steps and between two of them has a bare loop take as many.

    A chunk runs from asking for a batch to asking for the one ``chunk`` later, so it holds everything that the fit
    does for a step: data, hooks, callbacks, logging. It adds no hook of its own. The first chunks are warm-up.

    Args:
        bare_steps: takes n bare steps and tells how many seconds they took.

    Attributes:
        ours, bare: seconds a step, one value a chunk.
        last_chunks: seconds of each epoch's last chunk with validation and checkpoints, up to the next epoch.
    """

    def __init__(
        self,
        loader: BatchLoader,
        workload: Workload,
        bare_steps: Callable[[int], float],
        stop: Callable[[], None],
    ) -> None:
        super().__init__(loader.tensors, loader.sampler)
        self.workload, self.bare_steps, self.stop = workload, bare_steps, stop
        self.ours: list[float] = []
        self.bare: list[float] = []
        self.last_chunks: list[float] = []
        self._since: float | None = None

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if self._since is not None:
            self.last_chunks.append(time.perf_counter() - self._since)
        batches = super().__iter__()
        for number in range(len(self)):
            if number % self.workload.chunk == 0:
                if number:
                    self._switch()
                self._since = time.perf_counter()
            yield next(batches)

    def _switch(self) -> None:
        assert self._since is not None
        n = self.workload.chunk
        self.ours.append((time.perf_counter() - self._since) / n)
        self.bare.append(self.bare_steps(n) / n)
        if len(self.ours) == WARM_UP + self.workload.chunks:
            self.stop()


@dataclass(frozen=True)
class Timing:
    """Seconds a step of both sides, one value a chunk, and seconds that an epoch takes beyond its steps."""

    workload: Workload
    ours: list[float]
    bare: list[float]
    epoch_ends: list[float]

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
            f"≥ {self.workload.target:.2f}{', missed' if self.ratio < self.workload.target else ''}",
            str(self.workload.chunks),
            f"{1e3 * median(self.epoch_ends):.0f} / {self.workload.steps}"
            if self.epoch_ends
            else "",
        ]


HEADER = [
    "training",
    "bare, ms",
    "ours, ms",
    "throughput",
    "half of the pairs",
    "target",
    "pairs",
    "epoch end, ms / steps",
]


class Terminal:
    """A terminal nobody looks at: the progress bar draws as it would for a person."""

    def __init__(self) -> None:
        self.sink = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the process)

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sink, name)


@contextmanager
def composed(workload: Workload) -> Iterator[DictConfig]:
    """The config of a workload, with a directory of its own that is removed again."""
    register_resolvers()
    with (
        tempfile.TemporaryDirectory() as folder,
        initialize_config_dir(str(CONF)),
    ):
        fixed = [
            f"paths.output_dir={folder}",
            "trainer=cpu",
            "threads=1",
            "trainer.max_epochs=10000",
            "++callbacks.early_stopping.patience=10000",
        ]
        cfg = compose("config", [*fixed, *workload.overrides])
        with open_dict(cfg):
            cfg.data = {
                "_target_": "src.datamodules.base.ArrayDataModule",
                "name": "synthetic",
                "shape": list(workload.shape),
                "kind": workload.kind,
                "value_range": workload.value_range,
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

    return {
        name: {"x": split(n)}
        for name, n in (("train", size), ("val", max(size // 10, 2)), ("test", 2))
    }


def time_training(workload: Workload, one_process: bool = False) -> Timing:
    """Fit with the default callbacks and loggers, interleaved with a bare loop on as many threads.

    Args:
        one_process: let the bare loop run in ours, where it shares what ours tells the C library about memory.
    """
    with (
        nullcontext() if one_process else bare_loop_of_its_own(workload) as steps_alone,
        composed(workload) as cfg,
        redirect_stdout(Terminal()),  # type: ignore[type-var]
    ):
        directory = Path(cfg.paths.output_dir)
        trainer, model, data, _ = assemble(cfg, directory, RunRecord(directory, name=cfg.name))
        data.splits = synthetic(workload)
        watch = Stopwatch(
            data.train_dataloader(),
            workload,
            steps_alone or workload.bare.of(cfg, data).steps,
            lambda: setattr(trainer, "should_stop", True),
        )
        data.train_dataloader = lambda: watch
        trainer.fit(model, datamodule=data)
    step = median(watch.ours)
    ends = [seconds - workload.chunk * step for seconds in watch.last_chunks]
    return Timing(workload, watch.ours[WARM_UP:], watch.bare[WARM_UP:], ends)


def training(one_process: bool = False) -> tuple[list[str], list[list[str]]]:
    """A training step of ours against a bare PyTorch loop that runs by itself."""
    rows = []
    for workload in WORKLOADS:
        rows.append(time_training(workload, one_process).row())
        print(*rows[-1], sep=" | ", flush=True)
    return HEADER, rows


def one_process() -> tuple[list[str], list[list[str]]]:
    """The same against a bare loop inside our process, where it gains by our memory settings."""
    return training(one_process=True)
