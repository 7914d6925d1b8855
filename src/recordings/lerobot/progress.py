"""The bar of a conversion."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.recordings.lerobot.dataset import LeRobotDataset


class ConversionProgress:
    """A bar over the frames of the dataset."""

    def __init__(self, dataset: LeRobotDataset, episodes: Sequence[int]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        lengths = [dataset.episode(episode).length for episode in episodes]
        self.starts = dict(zip(episodes, np.cumsum([0, *lengths[:-1]]).tolist(), strict=True))
        self.ends = dict(zip(episodes, np.cumsum(lengths).tolist(), strict=True))
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
            TimeRemainingColumn(),
        )
        self.said: set[str] = set()
        self.task = self.bar.add_task("converting", total=sum(lengths))

    def __enter__(self) -> "ConversionProgress":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def at(self, episode: int, frame: int) -> None:
        completed = self.starts[episode] + frame
        self.bar.update(self.task, completed=completed, description=f"episode {episode}")

    def end(self, episode: int) -> None:
        self.bar.update(self.task, completed=self.ends[episode])

    def say(self, sentence: str) -> None:
        """Print a line above the bar, once."""
        if sentence in self.said:
            return
        self.said.add(sentence)
        self.bar.console.print(sentence, soft_wrap=True, highlight=False)

    def skip(self, episodes: Sequence[int], found: Path) -> None:
        numbers = ", ".join(map(str, episodes))
        self.say(f"episode {numbers} is there already: {found}")
        self.end(episodes[-1])
