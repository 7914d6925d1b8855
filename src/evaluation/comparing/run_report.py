"""Compared runs told in one report, and the files that ``scripts/compare.py`` writes."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from src.evaluation.comparing import charts
from src.evaluation.comparing.chosen_runs import Chosen, of_entries
from src.evaluation.comparing.differences import judged, scores, trades
from src.evaluation.comparing.document import Chart, Document, Part, Picture, Table, Text, as_html
from src.evaluation.comparing.entries import Entry, finished_runs, intervals
from src.evaluation.comparing.tables import (
    FACTS,
    apart_from,
    by_model,
    configs,
    markdown,
    numbers,
    unit_in,
)
from src.evaluation.units import UNITS
from src.runs.curves import curves
from src.runs.record import write_atomic
from src.utils.errors import UserError, nearest

if TYPE_CHECKING:  # torch is imported when a model is opened
    from src.evaluation.opened import OpenedRun

# Terms whose curves a report has, where they were logged, and what a rate is bought for.
TERMS = ("loss", "recon_nll", "kl", "mse", "mpjre", "elbo")
DISTORTIONS = ("recon_nll", "mse", "mpjre")
CAPTIONS = {
    "reconstructions": (
        "Held-out data and what the first seed of each model makes of them; below each name the mean squared error of "
        "the row (intensity²), of poses the mean angle between the joints' rotations (MPJRE)."
    ),
    "samples": "Samples of the first seed of each model: what it decodes from its prior, or from what is fitted to it.",
}
# Of a radar chart, where there are enough of them: what others do not say again in other words.
AXES = (
    "nll",
    "mse",
    "ssim",
    "knn_accuracy",
    "mig",
    "mpjre",
    "sample_fid",
    "sample_precision",
    "sample_recall",
    "sample_limits",
    "auroc_midpoint",
)
FEWEST = 3  # axes of a radar chart
RADAR = (
    "Every axis is one metric, scaled over the models shown: the outermost is the best of them, the innermost the "
    "worst. How far apart they are in its unit is in the tables."
)


def report(
    chosen: Chosen,
    reference: str,
    pictures: Mapping[str, bytes] | None = None,
    now: Sequence[Part] = (),
) -> Document:
    """Everything that can be said of some runs beside each other.

    Args:
        reference: the group that differences are from.
        pictures: ``reconstructions`` and ``samples`` as PNG.
        now: what was measured besides their tests.
    """
    sections: dict[str, list[Part]] = {
        "Runs": [who(chosen.entries), *map(Text, chosen.remarks)],
        "Numbers, as tested": numbers_parts(chosen),
        "Differences": difference_parts(chosen, reference),
        "Measured now": list(now),
        "Trade-offs": [*radar_parts(chosen), *trade_parts(chosen)],
        "Pictures": [Picture(png, CAPTIONS[name]) for name, png in (pictures or {}).items()],
        "Curves": curve_parts(chosen.entries),
        "Settings that differ": [configs(chosen.configs)],
    }
    title = f"{len(chosen.entries)} runs compared"
    return Document(title, {name: parts for name, parts in sections.items() if parts})


def who(entries: Sequence[Entry]) -> Table:
    """Where the runs lie, and what they are."""
    rows = [
        [
            entry.group,
            str(entry.run.path),
            str(entry.seed),
            entry.run.state,
            str(entry.results.get("checkpoint", "")),
            str(entry.run.info.get("commit") or "")[:8],
        ]
        for entry in entries
    ]
    return Table(["shown as", "run", "seed", "state", "weights tested", "commit"], rows, code=(1,))


def numbers_parts(chosen: Chosen) -> list[Part]:
    """The numbers as tested, without those that were measured in different ways."""
    names = [name for name in intervals(chosen.entries) if name not in chosen.hidden]
    counted = len({entry.group for entry in chosen.entries}) < len(chosen.entries)
    words = "Means over seeds ± half of their 95 % confidence interval. " if counted else ""
    return [
        Text(f"{words}Bold: the best model, of metrics where one way is better."),
        numbers(chosen.entries, names, chosen.unjudged, facts=True),
    ]


def difference_parts(chosen: Chosen, reference: str) -> list[Part]:
    """How far the others are from the reference; nothing where there are no others."""
    if len(chosen.labels) < 2:
        return []
    names = [name for name in intervals(chosen.entries) if name not in chosen.hidden]
    words = (
        "This one minus the reference; in brackets as a part of the reference, where the metric has a natural zero. "
        "Unclear: the 95 % confidence interval of the difference (Welch's) holds 0. Where either side is a single "
        "run there is no interval, and a difference may be due to its seed."
    )
    return [Text(words), apart_from(chosen, reference, names)]


def radar_parts(chosen: Chosen, names: Sequence[str] | None = None) -> list[Part]:
    """The models on the axes of ``names``, by default ``telling``; a sentence where those are too few."""
    asked = telling(chosen) if names is None else names
    known = [name for name in axes(chosen) if name in asked]
    if len(known) < FEWEST:
        return [
            Text(
                f"There is no radar chart: it takes {FEWEST} metrics that all models have and differ in, of which "
                f"one way is better, and there are {len(known)}."
            )
        ]
    found = scores(intervals(chosen.entries), known)
    return [Chart(charts.radar_chart(found, known), RADAR)]


def axes(chosen: Chosen) -> list[str]:
    """The metrics that a radar chart can have."""
    table = intervals(chosen.entries)
    return [name for name in judged(table, chosen) if name not in chosen.hidden]


def telling(chosen: Chosen) -> list[str]:
    """Those of the ``axes`` that are in ``AXES``, or all of them where these are too few."""
    known = axes(chosen)
    few = [name for name in known if name in AXES]
    return few if len(few) >= FEWEST else known


def trade_parts(chosen: Chosen, distortions: Sequence[str] = DISTORTIONS) -> list[Part]:
    """Rate against each of the ``distortions`` that at least two models have."""
    table = intervals(chosen.entries)
    parts: list[Part] = []
    for name in distortions:
        found = {} if name in chosen.hidden else trades(table, chosen.entries, name)
        if len(found) > 1:
            unit = unit_in(chosen.entries, name)
            figure = charts.rate_distortion_chart(found, name, unit, chosen.together)
            better = "lower and further left is better"
            if name in chosen.unjudged:
                better = (
                    "its nats are of different likelihoods, so that none is better than another"
                )
            parts.append(Chart(figure, f"Rate against {name} on held-out data: {better}."))
    return parts


def curve_parts(entries: Sequence[Entry], terms: Sequence[str] = TERMS) -> list[Part]:
    """The curves of ``terms``, where a run has them."""
    logged = [(entry.group, curves(entry.run)) for entry in entries]
    parts: list[Part] = []
    for term in terms:
        lines = [(group, found[term]) for group, found in logged if term in found]
        if lines:
            figure = charts.curve_chart(lines, term, unit_in(entries, term))
            parts.append(
                Chart(figure, f"{term} while training; dotted: training, solid: validation.")
            )
    return parts


def write_comparison(
    runs: str | Sequence[str],
    output: str,
    metrics: Sequence[str] | None,
    pictures: int,
    rows: Literal["metrics", "models"] = "metrics",
) -> list[Path]:
    """Write ``table.md``, pictures of the same held-out data side by side, and ``report.html`` with both and more.

    Of poses a picture of rates and distortions too.

    Args:
        runs: a directory with finished runs below it, or several.
        output: the directory to write to.
        metrics: what the table shows; all by default.
        pictures: sequences, or rows of pictures or poses; 0 for none.
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
    shown = _write_pictures(entries, directory, pictures) if pictures else []
    written += [*shown, directory / "report.html"]
    named = {file.stem: file.read_bytes() for file in shown}
    chosen = of_entries(entries)
    write_atomic(written[-1], as_html(report(chosen, chosen.labels[0], named)))
    return written


