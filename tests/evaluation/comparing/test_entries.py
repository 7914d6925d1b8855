"""Intervals over seeds and the table that tells them."""

import json
from pathlib import Path

import pytest
import yaml
from scipy.stats import t as student

from src.evaluation.comparing.entries import Interval, finished_runs, intervals
from src.evaluation.comparing.run_report import write_comparison
from src.evaluation.comparing.tables import by_model, markdown
from src.utils.errors import UserError


def write_run(
    root: Path, model: str, seed: int, mse: float, state: str = "finished", **data
) -> None:
    folder = root / f"{model}_{seed}"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"schema": 1, "state": state, "started": seed}))
    config = {
        "seed": seed,
        "model": {"name": model},
        "data": {"name": "digits", "seed": seed} | data,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    row = {"value": mse, "unit": "intensity²", "baselines": {"mean image": 0.5}}
    (folder / "results.json").write_text(json.dumps({"metrics": {"test/mse": row}}))


def test_the_interval_is_students(tmp_path):
    values = [1.0, 2.0, 4.0]
    found = Interval.of(values)
    low, high = student.interval(0.95, 2, loc=7 / 3, scale=((14 / 9 * 3 / 2) ** 0.5) / 3**0.5)
    assert found.centre == pytest.approx(7 / 3)
    assert found.half_width == pytest.approx((high - low) / 2)
    assert Interval.of([3.0]).half_width is None and str(Interval.of([3.0])) == "3"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.012343, 0.00021, 3), "0.01234 ± 0.00021"),
        (Interval(-153210.4, 812.3, 3), "-153210 ± 812"),
        (Interval(5.0, 0.0, 2), "5.0000 ± 0.0000"),
    ],
)
def test_as_many_digits_as_the_interval_leaves(interval, text):
    assert str(interval) == text


def test_runs_are_grouped_by_model_and_the_best_is_bold(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "vae", seed, 0.10 + 0.01 * seed)
        write_run(tmp_path, "ae", seed, 0.05 + 0.01 * seed)
    write_run(tmp_path, "ae", 2, 9.0, state="failed")
    entries = finished_runs([tmp_path])
    assert [(entry.group, entry.seed) for entry in entries] == [
        ("ae", 0),
        ("ae", 1),
        ("vae", 0),
        ("vae", 1),
    ]
    found = intervals(entries)["mse"]
    assert found["ae"].centre == pytest.approx(0.055) and found["vae"].n == 2
    table = markdown(entries)
    assert "| ae (n=2) | vae (n=2) | mean image |" in table
    row = table.splitlines()[2]
    assert row.count("**") == 2 and row.index("**") < row.index("0.10")
    assert row.endswith("| 0.5 |")


def test_the_difference_of_a_pair_is_taken_run_by_run(tmp_path):
    for seed, (linear, geodesic) in enumerate([(0.5, 0.4), (0.9, 0.78), (0.2, 0.11)]):
        write_run(tmp_path, "vae", seed, 0.1)
        file = tmp_path / f"vae_{seed}" / "results.json"
        content = json.loads(file.read_text())
        for name, value in (("linear", linear), ("geodesic", geodesic)):
            content["metrics"][f"test/off_data_mse_{name}"] = {"value": value, "baselines": {}}
        file.write_text(json.dumps(content))
    found = intervals(finished_runs([tmp_path]))
    difference = found["off_data_mse_difference"]["vae"]
    assert difference.centre == pytest.approx(-0.31 / 3)
    assert difference.half_width < 0.1 * found["off_data_mse_linear"]["vae"].half_width


def test_runs_on_different_data_are_not_compared(tmp_path):
    write_run(tmp_path, "vae", 0, 0.1)
    write_run(tmp_path, "ae", 0, 0.1, split_seed=4)
    with pytest.raises(UserError, match="other data"):
        finished_runs([tmp_path])


def test_runs_of_one_name_must_be_one_experiment(tmp_path):
    write_run(tmp_path, "vae", 0, 0.1)
    write_run(tmp_path, "vae", 1, 0.2)
    config = tmp_path / "vae_1" / "config.yaml"
    changed = yaml.safe_load(config.read_text())
    changed["model"]["latent_dim"] = 3
    config.write_text(yaml.safe_dump(changed))
    with pytest.raises(UserError, match="differ in model.latent_dim"):
        finished_runs([tmp_path])
    changed["seed"] = 0
    del changed["model"]["latent_dim"]
    config.write_text(yaml.safe_dump(changed))
    with pytest.raises(UserError, match="both vae with seed 0"):
        finished_runs([tmp_path])


def test_no_finished_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        finished_runs([tmp_path])


def test_many_models_get_a_row_each_with_facts_and_baselines_below(tmp_path):
    for model, mse in (("vae", 0.1), ("ae", 0.05)):
        write_run(tmp_path, model, 0, mse)
        file = tmp_path / f"{model}_0" / "results.json"
        facts = {"parameters": 7_000_000, "epoch_seconds": [1.0] if model == "ae" else 2.0}
        file.write_text(json.dumps(json.loads(file.read_text()) | facts))
    names = ["mse", "parameters", "epoch_seconds"]
    lines = by_model(finished_runs([tmp_path]), names).splitlines()
    assert lines[0] == "| model | `mse` | `parameters` | `epoch_seconds` |"
    assert lines[2:] == [
        "| `ae` | 0.05 | 7000000 |  |",  # a list is no time
        "| `vae` | 0.1 | 7000000 | 2 |",
        "| *mean image* | 0.5 |  |  |",
    ]


def test_samples_seen_through_different_features_are_not_compared(tmp_path):
    for model, name in (("vae", "classifier"), ("ae", "pixels")):
        write_run(tmp_path, model, 0, 0.1)
        file = tmp_path / f"{model}_0" / "results.json"
        content = json.loads(file.read_text()) | {"features": {"name": name, "data": "x"}}
        file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="compares samples by the features"):
        finished_runs([tmp_path])


def test_models_of_poses_are_compared_in_degrees_and_by_rate_and_distortion(tmp_path):
    runs, output = tmp_path / "runs", tmp_path / "out"
    runs.mkdir()
    for model, kl, error in (("narrow", 20.0, 3.0), ("wide", 60.0, 1.2)):
        write_run(runs, model, 0, 0.002)
        rows = {
            "test/mse": {"value": 0.002, "unit": "rad²"},
            "test/kl": {"value": kl, "unit": "nats"},
            "test/mpjre": {"value": error, "unit": "degrees"},
        }
        (runs / f"{model}_0" / "results.json").write_text(json.dumps({"metrics": rows}))
    written = write_comparison(str(runs), str(output), None, 0)
    assert [path.name for path in written] == [
        "table.md",
        "rate_distortion.png",
        "report.html",
    ]
    table = written[0].read_text()
    assert "| `mse` | rad² |" in table and "| `mpjre` | degrees | 3 | **1.2** |" in table
    page = written[-1].read_text()
    assert "<td><b>1.2</b></td>" in page and "distortion: mpjre (degrees)" in page
