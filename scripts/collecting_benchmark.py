"""What recording costs beside playing: ``collect`` against ale-py's own loop that writes nothing; for benchmark.py."""

import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import numpy as np
from ale_py.vector_env import AtariVectorEnv

from src.recordings.collect import collect
from src.recordings.collection import read_meta

Table = tuple[list[str], list[list[str]]]
GAMES = ("breakout", "pong")
TARGET = 0.8


def collecting(episodes: int = 24, beside: int = 4, rounds: int = 5) -> Table:
    """Frames a second of collecting against the bare AtariVectorEnv loop, both from their construction on.

    The same game, as many emulators and threads, random actions and as many frames; rounds alternate.
    """
    # One folder for all rounds: a file system may be slow to create files where many were deleted a minute ago.
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(game, episodes, beside, rounds, Path(folder)) for game in GAMES]
    header = ["collecting", "recorded, frames/s", "only played, frames/s", "ratio"]
    return [*header, "half of the pairs", "target"], rows


def _row(game: str, episodes: int, beside: int, rounds: int, folder: Path) -> list[str]:
    speeds: dict[str, list[float]] = {"collect": [], "bare": []}
    frames = 0
    for number in range(rounds):
        frames, seconds = _collected(game, episodes, beside, number, folder)
        speeds["collect"].append(frames / seconds)
        speeds["bare"].append(frames / _bare(game, frames, beside, number))
    pairs = [ours / bare for ours, bare in zip(speeds["collect"], speeds["bare"], strict=True)]
    low, _, high = quantiles(pairs, n=4)
    ratio = median(pairs)
    row = [f"{game}, {episodes} episodes, {frames} frames, {beside} emulators"]
    row += [f"{median(values):.0f}" for values in speeds.values()]
    target = f"≥ {TARGET}{', missed' if ratio < TARGET else ''}"
    row += [f"{ratio:.2f}", f"{low:.2f} to {high:.2f}", target]
    print(*row, sep=" | ", flush=True)
    return row


def _collected(game: str, episodes: int, beside: int, seed: int, folder: Path) -> tuple[int, float]:
    """Frames, and the seconds that they took."""
    root = folder / f"{game}{seed}"
    begin = time.perf_counter()
    paths = collect(game, episodes, root=root, seed=seed, num_envs=beside, progress=False)
    seconds = time.perf_counter() - begin
    return sum(read_meta(path)["episode_steps"] + 1 for path in paths), seconds


def _bare(game: str, frames: int, beside: int, seed: int) -> float:
    """Seconds of the loop of ale-py's documentation."""
    random = np.random.default_rng(seed)
    begin = time.perf_counter()
    env = AtariVectorEnv(
        game,
        beside,
        num_threads=beside,
        img_height=64,
        img_width=64,
        grayscale=False,
        stack_num=1,
        reward_clipping=False,
    )
    env.reset(seed=seed)
    for _ in range(frames // beside):
        env.step(random.integers(0, env.single_action_space.n, beside))
    return time.perf_counter() - begin
