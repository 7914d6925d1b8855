"""What a run's own log tells of its speed."""

import json
from pathlib import Path

import pytest

from src.callbacks.report import epoch_seconds


def write(directory: Path, *rows: tuple[int | None, float, str]) -> None:
    lines = [
        json.dumps({"step": i, "epoch": epoch, "time": time, "metrics": {name: 1.0}})
        for i, (epoch, time, name) in enumerate(rows)
    ]
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_an_epoch_lasts_from_the_end_of_the_one_before(tmp_path):
    ends = [(epoch, 100.0 + 2 * epoch, "val/loss") for epoch in range(4)]
    middles = [(epoch, time - 1, "train/loss") for epoch, time, _ in ends]
    write(tmp_path, *sorted(ends + middles, key=lambda row: row[1]), (3, 500.0, "test/loss"))
    assert epoch_seconds(tmp_path) == pytest.approx(2)


def test_a_pause_and_a_resumption_do_not_count(tmp_path):
    times = [0.0, 1, 2, 3600, 3601, 3602]  # a pause in the fourth epoch
    rows = [(epoch, time, "train/loss") for epoch, time in enumerate(times)]
    write(tmp_path, *rows, (5, 9000.0, "train/loss"), (6, 9001.0, "train/loss"))
    assert epoch_seconds(tmp_path) == pytest.approx(1)


def test_one_epoch_has_no_beginning_that_is_known(tmp_path):
    assert epoch_seconds(tmp_path) is None
    write(tmp_path, (0, 5.0, "train/loss"), (0, 6.0, "val/loss"), (None, 9.0, "test/loss"))
    assert epoch_seconds(tmp_path) is None
