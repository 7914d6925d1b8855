"""Telling how collecting goes: a bar for whoever looks on, lines for a file."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0  # seconds between lines


class Meter:
    """Counts frames and episodes; a context manager.

    Args:
        title: what is recorded.
        episodes: how many there will be.
        shown: whether anybody is told.
    """

    def __init__(self, title: str, episodes: int, shown: bool = True) -> None:
        self.title, self.total, self.frames, self.done = title, episodes, 0, 0
        self._began = self._told = time.perf_counter()
        # On stderr, so that what a command prints can be used.
        console = Console(file=sys.stderr)
        self._lines = console if shown and not console.is_terminal else None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._bar.add_task(title, total=episodes, speed="")

    def __enter__(self) -> "Meter":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.update(self._task, completed=self.done, speed=self._speed())
        self._bar.stop()
        if self._lines:
            self._line()

    def __call__(self, frames: int, episodes: int) -> None:
        """So many more."""
        self.frames += frames
        self.done += episodes
        now = time.perf_counter()
        if now - self._told > (EVERY if self._lines else 0.1):
            self._told = now
            self._bar.update(self._task, completed=self.done, speed=self._speed())
            if self._lines:
                self._line()

    def _speed(self) -> str:
        seconds = max(time.perf_counter() - self._began, 1e-9)
        return f"{self.frames} frames, {self.frames / seconds:.0f}/s"

    def _line(self) -> None:
        assert self._lines is not None
        text = f"{self.title}: {self.done} of {self.total} episodes, {self._speed()}"
        self._lines.print(text, highlight=False, soft_wrap=True)
