"""Charts of compared runs that move: numbers in, plotly figures out. Nothing here needs torch."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from src.evaluation.comparing.differences import Trade
from src.evaluation.comparing.entries import Interval
from src.runs.curves import Point, thin
from src.utils.charts import HEIGHT, empty_chart

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Told apart by people who see no red or no green (Okabe & Ito 2008), and readable on light and dark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c6bb1", "#7f7f7f")
# Points of a line that are drawn, and up to how many each has a mark: one alone has no line.
DRAWN, MARKED = 400, 20


def curve_chart(
    lines: Sequence[tuple[str, Sequence[Point]]],
    term: str,
    unit: str,
    stages: Sequence[str] = ("train", "val"),
    scale: Literal["linear", "log"] = "linear",
) -> "Figure":
    """One line a run and stage: training dotted, validation solid, a colour a group.

    Args:
        lines: group and its points, a pair for every run.
        term, unit: what the points are of.
        stages: which of them are drawn.
        scale: of the values.
    """
    figure = empty_chart("optimiser step", f"{term} ({unit})" if unit else term)
    groups = list(dict.fromkeys(group for group, _ in lines))
    for group, points in lines:
        for stage in stages:
            own = thin([point for point in points if point["stage"] == stage], DRAWN)
            style = {
                "color": _colour(groups, group),
                "dash": "dot" if stage == "train" else "solid",
            }
            name = escape(f"{group}, {stage}" if len(stages) > 1 else group)
            steps, values = [p["step"] for p in own], [p["value"] for p in own]
            mode = "lines+markers" if len(own) <= MARKED else "lines"
            _add_line(figure, steps, values, name, {"line": style, "mode": mode})
    figure.update_yaxes(type=scale)
    return figure


def _add_line(figure: Any, x: Sequence[Any], y: Sequence[Any], name: str, options: dict) -> None:
    """A line whose name stands in the legend once, however many runs a group has."""
    known = any(trace.name == name for trace in figure.data)
    figure.add_scatter(x=x, y=y, name=name, legendgroup=name, showlegend=not known, **options)


def radar_chart(scores: Mapping[str, Sequence[float]], names: Sequence[str]) -> "Figure":
    """A closed line a group through its ``scores``, from 0 in the middle to 1 at the edge."""
    figure = empty_chart("", "")
    axes = [escape(name) for name in names]
    for group, row in scores.items():
        options = {"mode": "lines+markers", "line": {"color": _colour(list(scores), group)}}
        figure.add_scatterpolar(
            r=[*row, row[0]], theta=[*axes, axes[0]], name=escape(group), **options
        )
    # Between two axes, and off the middle, in which all lines would meet that are worst at something.
    ticks = {"tickvals": [0, 1], "ticktext": ["worst", "best"], "angle": 180 / len(names)}
    radial = {"range": [-0.2, 1.02], "tickangle": 0, **ticks}
    figure.update_layout(
        polar={"radialaxis": radial, "bgcolor": "rgba(0,0,0,0)"},
        height=HEIGHT + 60,
        margin={"l": 90, "r": 90},
    )
    return figure


def rate_distortion_chart(
    trades: Mapping[str, Trade], distortion: str, unit: str, joined: bool = False
) -> "Figure":
    """A point a group, with its intervals.

    Args:
        distortion, unit: of the vertical axis.
        joined: settings of one model are one line, in the order of their rates.
    """
    figure = empty_chart("rate: kl (nats)", f"distortion: {distortion} ({unit})")
    lines: dict[str, list[tuple[str, Trade]]] = {}
    for group, trade in trades.items():
        lines.setdefault(trade.model if joined else group, []).append((group, trade))
    for name, members in lines.items():
        ordered = sorted(members, key=lambda member: member[1].rate.centre)
        rates, losses = ([getattr(t, side) for _, t in ordered] for side in ("rate", "distortion"))
        figure.add_scatter(
            x=[one.centre for one in rates],
            y=[one.centre for one in losses],
            error_x=_bars(rates),
            error_y=_bars(losses),
            text=[escape(group) for group, _ in ordered],
            textposition="top center",
            hovertemplate="%{text}<br>rate %{x:.4g} nats<br>distortion %{y:.4g}<extra></extra>",
            name=escape(name),
            mode="lines+markers+text" if len(ordered) > 1 else "markers",
            marker={"size": 10, "color": _colour(list(lines), name)},
            line={"color": _colour(list(lines), name), "width": 1},
        )
    return figure


def _bars(values: Sequence[Interval]) -> dict[str, Any]:
    return {"type": "data", "array": [value.half_width or 0.0 for value in values], "thickness": 1}


def _colour(groups: Sequence[str], group: str) -> str:
    return COLOURS[groups.index(group) % len(COLOURS)]
