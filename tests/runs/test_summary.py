"""What a list says of a run, also of one whose files are damaged or a stranger's."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from src.runs.notes import write_notes
from src.runs.reading import Run
from src.runs.summary import (
    BLOCK,
    BLOCKS,
    SPARKS,
    duration_text,
    mentions,
    result_rows,
    stamp,
    summary,
)
from src.utils.errors import UserError


def run_with(folder: Path, values: list[float], config: str = "", **info: Any) -> Run:
    """A run that has logged these values of ``val/loss``, and of ``val/kl`` those with the other sign."""
    rows = [
        {"step": step, "metrics": {"train/loss": 0.5, "val/loss": value, "val/kl": -value}}
        for step, value in enumerate(values)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(config)
    return Run(folder, "running", info)


def test_a_finished_run_tells_what_it_optimised(tmp_path: Path) -> None:
    run = run_with(
        tmp_path,
        [3.0, 1.0, 2.0],
        optimized={"val/kl": -3.0},
        progress={"epoch": 2, "max_epochs": 5, "step": 20, "fraction": 0.4},
        started=100.0,
        updated=130.0,
        device="cpu",
        tags=["a", "b"],
        error=None,
    )
    found = summary(run)
    assert (found.metric, found.value, found.source) == ("val/kl", -3.0, "optimised")
    assert found.trend == [-3.0, -1.0, -2.0]
    assert (found.fraction, found.epoch, found.step) == (0.4, "2 of 5", 20)
    assert (found.started, found.seconds, found.device) == (100.0, 30.0, "cpu")
    assert (found.tags, found.error) == (["a", "b"], "")


@pytest.mark.parametrize(
    ("config", "metric", "value"),
    [
        ("optimized_metric: val/kl\n", "val/kl", -2.0),
        ("optimized_metric:\n- val/kl\n- val/loss\n", "val/kl", -2.0),
        ("optimized_metric: null\n", "val/loss", 2.0),
        ("", "val/loss", 2.0),
        ("optimized_metric: val/absent\n", "val/absent", None),
    ],
)
def test_a_living_run_tells_the_latest_value_of_what_its_config_names(
    tmp_path: Path, config: str, metric: str, value: float | None
) -> None:
    found = summary(run_with(tmp_path, [3.0, 1.0, 2.0], config))
    assert (found.metric, found.value, found.source) == (metric, value, "latest")


def test_poses_are_told_from_other_data(tmp_path: Path) -> None:
    assert summary(run_with(tmp_path, [], "data:\n  value_range: rotation\n")).is_pose
    assert not summary(run_with(tmp_path, [], "data:\n  value_range: unit\n")).is_pose


def test_of_a_long_log_the_ends_and_the_shape_are_kept_and_little_is_read(tmp_path: Path) -> None:
    number = 100_000
    run = run_with(tmp_path, [])
    rows = (f'{{"step": {i}, "metrics": {{"val/loss": {number - i}}}}}\n' for i in range(number))
    (tmp_path / "metrics.jsonl").write_text("".join(rows))
    assert (tmp_path / "metrics.jsonl").stat().st_size > 5 * BLOCKS * BLOCK
    start = time.process_time()
    found = summary(run)
    spent = time.process_time() - start
    whole = time.process_time()
    assert sum(1 for _ in run.metrics()) == number
    assert spent < (time.process_time() - whole) / 2
    assert found.value == 1.0 and found.trend[0] == number and len(found.trend) <= SPARKS
    assert found.trend == sorted(found.trend, reverse=True)
    halfway = found.trend[len(found.trend) // 2]
    assert abs(halfway - number / 2) < number / 10


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"progress": 3, "started": "now", "updated": None, "tags": "x", "optimized": []},
        {"progress": {"epoch": None, "fraction": "all", "step": 1.5}, "tags": [1, None]},
        {"progress": {"fraction": 1e9}, "started": 1e300, "updated": -1e300, "device": {"a": 1}},
        {"optimized": {"loss": "much"}, "error": ["a", "b"]},
        {"optimized": {"loss": 10**400}, "progress": {"fraction": 10**400}, "started": 10**400},
    ],
)
def test_what_a_stranger_s_run_does_not_tell_is_empty(tmp_path: Path, info: dict) -> None:
    found = summary(Run(tmp_path, "unknown", info))
    assert found.value is None and found.trend == []
    assert found.fraction in (None, 1.0) and found.step is None


def test_tags_and_the_trouble_with_them_are_told(tmp_path: Path) -> None:
    run = run_with(tmp_path, [1.0], tags=["first"], error="OSError: no space")
    before = stamp(run)
    write_notes(run, ["good", "β"], "Look at the sevens.")
    assert stamp(run) != before
    assert summary(run).tags == ["good", "β"]
    assert mentions(run, "SEVENS") and mentions(run, "β") and mentions(run, "no space")
    assert mentions(run, tmp_path.name) and not mentions(run, "eights")
    (tmp_path / "notes.json").write_text("{")
    assert "notes.json" in summary(run).error and "no space" in summary(run).error


def test_the_stamp_tells_when_anything_has_changed(tmp_path: Path) -> None:
    run = run_with(tmp_path, [1.0])
    first = stamp(run)
    assert stamp(run) == first
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write("\n")
    assert stamp(run) != first


def test_results_stand_beside_their_baselines(tmp_path: Path) -> None:
    told = {"test/mse": {"value": 0.25, "unit": "intensity²", "baselines": {"mean image": 0.5}}}
    (tmp_path / "results.json").write_text(json.dumps({"metrics": told}))
    run = Run(tmp_path, "finished", {})
    assert result_rows(run) == [
        {"metric": "test/mse", "unit": "intensity²", "this model": 0.25, "mean image": 0.5}
    ]
    (tmp_path / "results.json").unlink()
    assert result_rows(run) == []


def of(value: Any, base: Any) -> dict[str, Any]:
    return {"a": {"value": value, "unit": "1", "baselines": {"mean": base}}}


@pytest.mark.parametrize(
    "metrics",
    [[1], {"a": 1}, {"a": {"value": 1}}, "x", of("much", 1), of(1, [2]), of(10**400, 1)],
    ids=lambda metrics: str(metrics)[:30],
)
def test_results_that_are_none_are_refused(tmp_path: Path, metrics: Any) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"metrics": metrics}))
    with pytest.raises(UserError, match="holds no metrics"):
        result_rows(Run(tmp_path, "finished", {}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
