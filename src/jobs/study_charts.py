"""Charts of a study that move: what ``reading`` gives in, plotly figures out."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from src.jobs.outcome import PRUNED
from src.jobs.studies import RUNNING, Study, Trial
from src.jobs.study_figures import (
    BLUE,
    GREY,
    ORANGE,
    best_so_far,
    with_unit,
    without_strays,
)
from src.utils.charts import HEIGHT, empty_chart

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Trials up to which every number has its tick.
FEW = 12
# Part of an axis that is left free beyond the points.
MARGIN = 0.08


def history(study: Study, metric: str) -> "Figure":
    """Every complete trial's value, the best so far, and the last value of those that were pruned or still run."""
    index = list(study.metrics).index(metric)
    figure = empty_chart("trial", with_unit(metric))
    numbers = [trial.number for trial in study.complete]
    values = [trial.values[index] for trial in study.complete]
    if values:
        _scatter(figure, numbers, values, "complete", {"color": BLUE, "size": 9})
        best = best_so_far(values, study.metrics[metric] == "maximize")
        line = {"color": BLUE, "width": 1, "shape": "hv"}
        figure.add_scatter(x=numbers, y=best, name="best so far", mode="lines", line=line)
        figure.update_yaxes(range=_range(values))
    if len(study.metrics) == 1:
        for state, symbol in ((PRUNED, "x"), (RUNNING, "circle-open")):
            known = [t for t in study.trials if t.state == state and t.last is not None]
            mark = {"color": GREY, "size": 9, "symbol": symbol}
            own, last = [t.number for t in known], [t.last for t in known]
            _scatter(figure, own, last, f"{state}, last value", mark)
    _mark_default(figure, study, index)
    figure.update_xaxes(dtick=1 if len(study.trials) <= FEW else None, tickformat="d")
    return figure


def _mark_default(figure: Any, study: Study, index: int) -> None:
    default = next((t for t in study.complete if t.number == study.default), None)
    if default is not None:
        line = {"color": ORANGE, "dash": "dash", "width": 1}
        figure.add_hline(y=default.values[index], line=line, annotation_text="default")


def beyond(study: Study, metric: str) -> int:
    """How many complete trials lie beyond the axis of ``history``."""
    index = list(study.metrics).index(metric)
    values = [trial.values[index] for trial in study.complete]
    low, high = _range(values) if values else (0.0, 0.0)
    return sum(not low <= value <= high for value in values)


def _range(values: Sequence[float]) -> list[float]:
    low, high = without_strays(values)
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return [low - margin, high + margin]


def pareto(study: Study) -> "Figure":
    """The two metrics of every complete trial; those on the front are joined and numbered."""
    names = list(study.metrics)
    figure = empty_chart(with_unit(names[0]), with_unit(names[1]))
    front = study.best()
    others = [trial for trial in study.complete if trial not in front]
    mark = {"color": GREY, "size": 8}
    first, second = ([trial.values[k] for trial in others] for k in (0, 1))
    _scatter(figure, first, second, "complete", mark, _names(others))
    figure.add_scatter(
        x=[trial.values[0] for trial in front],
        y=[trial.values[1] for trial in front],
        name="Pareto front",
        mode="lines+markers+text",
        text=[str(trial.number) for trial in front],
        textposition="top right",
        line={"color": BLUE, "width": 1},
        marker={"size": 9},
    )
    default = [trial for trial in study.complete if trial.number == study.default]
    first, second = ([trial.values[k] for trial in default] for k in (0, 1))
    mark = {"color": ORANGE, "size": 11, "symbol": "diamond-open"}
    _scatter(figure, first, second, "default", mark, _names(default))
    return figure


def _names(trials: Sequence[Trial]) -> list[str]:
    return [f"trial {trial.number}" for trial in trials]


def _scatter(
    figure: Any,
    x: Sequence[Any],
    y: Sequence[Any],
    name: str,
    mark: Mapping[str, Any],
    text: Sequence[str] | None = None,
) -> None:
    if x:
        figure.add_scatter(x=x, y=y, name=name, mode="markers", marker=mark, text=text)


def importance_bars(found: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Bars of ``study_report.importances``: metric → setting → part explained."""
    figure = empty_chart("part explained (%)", "")
    for (metric, parts), colour in zip(found.items(), (BLUE, ORANGE, GREY), strict=False):
        shares = [100 * share for share in parts.values()]
        figure.add_bar(
            y=[escape(name) for name in parts],
            x=shares,
            orientation="h",
            name=escape(metric),
            marker={"color": colour},
            text=[f"{share:.0f} %" for share in shares],
            textposition="outside",
            cliponaxis=False,
        )
    settings = {name for parts in found.values() for name in parts}
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(
        height=160 + 34 * len(settings) * len(found), barmode="group", showlegend=len(found) > 1
    )
    figure.update_xaxes(range=[0, 112], tickvals=[0, 25, 50, 75, 100])
    return figure


def parallel(study: Study) -> "Figure":
    """A line for each complete trial through its settings and values, coloured by the first metric."""
    from plotly.graph_objects import Figure, Parcoords

    done, names = study.complete, list(study.metrics)
    axes = [
        _axis(s, [t.params.get(s) for t in done], s in study.logarithmic) for s in study.settings
    ]
    axes += [_axis(name, [t.values[k] for t in done], False) for k, name in enumerate(names)]
    colours = [trial.values[0] for trial in done]
    low, high = without_strays(colours)
    line = {
        "color": colours,
        "colorscale": "Viridis" if study.metrics[names[0]] == "maximize" else "Viridis_r",
        "cmin": low,
        "cmax": high,
        "showscale": True,
        "colorbar": {"title": {"text": escape(with_unit(names[0])), "side": "right"}},
    }
    figure = Figure(Parcoords(dimensions=axes, line=line, labelangle=-12, labelside="top"))
    figure.update_layout(height=HEIGHT, margin={"l": 60, "r": 30, "t": 90, "b": 30})
    return figure


def _axis(name: str, values: Sequence[Any], logarithmic: bool) -> dict[str, Any]:
    """An axis of parallel coordinates: numbers as they are or as decades, anything else in a list."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not numbers:
        words = sorted({str(value) for value in values})
        found = [words.index(str(value)) for value in values]
        return _dimension(name, found, list(range(len(words))), words)
    if logarithmic and min(values) > 0:
        places = [math.log10(value) for value in values]
        low, high = min(places), max(places)
        ticks = [low + part * (high - low) for part in (0, 0.25, 0.5, 0.75, 1)]
        return _dimension(name, places, ticks, [f"{10**tick:.3g}" for tick in ticks])
    return {"label": escape(name), "values": list(values)}


def _dimension(
    name: str, places: Sequence[float], ticks: Sequence[float], words: Sequence[str]
) -> dict[str, Any]:
    texts = [escape(word) for word in words]
    return {"label": escape(name), "values": places, "tickvals": ticks, "ticktext": texts}
