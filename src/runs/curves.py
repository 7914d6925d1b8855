"""Learning curves of a run, as its ``metrics.jsonl`` has them."""

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

from src.runs.reading import Run, is_number

STAGES = ("train", "val")
MOST_STEPS = 2**53  # above it a browser's whole numbers are no longer exact


class Point(TypedDict):
    """One logged value of a term: after how many optimiser steps, and of which data."""

    step: int
    stage: str
    value: float


def curves(run: Run) -> dict[str, list[Point]]:
    """Term → its logged values in training and in validation, in the order of logging."""
    return curves_of(run.metrics())


def curves_of(rows: Iterable[dict[str, Any]]) -> dict[str, list[Point]]:
    """``curves`` of rows as ``Run.metrics`` gives them; what is no finite number there is passed over."""
    found: dict[str, list[Point]] = {}
    for row in rows:
        if type(step := row.get("step")) is not int or not 0 <= step <= MOST_STEPS:
            continue
        for name, value in row["metrics"].items():
            stage, _, term = name.partition("/")
            if stage in STAGES and is_number(value):
                point: Point = {"step": step, "stage": stage, "value": float(value)}
                found.setdefault(term, []).append(point)
    return found


def thin(points: Sequence[Point], number: int) -> list[Point]:
    """At most ``number`` points of every stage, with its first, its last, its lowest and its highest among them.

    The steps are cut into equal numbers of points, of which the lowest and the highest stay, so that no peak is lost.

    Raises:
        ValueError: ``number`` is below 4.
    """
    if number < 4:
        raise ValueError(f"{number} points cannot hold the ends and the extremes of a curve")
    kept: set[int] = set()
    for stage in {point["stage"] for point in points}:
        own = [index for index, point in enumerate(points) if point["stage"] == stage]
        kept.update(_kept(own, [points[index]["value"] for index in own], number))
    return [points[index] for index in sorted(kept)]


def _kept(indices: list[int], values: list[float], number: int) -> list[int]:
    if len(indices) <= number:
        return indices
    inner, pairs = range(1, len(indices) - 1), (number - 2) // 2
    kept = [0, len(indices) - 1]
    for part in range(pairs):
        block = inner[part * len(inner) // pairs : (part + 1) * len(inner) // pairs]
        kept += [min(block, key=values.__getitem__), max(block, key=values.__getitem__)]
    return [indices[place] for place in kept]
