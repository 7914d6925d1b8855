"""Plots of a latent space that the person works with: plotly figures of codes, paths, densities and the metric.

Letters: N codes, S steps of a path, D latent dimensions.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.colors import to_hex
from torch import Tensor

from src.evaluation.animations import heatmap
from src.evaluation.exploring.aggregate import Aggregate, density
from src.evaluation.figures import MUTED, ORIGINAL, OURS
from src.evaluation.geometry_figures import (
    HalfLogdet,
    Plane,
    extent_of,
    label_colours,
    magnification,
    magnification_grid,
)

if TYPE_CHECKING:  # plotly takes a second to import
    from plotly.graph_objects import Figure

# More values than this are a scale of colours, fewer are single colours.
NAMED = 20
GREY = "#7c8493"  # seen on white and on black
SHADES = {"linear": GREY, "spherical": "#ea580c", "geodesic": OURS}
DASHES = {"linear": "dash", "spherical": "dot", "geodesic": "solid"}
CHOSEN = "#dc2626"
CELLS, BINS = 60, 40
HEIGHT = 460


def scatter(
    points: Tensor, axes: tuple[str, str], rows: Tensor, values: Tensor | None, name: str
) -> "Figure":
    """Codes on a plane; a click on one tells its row of the test split.

    Args:
        points: (N, 2).
        axes: what they show, with its unit.
        rows: (N,), shown at the pointer.
        values: what they are coloured by, (N,), or None.
        name: of the values.
    """
    from plotly.graph_objects import Figure

    figure = Figure([*_points(points, rows, values, name)])
    _plane(figure, axes)
    return figure


def add_choices(figure: "Figure", points: Tensor) -> None:
    """Small crosses (M, 2) that can be chosen by a click, below everything else."""
    from plotly.graph_objects import Scatter

    x, y = points.T.tolist()
    crosses = Scatter(
        x=x,
        y=y,
        mode="markers",
        name="decoded grid",
        marker={"symbol": "cross-thin", "size": 7, "line": {"width": 1, "color": MUTED}},
        hovertemplate="(%{x:.2f}, %{y:.2f})<extra>decoded grid</extra>",
    )
    figure.add_trace(crosses)
    figure.data = [figure.data[-1], *figure.data[:-1]]


def add_mark(figure: "Figure", x: float, y: float, name: str) -> None:
    """A ring around one place."""
    from plotly.graph_objects import Scatter

    ring = {"symbol": "circle-open", "size": 16, "line": {"width": 3}, "color": CHOSEN}
    mark = Scatter(x=[x], y=[y], mode="markers", marker=ring, name=name)
    mark.hovertemplate = f"{name} (%{{x:.2f}}, %{{y:.2f}})<extra></extra>"
    figure.add_trace(mark)


def add_ways(figure: "Figure", ways: Iterable[tuple[str, Tensor]], edge: bool = False) -> None:
    """Paths on the plane, (S, 2) each; of several by one name the legend shows one.

    Args:
        edge: draw them on white, to be seen on a map of all colours.
    """
    from plotly.graph_objects import Scatter

    seen: set[str] = set()
    for name, points in ways:
        x, y = points.T.tolist()
        if edge:
            white = {"color": "white", "width": 6}
            below = Scatter(x=x, y=y, mode="lines", line=white, showlegend=False, hoverinfo="skip")
            figure.add_trace(below)
        line = {"color": SHADES[name], "dash": DASHES[name], "width": 3}
        path = Scatter(x=x, y=y, mode="lines", line=line, name=name, legendgroup=name)
        path.showlegend = name not in seen
        path.hovertemplate = f"{name} (%{{x:.2f}}, %{{y:.2f}})<extra></extra>"
        seen.add(name)
        figure.add_trace(path)


def add_ends(figure: "Figure", points: Tensor, words: Sequence[str]) -> None:
    """Words in white discs, one at each of points (M, 2)."""
    from plotly.graph_objects import Scatter

    x, y = points.T.tolist()
    disc = {"size": 20, "color": "white", "line": {"color": ORIGINAL, "width": 1.5}}
    ends = Scatter(x=x, y=y, mode="markers+text", text=list(words), marker=disc, showlegend=False)
    ends.textfont = {"color": ORIGINAL, "size": 11}
    ends.hoverinfo = "skip"
    figure.add_trace(ends)


def magnification_plot(plane: Plane, codes: Tensor, half_logdet_inverse: HalfLogdet) -> "Figure":
    """log₁₀ √det G on the plane of codes (N, D), and the codes, each filled with the value at the code itself.

    A code lies beside the plane by what the plane does not show, and its own value differs from the map's by that.
    """
    from plotly.graph_objects import Figure, Scatter

    points, own = plane.project(codes), magnification(codes, half_logdet_inverse)
    columns, rows, values = magnification_grid(plane, extent_of(points), half_logdet_inverse, CELLS)
    low, high = (float(f(torch.stack([f(values), f(own)]))) for f in (torch.min, torch.max))
    figure = Figure(heatmap(columns, rows, values, low, max(high, low + 1e-6)))
    x, y = points.T.tolist()
    dots = Scatter(x=x, y=y, mode="markers", name="codes")
    dots.marker = {
        "color": own.tolist(),
        "colorscale": "Viridis",
        "cmin": low,
        "cmax": max(high, low + 1e-6),
        "size": 7,
        "line": {"color": "white", "width": 0.7},
    }
    dots.hovertemplate = "at the code %{marker.color:.2f}<extra></extra>"
    figure.add_trace(dots)
    _plane(figure, plane.axis_labels())
    below = {"orientation": "h", "y": -0.15, "yanchor": "top", "len": 0.9, "thickness": 14}
    figure.data[0].colorbar.update(title={"side": "bottom"}, **below)
    figure.update_layout(width=640, height=640)
    return figure


def densities(both: Aggregate, dimension: int) -> "Figure":
    """One dimension of the aggregate posterior and the prior: histograms over the same bins."""
    from plotly.graph_objects import Figure, Scatter

    groups = [("aggregate posterior q(z)", both.q, OURS)]
    if both.p is not None:
        groups.append(("draws of p(z)", both.p, GREY))
    values = torch.cat([z[:, dimension] for _, z, _ in groups])
    low, high = float(values.min()), float(values.max())
    edges = torch.linspace(low, max(high, low + 1e-6), BINS + 1)
    figure = Figure()
    for name, z, colour in groups:
        height = density(z[:, dimension], edges)
        steps = Scatter(
            x=edges.tolist(),
            y=[*height.tolist(), 0.0],
            mode="lines",
            name=name,
            line={"shape": "hv", "color": colour, "width": 2},
            fill="tozeroy" if z is both.q else None,
            hovertemplate=f"%{{x:.2f}}: %{{y:.3f}}<extra>{name}</extra>",
        )
        figure.add_trace(steps)
    if both.normal is not None:
        figure.add_trace(_bell(edges, *both.normal[:, dimension].tolist()))
    figure.update_xaxes(title_text=f"z {dimension} (latent units)")
    figure.update_yaxes(title_text="density (1 / latent unit)", rangemode="tozero")
    _legend(figure)
    return figure


def _bell(edges: Tensor, mean: float, sd: float) -> Any:
    """The density of N(mean, sd²) over ``edges``."""
    from plotly.graph_objects import Scatter

    z = torch.linspace(float(edges[0]), float(edges[-1]), 200)
    height = torch.distributions.Normal(mean, sd).log_prob(z).exp()
    curve = Scatter(x=z.tolist(), y=height.tolist(), mode="lines", name="p(z), exact")
    curve.line = {"color": CHOSEN, "width": 2, "dash": "dot"}
    curve.hovertemplate = "%{x:.2f}: %{y:.3f}<extra>p(z), exact</extra>"
    return curve


def pair(both: Aggregate, dimensions: tuple[int, int]) -> "Figure":
    """Two dimensions of the draws, aggregate posterior at the left and prior at the right, on the same axes."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    groups = {"aggregate posterior q(z)": (both.q, OURS)}
    if both.p is not None:
        groups["draws of p(z)"] = (both.p, GREY)
    figure = make_subplots(1, len(groups), subplot_titles=[*groups], shared_yaxes=True)
    whole = torch.cat([z[:, list(dimensions)] for z, _ in groups.values()])
    left, right, bottom, top = extent_of(whole)
    for column, (name, (z, colour)) in enumerate(groups.items(), start=1):
        x, y = z[:, dimensions[0]].tolist(), z[:, dimensions[1]].tolist()
        dots = Scatter(x=x, y=y, mode="markers", name=name, showlegend=False)
        dots.marker = {"size": 4, "opacity": 0.6, "color": colour}
        dots.hovertemplate = "(%{x:.2f}, %{y:.2f})<extra></extra>"
        figure.add_trace(dots, row=1, col=column)
    figure.update_xaxes(title_text=f"z {dimensions[0]} (latent units)", range=[left, right])
    figure.update_yaxes(range=[bottom, top])
    figure.update_yaxes(title_text=f"z {dimensions[1]} (latent units)", col=1)
    figure.update_layout(height=HEIGHT, margin={"l": 10, "r": 10, "t": 30, "b": 10})
    return figure


