"""What a tracker of ours is told beyond metrics. Each shows of it what it can."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from src.callbacks.trackers.facts import RunFacts
from src.evaluation.animations import PLOTLY_JS


class Dialect(Logger):
    """Mixed into a Lightning logger, whose own calls go on working."""

    def start(self, facts: RunFacts) -> str | None:
        """Open the tracker's run, or the same one again where the run is resumed.

        Returns:
            What the user should know of it; None where all is well.
        """
        raise NotImplementedError

    def log_figure(self, key: str, path: Path, step: int) -> None:
        """Show a picture (png) or a page (html)."""
        raise NotImplementedError

    def log_results(self, results: dict[str, Any], step: int) -> None:
        """Show the content of ``results.json``; its values have been logged as metrics already."""
        raise NotImplementedError

    def log_model(self, directory: Path, metadata: dict[str, Any]) -> None:
        """Keep the exported model, where the tracker keeps such things."""

    def end(self, status: str) -> None:
        """End the tracker's run: finished, stopped or failed."""
        raise NotImplementedError

    def remedy(self) -> str:
        """What can still be done with what was told before a failure; part of the warning."""
        return ""

    def abandon(self) -> None:
        """Let go of what would wait or hold locks; the tracker has failed."""


def results_table(results: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """The metrics of ``results.json`` as columns and rows: one row a metric, one column a baseline."""
    metrics: dict[str, Any] = results.get("metrics", {})
    baselines = list(dict.fromkeys(name for row in metrics.values() for name in row["baselines"]))
    rows = [
        [name, row["unit"], row["value"], *(row["baselines"].get(b) for b in baselines)]
        for name, row in metrics.items()
    ]
    return ["metric", "unit", "this model", *baselines], rows


def self_contained(page: Path) -> str:
    """A page of the run with plotly.js in it, because a tracker shows it without the file beside it."""
    script = page.with_name(PLOTLY_JS).read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    head, link, rest = text.partition(f'src="{PLOTLY_JS}">')
    return f"{head}>{script}{rest}" if link else text
