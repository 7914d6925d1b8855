"""What of freely chosen runs compares, and how far apart they are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from src.evaluation.comparing.chosen_runs import Chosen, choose, config_differences
from src.evaluation.comparing.differences import differences, judged, scores, trades
from src.evaluation.comparing.entries import Interval, intervals
from src.evaluation.comparing.run_report import trade_parts
from src.runs import Run, read_run

METRICS = {"mse": 0.1, "kl": 5.0, "psnr": 10.0, "nll": 3.0}


def make(root: Path, name: str, seed: int = 0, model: str = "vae", **given: Any) -> Run:
    """A run; ``given``: metrics, results beside them, ``objective``, ``data`` or ``untested``."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"state": "finished", "started": 1.0}))
    objective = given.pop("objective", {"beta": 1})
    config = {
        "seed": seed,
        "paths": {"output_dir": str(folder)},
        "model": {"name": model, "objective": objective, "likelihood": {"_target_": "G"}},
        "data": {"name": "digits"} | given.pop("data", {}),
        "callbacks": {"checkpoint": {"directory": str(folder)}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    untested, rest = given.pop("untested", False), given.pop("rest", {})
    rows = {
        f"test/{k}": {"value": v, "unit": "dB" if k == "psnr" else "nats", "baselines": {}}
        for k, v in (METRICS | given).items()
    }
    if not untested:
        (folder / "results.json").write_text(json.dumps({"metrics": rows} | rest))
    return read_run(folder)


def chosen(root: Path, together: bool = False) -> Chosen:
    runs = {path.name: read_run(path) for path in sorted(root.iterdir())}
    return choose(runs, together)


def test_seeds_of_one_experiment_are_one_group_and_settings_are_named(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        make(tmp_path, f"a{seed}", seed, mse=0.1 + seed)
        make(tmp_path, f"b{seed}", seed, objective={"beta": 4})
    make(tmp_path, "c", 0, model="ae")
    found = chosen(tmp_path, together=True)
    names = ["vae (objective.beta=1)", "vae (objective.beta=4)", "ae"]
    assert found.labels == names
    assert intervals(found.entries)["mse"][names[0]] == Interval.of([0.1, 1.1, 2.1])
    single = chosen(tmp_path)
    assert len(single.labels) == 7 and "vae (objective.beta=4), seed 2" in single.labels


def test_the_same_seed_twice_is_counted_once_and_told(tmp_path: Path) -> None:
    make(tmp_path, "a", 0)
    make(tmp_path, "b", 0)
    found = chosen(tmp_path, together=True)
    assert len(found.entries) == 1 and "same experiment with the same seed" in found.remarks[0]
    assert chosen(tmp_path).labels == ["vae, seed 0, a", "vae, seed 0, b"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"data": {"name": "other"}}, "other data than a (data.name)"),
        ({"untested": True}, "has not been tested"),
    ],
)
def test_what_does_not_compare_is_left_out_with_a_reason(
    tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    make(tmp_path, "a")
    make(tmp_path, "b", 1, **given)
    found = chosen(tmp_path)
    assert [entry.run.path.name for entry in found.entries] == ["a"]
    assert len(found.readable) == 2 and len(found.remarks) == 1
    assert found.remarks[0].startswith("The numbers of b") and sentence in found.remarks[0]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"metrics": 3}',
        '{"metrics": {"test/mse": {"value": "<b>"}}}',
        '{"metrics": {"x": 1}}',
    ],
)
def test_a_damaged_run_hides_no_other(tmp_path: Path, content: str) -> None:
    make(tmp_path, "a")
    make(tmp_path, "b", 1)
    (tmp_path / "b" / "results.json").write_text(content)
    make(tmp_path, "c", 2)
    (tmp_path / "c" / "config.yaml").write_text("a: [")
    make(tmp_path, "d", 3, data={1: 2, "b": [3]})  # names that cannot be sorted with others
    found = chosen(tmp_path)
    assert [entry.run.path.name for entry in found.entries] == ["a"] and len(found.remarks) == 3


def test_metrics_measured_in_another_way_are_hidden(tmp_path: Path) -> None:
    make(tmp_path, "a", rest={"importance_samples": 8})
    make(tmp_path, "b", 1, rest={"importance_samples": 64, "features": {"name": "pixels"}})
    found = chosen(tmp_path)
    assert len(found.entries) == 2
    assert "nll" in found.hidden and "sample_fid" in found.hidden and "mse" not in found.hidden
    assert "from 8 importance samples" in found.remarks[0] or "from 64" in found.remarks[0]


