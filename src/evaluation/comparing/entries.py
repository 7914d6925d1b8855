"""Finished runs of one data set, grouped over their seeds: means with confidence intervals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student

from src.evaluation.units import in_order
from src.runs import Run, list_runs
from src.runs.loading import read_plain_config
from src.runs.reading import is_number
from src.runs.record import CONFIG_FILE, RESULTS_FILE
from src.utils.errors import UserError

CONFIDENCE = 0.95
# Measured on the same pairs of the same model, so that a difference has a narrower interval than either.
PAIRS = {
    "interpolation_mse_difference": ("interpolation_mse_geodesic", "interpolation_mse_linear"),
    "off_data_mse_difference": ("off_data_mse_geodesic", "off_data_mse_linear"),
}
# The parts of a config that decide a training and its test, and the keys in it that do not.
DECIDING = ("model", "trainer", "data", "callbacks", "importance_samples")
PLACES = ("directory", "default_root_dir", "enable_progress_bar")
# What depends on how many samples a bound is of, and on the features that samples are compared by.
OF_BOUNDS = frozenset({"nll"})
OF_FEATURES = frozenset(
    f"sample_{name}" for name in ("fid", "precision", "recall", "density", "coverage")
)


@dataclass(frozen=True)
class Entry:
    """A finished run, and the name that it is grouped under."""

    run: Run
    group: str
    seed: int
    config: dict[str, Any]

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of ``results.json``, read once.

        Raises:
            UserError: it is not JSON, or not what a test writes.
        """
        found = self.run.results
        rows = found.get("metrics", {})
        if not isinstance(rows, dict) or not all(map(_is_row, rows.values())):
            raise UserError(
                f"{self.run.path / RESULTS_FILE} holds no metrics as a test writes them"
            )
        return found

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Metric → value, unit and baselines, as in ``results.json``, and the differences of ``PAIRS``.

        Raises:
            UserError: as ``results``.
        """
        found = {
            name.removeprefix("test/"): row for name, row in self.results.get("metrics", {}).items()
        }
        values = {name: row["value"] for name, row in found.items() if row["value"] is not None}
        differences = {
            name: {"value": values[a] - values[b]}
            for name, (a, b) in PAIRS.items()
            if a in values and b in values
        }
        return found | differences


def _is_row(row: Any) -> bool:
    """Whether a metric is told as a test tells it; NaN is None there."""
    if not isinstance(row, dict) or "value" not in row:
        return False
    if not isinstance(row.get("baselines", {}), dict):
        return False
    numbers = [row["value"], *row.get("baselines", {}).values()]
    return isinstance(row.get("unit", ""), str) and all(n is None or is_number(n) for n in numbers)


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
    entries = [
        entry_of(run)
        for root in roots
        for run in list_runs(root)
        if run.state == "finished" and run.results
    ]
    if not entries:
        raise UserError(f"there is no finished run with results below {', '.join(map(str, roots))}")
    seen: dict[str, dict[int, Entry]] = {}
    for entry in entries:
        _check_data(entry, entries[0])
        _check_group(entry, seen.setdefault(entry.group, {}))
        seen[entry.group][entry.seed] = entry
    return sorted(entries, key=lambda entry: (entry.group, entry.seed))


def entry_of(run: Run) -> Entry:
    """A run by the name of its model.

    Raises:
        UserError: its config does not tell the model's name, the seed and the data.
    """
    config = read_plain_config(run.path / CONFIG_FILE)
    model, seed, data = (config.get(name) for name in ("model", "seed", "data"))
    name = model.get("name") if isinstance(model, dict) else None
    if name is None or not isinstance(seed, int) or not isinstance(data, dict):
        raise UserError(f"{run.path / CONFIG_FILE} names no model, seed and data")
    return Entry(run, str(name), seed, config)


def _check_data(entry: Entry, other: Entry) -> None:
    if data_difference(entry.config["data"], other.config["data"]):
        raise UserError(
            f"{entry.run.path} was tested on other data than {other.run.path}; compare runs of one data config"
        )
    for reason, _ in mismatches(entry, other):
        raise UserError(f"of {entry.run.path} and {other.run.path} {reason}")


def _check_group(entry: Entry, group: dict[int, Entry]) -> None:
    if entry.seed in group:
        raise UserError(
            f"{entry.run.path} and {group[entry.seed].run.path} are both {entry.group} with seed {entry.seed}; "
            "a confidence interval is over different seeds"
        )
    other = next(iter(group.values()), entry)
    if setting := _first_difference(settings(entry.config), settings(other.config)):
        raise UserError(
            f"{entry.run.path} and {other.run.path} are both called {entry.group} but differ in {setting}; "
            "give one of them another model.name, or compare them apart"
        )


def mismatches(entry: Entry, other: Entry) -> Iterator[tuple[str, frozenset[str]]]:
    """What was measured in another way in one run than in the other, and the metrics that it concerns."""
    k, other_k = (e.results.get("importance_samples") for e in (entry, other))
    if k != other_k:
        yield f"one has its NLL from {k} importance samples, the other from {other_k}", OF_BOUNDS
    mine, theirs = (_features_of(e) for e in (entry, other))
    if mine != theirs:
        yield f"one compares samples by the features {mine}, the other by {theirs}", OF_FEATURES


def data_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first key by which two configs of data are of other test data."""
    # The order of training, and how many samples a step takes, say nothing of the test data.
    free = ("seed", "batch_size", "eval_batch_size")
    kept = ({key: value for key, value in data.items() if key not in free} for data in (one, other))
    return _first_difference(*kept)


def _first_difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    # Whatever else follows from the name.
    keys = sorted({*one, *other}, key=lambda key: (key != "name", str(key)))
    return next((key for key in keys if one.get(key) != other.get(key)), None)


def settings(
    config: Mapping[str, Any],
    parts: Sequence[str] | None = DECIDING,
    above: str = "",
) -> dict[str, Any]:
    """Dotted key → value; where a run writes, and what it shows meanwhile, is left out.

    Args:
        config: resolved.
        parts: of the config; by default those that decide a training and its test, then without seeds. None for all.
    """
    found: dict[str, Any] = {}
    left_out = PLACES if parts is None else (*PLACES, "seed")
    for key, value in config.items():
        if not above and (key == "paths" or (parts is not None and key not in parts)):
            continue
        if isinstance(value, dict) and value:
            found |= settings(value, parts, f"{above}{key}.")
        elif key not in left_out:
            found[f"{above}{key}"] = value
    return found


def _features_of(entry: Entry) -> dict[str, Any]:
    features = entry.results.get("features")
    found = features if isinstance(features, dict) else {}
    # What follows from the others, and a place.
    free = ("held_out_accuracy", "explained_variance", "path")
    return {key: value for key, value in found.items() if key not in free}


def grouped(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Group → its runs, in the order of the entries."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    return groups


def intervals(entries: Sequence[Entry]) -> dict[str, dict[str, Interval]]:
    """Metric → group → interval over the group's runs, for the metrics that every run of the group has."""
    groups = grouped(entries)
    found: dict[str, dict[str, Interval]] = {}
    for name in in_order(name for entry in entries for name in entry.metrics):
        for group, members in groups.items():
            values = [member.metrics.get(name, {}).get("value") for member in members]
            known = [float(value) for value in values if value is not None]
            if len(known) == len(members):
                found.setdefault(name, {})[group] = Interval.of(known)
    return found
