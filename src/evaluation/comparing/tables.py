"""Tables of compared runs, as Markdown and as parts of a document. Nothing here needs torch."""

from collections.abc import Mapping, Sequence, Set
from statistics import mean
from typing import Any

from src.evaluation.comparing.chosen_runs import Chosen, config_differences
from src.evaluation.comparing.differences import Difference, differences, direction
from src.evaluation.comparing.document import Table, Tone, markdown_table
from src.evaluation.comparing.entries import Entry, Interval, grouped, intervals
from src.evaluation.units import UNITS, unit_of
from src.runs.reading import is_number

# What results.json holds beside the metrics and a table can show, and its unit.
FACTS = {"parameters": "numbers", "epoch_seconds": "s"}


def markdown(entries: Sequence[Entry], names: Sequence[str] | None = None) -> str:
    """``numbers`` in Markdown.

    Args:
        names: metrics, in this order; all by default.
    """
    return markdown_table(numbers(entries, names)) + "\n"


def numbers(
    entries: Sequence[Entry],
    names: Sequence[str] | None = None,
    unjudged: Set[str] = frozenset(),
    facts: bool = False,
) -> Table:
    """The table of ``intervals``, with the baselines' means; the best of a row is bold.

    Args:
        names: metrics, in this order; all by default.
        unjudged: metrics of which none is best.
        facts: ``FACTS`` as well.
    """
    table, groups, baselines = intervals(entries), grouped(entries), _baselines(entries)
    several = any(len(members) > 1 for members in groups.values())
    heads = [
        f"{group} (n={len(members)})" if several else group for group, members in groups.items()
    ]
    rows: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    for name in names if names is not None else table:
        row = table.get(name, {})
        best = set() if name in unjudged else _best(name, row)
        cells = [str(row.get(group, "")) for group in groups]
        bold |= {(len(rows), 2 + k) for k, group in enumerate(groups) if group in best}
        others = [_fact(_baseline(entries, name, baseline)) for baseline in baselines]
        rows.append([name, unit_in(entries, name), *cells, *others])
    rows += [_fact_row(name, groups, len(baselines)) for name in FACTS if facts]
    return Table(["metric", "unit", *heads, *baselines], rows, frozenset(bold), code=(0,))


def _fact_row(name: str, groups: Mapping[str, Sequence[Entry]], baselines: int) -> list[str]:
    cells = [
        _fact_of([member.results.get(name) for member in members]) for members in groups.values()
    ]
    return [name, FACTS[name], *cells, *[""] * baselines]


def apart_from(chosen: Chosen, reference: str, names: Sequence[str]) -> Table:
    """How far every group is from the reference's, better and worse in colour.

    Args:
        reference: one of the groups.
        names: metrics.
    """
    table = intervals(chosen.entries)
    units = {name: unit_in(chosen.entries, name) for name in table}
    found = differences(table, units, reference, chosen.unjudged)
    others = [group for group in chosen.labels if group != reference]
    rows: list[list[str]] = []
    tones: dict[tuple[int, int], Tone] = {}
    for name in (name for name in names if name in found):
        cells = [found[name].get(group) for group in others]
        tones |= {(len(rows), 3 + k): tone for k, cell in enumerate(cells) if (tone := _tone(cell))}
        told = ["" if cell is None else str(cell) for cell in cells]
        rows.append([name, units[name], str(table[name][reference]), *told])
    return Table(
        ["metric", "unit", f"reference: {reference}", *others], rows, tones=tones, code=(0,)
    )


def _tone(cell: Difference | None) -> Tone | None:
    tones: dict[str, Tone] = {"better": "good", "worse": "bad"}
    return tones.get(cell.verdict) if cell else None


def configs(chosen: Mapping[str, Mapping[str, Any]], everything: bool = False) -> Table:
    """``config_differences`` as a table, a column a config."""
    found = config_differences(chosen, everything)
    return Table(["key", *chosen], [[key, *row] for key, row in found.items()], code=(0,))


def unit_in(entries: Sequence[Entry], metric: str) -> str:
    """As the runs have it: the squared error of poses is none of intensities. Empty where none is known."""
    stored = (e.metrics[metric].get("unit") for e in entries if metric in e.metrics)
    return next(filter(None, stored), None) or unit_of_term(entries, metric)


def unit_of_term(entries: Sequence[Entry], term: str) -> str:
    """By the data alone, for what is logged; empty where none is known, or the runs' are different."""
    poses = (entry.config["data"].get("value_range") == "rotation" for entry in entries)
    found = {unit_of(term, is_pose) for is_pose in poses}
    return found.pop() if len(found) == 1 else ""


def _best(name: str, row: Mapping[str, Interval]) -> set[str]:
    """The groups that no other is better than; none where all are alike, or neither way is better."""
    scores = {group: direction(name) * interval.centre for group, interval in row.items()}
    if len({*scores.values()}) < 2:
        return set()
    return {group for group, score in scores.items() if score == max(scores.values())}


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
            else _fact_of([member.results.get(name) for member in members])
            for name in names
        ]
        lines.append("| " + " | ".join([f"`{group}`", *cells]) + " |")
    for baseline in _baselines(entries):
        cells = [_fact(_baseline(entries, name, baseline)) for name in names]
        lines.append("| " + " | ".join([f"*{baseline}*", *cells]) + " |")
    return "\n".join(lines) + "\n"


def _fact_of(values: Sequence[Any]) -> str:
    known = [value for value in values if is_number(value)]
    if not known or len(known) < len(values):
        return ""
    return _fact(known[0] if len({*known}) == 1 else mean(known))


def _fact(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"
