"""Curves of a run, whatever its metrics.jsonl holds."""

import json
import random
from pathlib import Path

import pytest

from src.runs.curves import Point, curves, thin
from src.runs.reading import Run


def logged(folder: Path, *lines: object) -> Run:
    """A run with these lines in its metrics.jsonl."""
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return Run(folder, "finished", {})


def points(values: list[float], stage: str = "train") -> list[Point]:
    return [{"step": step, "stage": stage, "value": value} for step, value in enumerate(values)]


def test_a_term_has_the_values_of_training_and_validation(tmp_path: Path) -> None:
    run = logged(
        tmp_path,
        {"step": 9, "metrics": {"train/loss": 3.0, "train/kl": 1}},
        {"step": 9, "metrics": {"val/loss": 4.0, "test/loss": 5.0, "lr": 0.1}},
        {"step": 19, "metrics": {"train/loss": 2.0}},
    )
    assert curves(run) == {
        "loss": [
            {"step": 9, "stage": "train", "value": 3.0},
            {"step": 9, "stage": "val", "value": 4.0},
            {"step": 19, "stage": "train", "value": 2.0},
        ],
        "kl": [{"step": 9, "stage": "train", "value": 1.0}],
    }


def test_what_is_no_number_is_passed_over(tmp_path: Path) -> None:
    run = logged(
        tmp_path,
        {"step": None, "metrics": {"train/loss": 1.0}},
        {"metrics": {"train/loss": 1.0}},
        {"step": 1, "metrics": {"train/loss": None, "val/loss": "much", "train/kl": True}},
        '{"step": 2, "metrics": {"train/loss": NaN, "train/kl": Infinity}}\n',
        "[1, 2]\n",
        {"step": 3, "metrics": {"train/loss": 7.0}},
        '{"step": 4, "metrics": {"train/lo',
    )
    assert curves(run) == {"loss": [{"step": 3, "stage": "train", "value": 7.0}]}


def test_bytes_that_are_no_text_hide_no_line(tmp_path: Path) -> None:
    run = logged(tmp_path, {"step": 1, "metrics": {"train/loss": 1.0}})
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b"\xff\xfe\x00\n" + b'{"step": 2, "metrics": {"train/loss": 2.0}}\n')
    assert [point["value"] for point in curves(run)["loss"]] == [1.0, 2.0]


def test_a_run_that_has_logged_nothing_has_no_curves(tmp_path: Path) -> None:
    assert curves(Run(tmp_path, "starting", {})) == {}


@pytest.mark.parametrize("number", [4, 7, 100, 999])
def test_a_thinned_curve_keeps_ends_and_extremes_of_every_stage(number: int) -> None:
    rng = random.Random(number)
    long = points([rng.gauss(0, 1) for _ in range(1000)])
    long[400]["value"], long[777]["value"] = 50.0, -50.0
    short = points([1.0, 2.0, 3.0], "val")
    mixed = long[:500] + short + long[500:]
    thinned = thin(mixed, number)
    kept = [point for point in thinned if point["stage"] == "train"]
    assert number - 3 <= len(kept) <= number
    assert kept[0] == long[0] and kept[-1] == long[-1]
    assert long[400] in kept and long[777] in kept
    assert [point for point in thinned if point["stage"] == "val"] == short
    assert [mixed.index(point) for point in thinned] == sorted(map(mixed.index, thinned))


def test_a_short_curve_stays_as_it_is() -> None:
    few = points([3.0, 1.0, 2.0])
    assert thin(few, 4) == few
    assert thin([], 4) == []


def test_a_curve_of_three_points_cannot_hold_what_counts() -> None:
    with pytest.raises(ValueError, match="3 points"):
        thin(points([1.0]), 3)


@pytest.mark.parametrize(
    "step", [-1, 2**63, 10**400, 1.5, True, None, "3"], ids=lambda step: repr(step)[:20]
)
def test_a_step_that_is_none_is_passed_over(tmp_path: Path, step: object) -> None:
    assert curves(logged(tmp_path, {"step": step, "metrics": {"val/loss": 1.0}})) == {}


def test_numbers_without_end_are_passed_over(tmp_path: Path) -> None:
    assert curves(logged(tmp_path, {"step": 1, "metrics": {"val/loss": 10**400}})) == {}