def _points(points: Tensor, rows: Tensor, values: Tensor | None, name: str) -> Iterable[Any]:
    """A trace for every value where they are few, else one whose colours are a scale."""
    if values is None or len(np.unique(values.numpy())) > NAMED:
        yield _trace(points, rows, values, name)
        return
    for value, colour in label_colours(values).items():
        chosen = values == value
        dots = _trace(points[chosen], rows[chosen], None, f"{name} {value}")
        dots.marker.color = to_hex(colour)
        yield dots


def _trace(points: Tensor, rows: Tensor, values: Tensor | None, name: str) -> Any:
    from plotly.graph_objects import Scatter

    x, y = points.T.tolist()
    dots = Scatter(x=x, y=y, mode="markers", name=name, customdata=rows.tolist())
    dots.marker = {"size": 7, "opacity": 0.85, "color": OURS}
    told = "held-out sample %{customdata}"
    if values is not None:
        scale = {"color": values.tolist(), "colorscale": "Turbo"}
        dots.marker.update(colorbar={"title": {"text": name}}, **scale)
        told += f"<br>{name} %{{marker.color}}"
    dots.hovertemplate = told + f"<extra>{name if values is None else ''}</extra>"
    return dots


def _plane(figure: "Figure", axes: tuple[str, str]) -> None:
    figure.update_xaxes(title_text=axes[0], zeroline=False, constrain="domain")
    figure.update_yaxes(title_text=axes[1], zeroline=False, scaleanchor="x", constrain="domain")
    _legend(figure)


def _legend(figure: "Figure") -> None:
    """Above the plot, where it takes no width on a phone."""
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        clickmode="event+select",
    )