def _write_rates(entries: Sequence[Entry], directory: Path) -> list[Path]:
    """``rate_distortion.png`` of models of poses; none of other data, or of one model."""
    table = intervals(entries)
    rates, errors = table.get("kl", {}), table.get("mpjre", {})
    points = {
        group: (rates[group].centre, errors[group].centre) for group in rates if group in errors
    }
    if len(points) < 2:
        return []
    from src.evaluation.pose_figures import rate_distortion

    path = directory / "rate_distortion.png"
    rate_distortion(points).savefig(path, dpi=110)
    return [path]


def _write_pictures(entries: Sequence[Entry], directory: Path, count: int) -> list[Path]:
    """``reconstructions.png`` and ``samples.png`` of data that can be seen."""
    from src.evaluation.comparing.side_by_side import can_be_seen
    from src.evaluation.opened import open_run

    first = {entry.group: entry for entry in reversed(entries)}
    opened = {group: open_run(entry.run.path) for group, entry in sorted(first.items())}
    if not can_be_seen(next(iter(opened.values()))):
        return []
    written = []
    for name, png in picture_files(opened, count)[0].items():
        written.append(directory / f"{name}.png")
        written[-1].write_bytes(png)
    return written


def picture_files(
    runs: Mapping[str, "OpenedRun"], count: int
) -> tuple[dict[str, bytes], list[str]]:
    """``side_by_side`` as PNG, and a sentence on every model that is missing in one.

    Raises:
        UserError: as ``side_by_side``.
    """
    from src.evaluation.comparing.side_by_side import figures, side_by_side

    shown = side_by_side(runs, count)
    found = {}
    for name, figure in figures(shown):
        figure.suptitle(f"{name}: the first seed of each model")
        figure.savefig(file := BytesIO(), dpi=110, bbox_inches="tight", format="png")
        found[name] = file.getvalue()
    return found, shown.remarks
