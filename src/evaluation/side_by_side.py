"""Finished runs side by side: their numbers as a table, their pictures of the same data."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import torch
from torch import Tensor

from src.evaluation.comparison import Entry, Interval, finished_runs, grouped, intervals
from src.evaluation.geometry_figures import strips
from src.evaluation.pose_figures import rate_distortion
from src.evaluation.units import HIGHER_IS_BETTER, LOWER_IS_BETTER, UNITS
from src.models.latents import FrameSequence
from src.runs import load_model
from src.runs.record import write_atomic
from src.utils.build import build
from src.utils.errors import UserError, nearest
from src.utils.seeding import isolated_rng

IN_A_ROW = 10
SMALL_ROW = 0.55  # inches, of pictures side by side for many models
# What results.json holds beside the metrics and a table can show.
FACTS = ("parameters", "epoch_seconds")


def markdown(entries: Sequence[Entry], chosen: Sequence[str] | None = None) -> str:
    """The table of ``intervals`` in Markdown, with the baselines' means; the best of a row is bold.

    Args:
        chosen: metrics, in this order; all by default.
    """
    table = intervals(entries)
    groups, baselines = grouped(entries), _baselines(entries)
    heads = [f"{group} (n={len(members)})" for group, members in groups.items()]
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
        others = [_fact(value) for value in given]
        lines.append("| " + " | ".join([f"`{name}`", _unit(entries, name), *cells, *others]) + " |")
    return "\n".join(lines) + "\n"


def _unit(entries: Sequence[Entry], metric: str) -> str:
    """As the runs have it: the squared error of poses is none of intensities."""
    stored = (e.metrics[metric].get("unit") for e in entries if metric in e.metrics)
    return next(filter(None, stored), UNITS.get(metric, "nats"))


def _best(name: str, row: dict[str, Interval]) -> str | None:
    # The lowest KL is a collapsed posterior's.
    if len(row) < 2 or name == "kl" or name not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return None
    pick = min if name in LOWER_IS_BETTER else max
    return pick(row, key=lambda group: row[group].centre)


def _baselines(entries: Sequence[Entry]) -> list[str]:
    found = (b for e in entries for row in e.metrics.values() for b in row.get("baselines", {}))
    return list(dict.fromkeys(found))


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
    lines = ["| model | " + " | ".join(f"`{name}`" for name in names) + " |"]
    lines.append("|---" * (1 + len(names)) + "|")
    for group, members in grouped(entries).items():
        cells = [
            str(table.get(name, {}).get(group, ""))
            if name in UNITS
            else _fact_of([member.run.results.get(name) for member in members])
            for name in names
        ]
        lines.append("| " + " | ".join([f"`{group}`", *cells]) + " |")
    for baseline in _baselines(entries):
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
    """Write ``table.md`` and pictures of the same held-out data side by side; of poses, rates and distortions.

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
    written += _write_rates(entries, directory)
    return [*written, *(_write_pictures(entries, directory, pictures) if pictures else [])]


def _write_rates(entries: Sequence[Entry], directory: Path) -> list[Path]:
    """``rate_distortion.png`` of models of poses; none of other data, or of one model."""
    table = intervals(entries)
    rates, errors = table.get("kl", {}), table.get("mpjre", {})
    points = {
        group: (rates[group].centre, errors[group].centre) for group in rates if group in errors
    }
    if len(points) < 2:
        return []
    path = directory / "rate_distortion.png"
    rate_distortion(points).savefig(path, dpi=110)
    return [path]


def _write_pictures(entries: Sequence[Entry], directory: Path, count: int) -> list[Path]:
    """Pictures of ``count`` sequences, or of as many rows of ten pictures; none of other data."""
    config = entries[0].config["data"]
    sequences = config["kind"] == "sequence" and len(config["shape"]) == 4
    if not sequences and config["kind"] != "image":
        return []
    data = build(config, allowed=("src.datamodules.",))
    data.setup()
    x = data.rows("test", data.spread("test", count if sequences else count * IN_A_ROW))
    shown = side_by_side(entries, list(x if sequences else x.split(IN_A_ROW)), count)
    written = []
    for name, labelled in shown.items():
        labels, rows = zip(*labelled, strict=True)
        figure = strips(labels, rows, 1.05 if sequences else SMALL_ROW)
        figure.suptitle(f"{name}: the first seed of each model")
        written.append(directory / f"{name}.png")
        figure.savefig(written[-1], dpi=110, bbox_inches="tight")
    return written
