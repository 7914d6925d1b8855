"""Several runs side by side: means over seeds with confidence intervals, as a table and as pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import torch
from scipy.stats import t as student
from torch import Tensor

from src.evaluation.geometry_figures import strips
from src.evaluation.metrics import HIGHER_IS_BETTER, LOWER_IS_BETTER, UNITS
from src.models.latents import FrameSequence
from src.runs import Run, list_runs, load_model
from src.runs.loading import read_plain_config
from src.runs.record import CONFIG_FILE, write_atomic
from src.utils.build import build
from src.utils.errors import UserError, nearest
from src.utils.seeding import isolated_rng

CONFIDENCE = 0.95
IN_A_ROW = 10
SMALL_ROW = 0.55  # inches, of pictures side by side for many models
# What results.json holds beside the metrics and a table can show.
FACTS = ("parameters", "epoch_seconds")
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
    told = (
        "held_out_accuracy",
        "explained_variance",
        "path",
    )  # what follows from the others, and a place
    return {key: value for key, value in found.items() if key not in told}


def _data_of(entry: Entry) -> dict[str, Any]:
    # The order of training, and how many samples a step takes, say nothing of the test data.
    free = ("seed", "batch_size", "eval_batch_size")
    return {key: value for key, value in entry.config["data"].items() if key not in free}


def intervals(entries: Sequence[Entry]) -> dict[str, dict[str, Interval]]:
    """Metric → group → interval over the group's runs, for the metrics that every run of the group has."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    names = [name for name in UNITS if any(name in entry.metrics for entry in entries)]
    found: dict[str, dict[str, Interval]] = {}
    for name in names:
        for group, members in groups.items():
            values = [member.metrics.get(name, {}).get("value") for member in members]
            known = [float(value) for value in values if value is not None]
            if len(known) == len(members):
                found.setdefault(name, {})[group] = Interval.of(known)
    return found


def markdown(entries: Sequence[Entry], chosen: Sequence[str] | None = None) -> str:
    """The table of ``intervals`` in Markdown, with the baselines' means; the best of a row is bold.

    Args:
        chosen: metrics, in this order; all by default.
    """
    table = intervals(entries)
    groups = list(dict.fromkeys(entry.group for entry in entries))
    baselines = list(
        dict.fromkeys(
            b for e in entries for row in e.metrics.values() for b in row.get("baselines", {})
        )
    )
    counts = {group: sum(entry.group == group for entry in entries) for group in groups}
    heads = [f"{group} (n={counts[group]})" for group in groups]
    lines = [
        "| " + " | ".join(["metric", "unit", *heads, *baselines]) + " |",
        "|" + "---|" * (2 + len(groups) + len(baselines)),
    ]
    for name in chosen or table:
        row = table.get(name, {})
        best = _best(name, row)
        cells = [
            "" if g not in row else f"**{row[g]}**" if g == best else str(row[g]) for g in groups
        ]
        given = [_baseline(entries, name, baseline) for baseline in baselines]
        others = ["" if value is None else f"{value:.4g}" for value in given]
        lines.append(
            "| " + " | ".join([f"`{name}`", UNITS.get(name, "nats"), *cells, *others]) + " |"
        )
    return "\n".join(lines) + "\n"


def _best(name: str, row: dict[str, Interval]) -> str | None:
    # The lowest KL is a collapsed posterior's.
    if len(row) < 2 or name == "kl" or name not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return None
    pick = min if name in LOWER_IS_BETTER else max
    return pick(row, key=lambda group: row[group].centre)


def _baseline(entries: Sequence[Entry], metric: str, baseline: str) -> float | None:
    values = [
        e.metrics[metric].get("baselines", {}).get(baseline) for e in entries if metric in e.metrics
    ]
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def by_model(entries: Sequence[Entry], chosen: Sequence[str] | None = None) -> str:
    """The same numbers with a row for each model, for many of them, and the baselines below.

    Args:
        chosen: metrics, and facts of ``results.json`` such as ``parameters``, in this order; all metrics by default.
    """
    table = intervals(entries)
    names = [*(chosen or table)]
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    lines = ["| model | " + " | ".join(f"`{name}`" for name in names) + " |"]
    lines.append("|---" * (1 + len(names)) + "|")
    for group, members in groups.items():
        cells = [
            str(table.get(name, {}).get(group, ""))
            if name in UNITS
            else _fact_of([member.run.results.get(name) for member in members])
            for name in names
        ]
        lines.append("| " + " | ".join([f"`{group}`", *cells]) + " |")
    found = (b for e in entries for row in e.metrics.values() for b in row.get("baselines", {}))
    for baseline in dict.fromkeys(found):
        cells = [_fact(_baseline(entries, name, baseline)) for name in names]
        lines.append("| " + " | ".join([f"*{baseline}*", *cells]) + " |")
    return "\n".join(lines) + "\n"