def test_of_other_objectives_no_loss_is_better(tmp_path: Path) -> None:
    make(tmp_path, "a", loss=1.0)
    make(tmp_path, "b", objective={"beta": 4}, loss=2.0)
    found = chosen(tmp_path)
    table = intervals(found.entries)
    apart = differences(table, {"loss": "nats"}, found.labels[0], found.unjudged)
    assert apart["loss"][found.labels[1]].verdict == "" and found.unjudged == {"loss"}


@pytest.mark.parametrize(
    ("metric", "unit", "value", "verdict", "relative"),
    [
        ("mse", "intensity²", 0.5, "better", -0.5),
        ("psnr", "dB", 2.0, "better", None),
        ("nll", "nats", 3.0, "worse", None),
        ("kl", "nats", 2.0, "", 1.0),
        ("mse", "intensity²", 1.0, "equal", 0.0),
    ],
)
def test_better_and_worse_follow_the_metric(
    metric: str, unit: str, value: float, verdict: str, relative: float | None
) -> None:
    table = {metric: {"a": Interval(1.0, None, 1), "b": Interval(value, None, 1)}}
    found = differences(table, {metric: unit}, "a")[metric]
    assert list(found) == ["b"] and found["b"].absolute == value - 1
    assert (found["b"].verdict, found["b"].relative) == (verdict, relative)


def test_a_difference_of_seeds_has_welchs_interval() -> None:
    a, b = [0.10, 0.12, 0.15], [0.05, 0.09, 0.02, 0.06]
    table = {"mse": {"a": Interval.of(a), "b": Interval.of(b)}}
    found = differences(table, {"mse": "1"}, "a")["mse"]["b"]
    low, high = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert found.absolute == pytest.approx(np.mean(b) - np.mean(a))
    assert found.half_width == pytest.approx((high - low) / 2) and found.verdict == "better"
    table["mse"]["b"] = Interval.of([0.05, 0.19, 0.02, 0.16])
    assert differences(table, {"mse": "1"}, "a")["mse"]["b"].verdict == "unclear"


def test_scores_are_one_for_the_best_and_zero_for_the_worst(tmp_path: Path) -> None:
    for seed, (mse, psnr) in enumerate([(0.1, 20.0), (0.3, 10.0), (0.2, 20.0)]):
        make(tmp_path, f"r{seed}", seed, mse=mse, psnr=psnr, nll=1.0)
    found = chosen(tmp_path)
    table = intervals(found.entries)
    axes = list(judged(table, found))
    assert axes == ["mse", "psnr"]  # the KL has no direction, and all have the same NLL
    rows = list(scores(table, axes).values())
    assert rows == [[1.0, 1.0], [0.0, 0.0], [pytest.approx(0.5), 1.0]]


def test_rates_and_distortions_are_the_tested_ones(tmp_path: Path) -> None:
    make(tmp_path, "a", kl=3.0, mse=0.5)
    make(tmp_path, "b", objective={"beta": 4}, kl=1.0, mse=0.7)
    found = chosen(tmp_path, together=True)
    points = trades(intervals(found.entries), found.entries, "mse")
    told = [(t.model, t.rate.centre, t.distortion.centre) for t in points.values()]
    assert told == [("vae", 3.0, 0.5), ("vae", 1.0, 0.7)]
    assert trade_parts(found, ["mse"])[0].caption.endswith("lower and further left is better.")
    found.unjudged = {"mse"}
    assert trade_parts(found, ["mse"])[0].caption.endswith("none is better than another.")


def test_settings_that_differ_are_told_without_places(tmp_path: Path) -> None:
    make(tmp_path, "a")
    make(tmp_path, "b", 1, objective={"beta": 4, "free_bits": None})
    configs = chosen(tmp_path).configs
    assert config_differences(configs) == {
        "model.objective.beta": ["1", "4"],
        "model.objective.free_bits": ["—", "null"],
        "seed": ["0", "1"],
    }
    everything = config_differences(configs, everything=True)
    assert everything["data.name"] == ["digits", "digits"]
    assert not any("paths" in key or "directory" in key for key in everything)


def test_numbers_are_compared_without_torch() -> None:
    script = "import sys, src.evaluation.comparing.run_report, src.app.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
