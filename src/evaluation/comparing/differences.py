"""How far groups of runs are apart: differences with intervals, scores, rates and distortions."""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from scipy.stats import t as student

from src.evaluation.comparing.chosen_runs import Chosen
from src.evaluation.comparing.entries import CONFIDENCE, Entry, Interval, grouped
from src.evaluation.units import HIGHER_IS_BETTER, LOWER_IS_BETTER

Verdict = Literal["better", "worse", "equal", "unclear", ""]


@dataclass(frozen=True)
class Difference:
    """How far a group's mean is from the reference's.

    Attributes:
        absolute: in the metric's unit.
        relative: as a part of the reference; None where the metric has no natural zero.
        half_width: of the 95 % confidence interval of the absolute one (Welch's); None where either is one run.
        verdict: better or worse; ``unclear`` where the interval holds 0; empty where neither way is better.
    """

    absolute: float
    relative: float | None
    half_width: float | None
    verdict: Verdict

    def __str__(self) -> str:
        sign = "+" if self.absolute >= 0 else "−"
        text = sign + str(Interval(abs(self.absolute), self.half_width, 1))
        part = "" if self.relative is None else f" ({100 * self.relative:+.3g} %)".replace("-", "−")
        return text + part + (f" {self.verdict}" if self.verdict else "")


def differences(
    table: Mapping[str, Mapping[str, Interval]],
    units: Mapping[str, str],
    reference: str,
    unjudged: Set[str] = frozenset(),
) -> dict[str, dict[str, Difference]]:
    """Metric → group → difference from the reference's group, where both have the metric.

    Args:
        table: as ``intervals`` gives it.
        units: of its metrics.
        unjudged: metrics of which none is better.
    """
    found: dict[str, dict[str, Difference]] = {}
    for name, row in table.items():
        if reference not in row:
            continue
        ratio = units.get(name) != "dB" and (units.get(name) != "nats" or name == "kl")
        way = 0 if name in unjudged else direction(name)
        found[name] = {
            group: _difference(value, row[reference], ratio, way)
            for group, value in row.items()
            if group != reference
        }
    return found


def direction(metric: str) -> int:
    """1 where more is better, −1 where less is, 0 where neither. The lowest KL is a collapsed posterior's."""
    if metric == "kl":
        return 0
    return (metric in HIGHER_IS_BETTER) - (metric in LOWER_IS_BETTER)


def _difference(value: Interval, reference: Interval, ratio: bool, way: int) -> Difference:
    absolute = value.centre - reference.centre
    relative = absolute / abs(reference.centre) if ratio and reference.centre else None
    half_width = _welch(value, reference)
    return Difference(absolute, relative, half_width, _verdict(absolute, half_width, way))


def _verdict(absolute: float, half_width: float | None, way: int) -> Verdict:
    if way == 0:
        return ""
    if half_width is not None and absolute and abs(absolute) <= half_width:
        return "unclear"
    if absolute == 0:
        return "equal"
    return "better" if absolute * way > 0 else "worse"


def _welch(a: Interval, b: Interval) -> float | None:
    """The half-width of the interval of a difference of means whose variances need not be the same (Welch 1947)."""
    if a.half_width is None or b.half_width is None:
        return None
    parts = [
        (one.half_width or 0.0) ** 2 / float(student.ppf((1 + CONFIDENCE) / 2, one.n - 1)) ** 2
        for one in (a, b)
    ]
    total = sum(parts)
    if total == 0:
        return 0.0
    spread = sum(v**2 / (one.n - 1) for v, one in zip(parts, (a, b), strict=True))
    return float(student.ppf((1 + CONFIDENCE) / 2, total**2 / spread)) * math.sqrt(total)


def judged(table: Mapping[str, Mapping[str, Interval]], chosen: Chosen) -> Iterator[str]:
    """The metrics that every group has, that some way is better of, and that the groups differ in."""
    for name, row in table.items():
        values = {interval.centre for interval in row.values()}
        known = direction(name) and name not in chosen.unjudged
        if known and len(values) > 1 and {*row} >= {*chosen.labels}:
            yield name


def scores(
    table: Mapping[str, Mapping[str, Interval]], names: Sequence[str]
) -> dict[str, list[float]]:
    """Group → for each of the ``judged`` metrics 1 where it is the best of the groups and 0 where it is the worst."""
    found: dict[str, list[float]] = {}
    for name in names:
        values = {group: direction(name) * row.centre for group, row in table[name].items()}
        low, high = min(values.values()), max(values.values())
        for group, value in values.items():
            found.setdefault(group, []).append((value - low) / (high - low))
    return found


@dataclass(frozen=True)
class Trade:
    """A group's rate, what it loses, and the model that it is a setting of."""

    model: str
    rate: Interval
    distortion: Interval


def trades(
    table: Mapping[str, Mapping[str, Interval]], entries: Sequence[Entry], distortion: str
) -> dict[str, Trade]:
    """Group → its KL and its ``distortion``, of those that have both."""
    rates, losses = table.get("kl", {}), table.get(distortion, {})
    return {
        group: Trade(str(members[0].config["model"]["name"]), rates[group], losses[group])
        for group, members in grouped(entries).items()
        if group in rates and group in losses
    }
