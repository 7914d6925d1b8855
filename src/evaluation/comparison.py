"""Finished runs of one data set, grouped over their seeds: means with confidence intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student

from src.evaluation.units import UNITS
from src.runs import Run, list_runs
from src.runs.loading import read_plain_config
from src.runs.record import CONFIG_FILE
from src.utils.errors import UserError

CONFIDENCE = 0.95
# Measured on the same pairs of the same model, so that a difference has a narrower interval than either.
PAIRS = {
    "interpolation_mse_difference": ("interpolation_mse_geodesic", "interpolation_mse_linear"),
    "off_data_mse_difference": ("off_data_mse_geodesic", "off_data_mse_linear"),
}


@dataclass(frozen=True)
class Entry:
    """A finished run, and the name that it is grouped under."""

    run: Run
    group: str
    seed: int
    config: dict[str, Any]

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Metric → value, unit and baselines, as in ``results.json``, and the differences of ``PAIRS``."""
        found = {
            name.removeprefix("test/"): row
            for name, row in self.run.results.get("metrics", {}).items()
        }
        differences = {
            name: {"value": found[a]["value"] - found[b]["value"]}
            for name, (a, b) in PAIRS.items()
            if a in found and b in found
        }
        return found | differences


@dataclass(frozen=True)
class Interval:
    """A mean over n runs and the half-width of its 95 % confidence interval (Student's t); none for one run."""

    centre: float
    half_width: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        n = len(values)
        if n < 2:
            return cls(values[0], None, n)
        quantile = student.ppf((1 + CONFIDENCE) / 2, n - 1)
        return cls(mean(values), float(quantile) * stdev(values) / math.sqrt(n), n)

    def __str__(self) -> str:
        if self.half_width is None:
            return f"{self.centre:.4g}"
        # As many digits of the mean as the interval leaves meaningful.
        digits = max(0, 1 - math.floor(math.log10(self.half_width))) if self.half_width > 0 else 4
        return f"{self.centre:.{digits}f} ± {self.half_width:.{digits}f}"


def finished_runs(roots: Sequence[str | Path]) -> list[Entry]:
    """The finished runs below ``roots`` that have results, grouped by the model's name.

    Raises:
        UserError: there are none, they were not all tested on the same data, or those of one name are not the same
            experiment with different seeds.
    """
    entries = []
    for root in roots:
        for run in list_runs(root):
            if run.state == "finished" and run.results:
                config = read_plain_config(run.path / CONFIG_FILE)
                name, seed = config.get("model", {}).get("name"), config.get("seed")
                if name is None or seed is None or "data" not in config:
                    raise UserError(f"{run.path / CONFIG_FILE} names no model, seed and data")
                entries.append(Entry(run, name, seed, config))
    if not entries:
        raise UserError(f"there is no finished run with results below {', '.join(map(str, roots))}")
    seen: dict[str, dict[int, Entry]] = {}
    for entry in entries:
        if _data_of(entry) != _data_of(entries[0]):
            raise UserError(
                f"{entry.run.path} was tested on other data than {entries[0].run.path}; compare runs of one data config"
            )
        k, other_k = (e.run.results.get("importance_samples") for e in (entry, entries[0]))
        if k != other_k:
            raise UserError(
                f"{entry.run.path} has its NLL from {k} importance samples, {entries[0].run.path} from {other_k}"
            )
        mine, theirs = (_features_of(e) for e in (entry, entries[0]))
        if mine != theirs:
            raise UserError(
                f"{entry.run.path} compares samples by the features {mine}, {entries[0].run.path} by {theirs}"
            )
        group = seen.setdefault(entry.group, {})
        other = next(iter(group.values()), entry)
        if entry.seed in group:
            raise UserError(
                f"{entry.run.path} and {group[entry.seed].run.path} are both {entry.group} with seed {entry.seed}; "
                "a confidence interval is over different seeds"
            )
        if setting := _difference(entry.config, other.config):
            raise UserError(
                f"{entry.run.path} and {other.run.path} are both called {entry.group} but differ in {setting}; "
                "give one of them another model.name, or compare them apart"
            )
        group[entry.seed] = entry
    return sorted(entries, key=lambda entry: (entry.group, entry.seed))


def _difference(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    """The first setting in which two runs differ; seeds, and where they write, are none."""
    one, other = _settings(a), _settings(b)
    return next((key for key in sorted({*one, *other}) if one.get(key) != other.get(key)), None)


def _settings(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted key → value of what decides a training and its test."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if above or key in ("model", "trainer", "data", "callbacks", "importance_samples"):
            if isinstance(value, dict):
                found |= _settings(value, f"{above}{key}.")
            elif key not in ("seed", "directory", "default_root_dir", "enable_progress_bar"):
                found[above + key] = value
    return found


def _features_of(entry: Entry) -> dict[str, Any]:
    found = entry.run.results.get("features") or {}
    # What follows from the others, and a place.
    free = ("held_out_accuracy", "explained_variance", "path")
    return {key: value for key, value in found.items() if key not in free}


def _data_of(entry: Entry) -> dict[str, Any]:
    # The order of training, and how many samples a step takes, say nothing of the test data.
    free = ("seed", "batch_size", "eval_batch_size")
    return {key: value for key, value in entry.config["data"].items() if key not in free}


def grouped(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Group → its runs, in the order of the entries."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    return groups


def intervals(entries: Sequence[Entry]) -> dict[str, dict[str, Interval]]:
    """Metric → group → interval over the group's runs, for the metrics that every run of the group has."""
    groups = grouped(entries)
    names = [name for name in UNITS if any(name in entry.metrics for entry in entries)]
    found: dict[str, dict[str, Interval]] = {}
    for name in names:
        for group, members in groups.items():
            values = [member.metrics.get(name, {}).get("value") for member in members]
            known = [float(value) for value in values if value is not None]
            if len(known) == len(members):
                found.setdefault(name, {})[group] = Interval.of(known)
    return found
