"""What the mapped frames cost against frames in memory, and what opening a long recording does; for benchmark.py."""

import tempfile
import time
import warnings
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch
from torch import Tensor

from src.recordings import Recording, RecordingWriter
from src.recordings.pack import pack

Table = tuple[list[str], list[list[str]]]
BATCH = 128


def batches(frames: int = 25_000, size: int = 64, chunk: int = 40, chunks: int = 40) -> Table:
    """Batches gathered from the mapped file of all frames against the same batches from memory.

    The frames are as many as 100 episodes of Breakout have. Chunks of both sides alternate; each side draws rows anew.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = _recorded(Path(folder), frames // 10, size)
        # Ten recordings' worth from one, which takes a tenth of the time to write.
        mapped = pack([Recording.open(path)] * 10, folder=folder).frames
        with warnings.catch_warnings(action="ignore"):  # that nobody may write into it
            from_file = torch.from_numpy(mapped)
        sides = {"mapped": from_file, "memory": from_file.clone()}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(2 + chunks):
            for name, tensor in sides.items():
                seconds[name].append(_gather(tensor, chunk, number))
    warm = {name: values[2:] for name, values in seconds.items()}
    pairs = [m / f for f, m in zip(warm["mapped"], warm["memory"], strict=True)]
    low, _, high = quantiles(pairs, n=4)
    ratio = median(warm["memory"]) / median(warm["mapped"])
    per_batch = [f"{1e6 * median(values) / chunk:.0f}" for values in warm.values()]
    target = f"≥ 0.95{', missed' if ratio < 0.95 else ''}"
    row = [f"{frames} × (3, {size}, {size}), {BATCH} rows", *per_batch, f"{ratio:.3f}"]
    header = ["batches of frames", "mapped, µs", "memory, µs", "throughput"]
    return [*header, "half of the pairs", "target"], [[*row, f"{low:.3f} to {high:.3f}", target]]


def _gather(x: Tensor, batches: int, seed: int) -> float:
    rows = torch.randint(len(x), (batches, BATCH), generator=torch.Generator().manual_seed(seed))
    begin = time.perf_counter()
    for batch in rows:
        x.index_select(0, batch)
    return time.perf_counter() - begin


def opening(short: int = 1_000, long: int = 100_000, rounds: int = 51) -> Table:
    """Opening a recording of 100,000 frames against one of 1,000: first reading its lines, then its index."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {count: _recorded(Path(folder) / str(count), count, 8) for count in (short, long)}
        first = {count: _open(path) for count, path in paths.items()}
        again: dict[int, list[float]] = {count: [] for count in paths}
        for _ in range(rounds):
            for count, path in paths.items():
                again[count].append(_open(path))
    ratio = median(again[long]) / median(again[short])
    rows = [
        [f"{count} frames", f"{first[count]:.3f}", f"{1e3 * median(again[count]):.2f}", "", ""]
        for count in paths
    ]
    rows[-1][-2:] = [f"{ratio:.2f}", f"≤ 1.50{', missed' if ratio > 1.5 else ''}"]
    return ["opening a recording", "first time, s", "afterwards, ms", "ratio", "target"], rows


def _open(path: Path) -> float:
    begin = time.perf_counter()
    recording = Recording.open(path)
    recording.observations[-1], recording.rewards[-1]  # as far as a reader needs
    return time.perf_counter() - begin


def _recorded(folder: Path, frames: int, size: int) -> Path:
    """A recording of random frames with an action after each."""
    rng = np.random.default_rng(0)
    path = folder / "session_1"
    with RecordingWriter(path, "bench", [{"action": code} for code in range(4)]) as writer:
        for _ in range(frames):
            writer.observe(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), reward=0.0)
            writer.act({"action": int(rng.integers(4))})
    return path