def _fact_of(values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return ""
    return _fact(known[0] if len({*known}) == 1 else mean(known))


def _fact(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


@torch.no_grad()
def side_by_side(entries: Sequence[Entry], rows: Sequence[Tensor], samples: int) -> dict[str, Any]:
    """What each group's first run makes of the same held-out data, and what it draws.

    Args:
        rows: sequences (T, C, H, W), or rows of pictures (N, C, H, W).
        samples: rows that each model draws.

    Returns:
        ``reconstructions`` and ``samples`` → labelled rows, for ``strips``.
    """
    first = {entry.group: entry for entry in reversed(entries)}
    models = {group: load_model(entry.run.path) for group, entry in sorted(first.items())}
    held_out = [(f"held out {number + 1}", row) for number, row in enumerate(rows)]
    shown: dict[str, list[tuple[str, Tensor]]] = {"reconstructions": [], "samples": []}
    for label, row in held_out:
        shown["reconstructions"].append((label, row))
        for group, model in models.items():
            sequence = isinstance(model.latent, FrameSequence)
            y = model.reconstruct(row[None])[0] if sequence else model.reconstruct(row)
            shown["reconstructions"].append((group, y.clamp(0, 1)))
    for group, model in models.items():
        if not model.can_sample:
            continue
        with isolated_rng(0):
            for _ in range(samples):
                sequence = isinstance(model.latent, FrameSequence)
                drawn = model.sample(1)[0] if sequence else model.sample(len(rows[0]))
                shown["samples"].append((group, drawn.clamp(0, 1)))
    return shown


def write_comparison(
    runs: str | Sequence[str],
    output: str,
    metrics: Sequence[str] | None,
    pictures: int,
    rows: Literal["metrics", "models"] = "metrics",
) -> list[Path]:
    """Write ``table.md`` and pictures of the same held-out data side by side.

    Args:
        runs: a directory with finished runs below it, or several.
        output: the directory to write to.
        metrics: what the table shows; all by default.
        pictures: sequences, or rows of ten pictures; 0 for the table alone.
        rows: of the table.

    Returns:
        The files written.

    Raises:
        UserError: no finished runs, or an unknown metric.
    """
    if rows not in ("metrics", "models"):
        raise UserError(f"rows='{rows}' is unknown; choices: metrics, models")
    entries = finished_runs([runs] if isinstance(runs, str) else list(runs))
    known = UNITS if rows == "metrics" else [*UNITS, *FACTS]
    for name in metrics or ():
        if name not in known:
            raise UserError(f"metrics: '{name}' is unknown{nearest(name, known)}")
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    written = [directory / "table.md"]
    write_atomic(written[0], (markdown if rows == "metrics" else by_model)(entries, metrics))
    config = entries[0].config["data"]
    sequences = config["kind"] == "sequence" and len(config["shape"]) == 4
    if pictures and (sequences or config["kind"] == "image"):
        data = build(config, allowed=("src.datamodules.",))
        data.setup()
        count = pictures if sequences else pictures * IN_A_ROW
        x = data.rows("test", data.spread("test", count))
        shown = side_by_side(entries, list(x if sequences else x.split(IN_A_ROW)), pictures)
        for name, labelled in shown.items():
            labels, shown_rows = zip(*labelled, strict=True)
            figure = strips(labels, shown_rows, 1.05 if sequences else SMALL_ROW)
            figure.suptitle(f"{name}: the first seed of each model")
            written.append(directory / f"{name}.png")
            figure.savefig(written[-1], dpi=110, bbox_inches="tight")
    return written
