"""Moving figures as web pages that work without a network: plotly figures, and how they are saved.

z are latent trajectories (N, T, D), ``half_logdet_inverse`` is z (M, D) → ½ logdet G⁻¹(z), (M,) nats.
"""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from torch import Tensor

from src.evaluation.figures import MUTED, ORIGINAL, OURS
from src.evaluation.geometry_figures import (
    MAGNIFICATION,
    HalfLogdet,
    Plane,
    extent_of,
    magnification,
    magnification_grid,
)
from src.runs.record import write_atomic
from src.utils.charts import CHART
from src.utils.pictures import pixels

if TYPE_CHECKING:  # plotly takes a second to import, and most runs draw no animation
    from plotly.graph_objects import Figure

SEQUENCES = 6
PICTURE_BYTES = 1_500_000  # of base64 in one page; sequences after the first are left out beyond it
PATHS = 8
POINTS = 300  # of the metric slider
MAPS = 40  # time steps of the slider at most
CELLS = 60  # of a map's longer side
FRAME_MS = 350
PLOTLY_JS = "plotly.min.js"


def sequence_animation(x: Tensor, y: Tensor) -> "Figure":
    """Originals and reconstructions, (N, T, C, H, W) in [0, 1], played side by side; a menu chooses the sequence.

    The first sequences are shown, as many as a page of two megabytes holds.
    """
    from plotly.graph_objects import Image
    from plotly.subplots import make_subplots

    pictures = _encoded(x, y)
    figure = make_subplots(
        1, 2, subplot_titles=("original", "reconstruction"), horizontal_spacing=0.04
    )
    for i, pair in enumerate(pictures):
        for column, sources in enumerate(pair, start=1):
            image = Image(source=sources[0], visible=i == 0, hoverinfo="skip")
            figure.add_trace(image, row=1, col=column)
    # Every frame holds all sequences: the menu only shows others, so that playing goes on from where it is.
    figure.frames = [
        _frame(
            t, 0, [{"type": "image", "source": sources[t]} for pair in pictures for sources in pair]
        )
        for t in range(x.shape[1])
    ]
    height, width = x.shape[-2:]
    _style(figure, width=820, height=270 + round(360 * height / width))
    figure.update_layout(margin_t=110)
    _controls(figure, [str(t) for t in range(x.shape[1])])
    for axes in (figure.update_xaxes, figure.update_yaxes):
        axes(visible=False, constrain="domain")
    titles = [
        f"Sequence {i} of {len(x)}: MSE {float((a - b).square().mean()):.4f}, MAE {float((a - b).abs().mean()):.4f}"
        for i, (a, b) in enumerate(zip(x[: len(pictures)], y, strict=False))
    ]
    _menu(figure, titles)
    return figure


def trajectory_animation(z: Tensor, half_logdet_inverse: HalfLogdet) -> "Figure":
    """The first latent trajectories growing over time above the map of log₁₀ √det G through their mean."""
    from plotly.graph_objects import Figure, Scatter

    plane = Plane.of(z.flatten(0, 1))
    p, few = plane.project(z), min(PATHS, len(z))
    extent = extent_of(p[:few])
    columns, rows, values = magnification_grid(plane, extent, half_logdet_inverse, CELLS)
    figure = Figure(heatmap(columns, rows, values, float(values.min()), float(values.max())))
    frames = [[_path_until(path, t) for path in p[:few]] for t in range(z.shape[1])]
    for i, start in enumerate(frames[0]):
        colour = to_hex(colormaps["Set3"](i % 12))  # light, to be seen on the map's dark regions
        path = Scatter(start, mode="lines+markers", name=f"sequence {i}", showlegend=False)
        path.line = {"color": colour, "width": 2}
        path.marker.update(color=colour, opacity=1, line={"color": ORIGINAL, "width": 1})
        figure.add_trace(path)
    figure.frames = [_frame(t, 1, paths) for t, paths in enumerate(frames)]
    _plane_axes(figure, plane, extent)
    _controls(figure, [str(t) for t in range(z.shape[1])])
    lengths = (z[:, 1:] - z[:, :-1]).norm(dim=-1).sum(1)
    figure.update_layout(
        title_text=f"{few} of {len(z)} trajectories, mean length {float(lengths.mean()):.2f} latent units; "
        f"the plane shows {float(plane.explained.sum()):.0%} of the variance"
    )
    return figure


def metric_slider(z: Tensor, half_logdet_inverse: HalfLogdet) -> "Figure":
    """log₁₀ √det G on the plane through each time step's mean, with the first codes of that step.

    A point is filled with the value at its own code, which lies beside the plane by what the plane does not show.
    """
    from plotly.graph_objects import Figure, Scatter

    z = z[:POINTS]
    plane = Plane.of(z.flatten(0, 1))
    steps = np.linspace(0, z.shape[1] - 1, min(MAPS, z.shape[1])).round().astype(int).tolist()
    points, own = plane.project(z), magnification(z, half_logdet_inverse)
    extent = extent_of(points)
    grids = [
        magnification_grid(plane.through(z[:, t].mean(0)), extent, half_logdet_inverse, CELLS)
        for t in steps
    ]
    maps = torch.stack([values for _, _, values in grids])
    low, high = float(min(maps.min(), own.min())), float(max(maps.max(), own.max()))
    columns, rows, _ = grids[0]
    figure = Figure(heatmap(columns, rows, maps[0], low, high))
    scale = {"colorscale": "Viridis", "cmin": low, "cmax": high}
    codes = Scatter(
        _codes(points[:, 0], own[:, 0]),
        mode="markers",
        hovertemplate=f"sequence %{{pointNumber}}: {MAGNIFICATION} %{{marker.color:.2f}}<extra></extra>",
        showlegend=False,
    )
    codes.marker.update(size=8, line={"color": "white", "width": 1}, **scale)
    figure.add_trace(codes)
    titles = [_metric_title(t, own[:, t], own[:, 0]) for t in steps]
    figure.frames = [
        _frame(t, 0, [{"type": "heatmap", "z": values.numpy()}, _codes(points[:, t], own[:, t])])
        | {"layout": {"title": {"text": title}}}
        for t, values, title in zip(steps, maps, titles, strict=True)
    ]
    _plane_axes(figure, plane, extent)
    _controls(figure, [str(t) for t in steps])
    figure.update_layout(title_text=titles[0])
    return figure


def save_html(figure: "Figure", path: Path) -> None:
    """Write a page that loads nothing from a network; plotly.js lies beside it, once for all pages of a folder."""
    from plotly.offline import get_plotlyjs

    path = Path(path)
    script = path.with_name(PLOTLY_JS)
    if not script.exists():
        write_atomic(script, get_plotlyjs())
    page = figure.to_html(include_plotlyjs="directory", auto_play=False, config=CHART)
    write_atomic(path, page)


def _metric_title(t: int, values: Tensor, first: Tensor) -> str:
    median, since = float(np.median(values)), float(np.median(values) - np.median(first))
    return f"t = {t}: median {MAGNIFICATION} at the codes {median:.2f} ({since:+.2f} since t = 0)"


def _frame(t: int, first: int, data: list[dict[str, Any]]) -> dict[str, Any]:
    """A frame that changes the traces from number ``first`` on."""
    return {"name": str(t), "data": data, "traces": list(range(first, first + len(data)))}


def _path_until(path: Tensor, t: int) -> dict[str, Any]:
    """A trajectory (T, 2) up to frame t, with a large point where it is."""
    x, y = path[: t + 1].T.numpy()
    return {"type": "scatter", "x": x, "y": y, "marker": {"size": [4] * t + [11]}}


def _codes(points: Tensor, values: Tensor) -> dict[str, Any]:
    """Points (N, 2) and the values (N,) that they are coloured by."""
    x, y = points.T.numpy()
    return {"type": "scatter", "x": x, "y": y, "marker": {"color": values.numpy()}}


def _encoded(x: Tensor, y: Tensor) -> list[tuple[list[str], list[str]]]:
    """Originals and reconstructions of the first sequences as data URIs, as many as ``PICTURE_BYTES`` hold."""
    found: list[tuple[list[str], list[str]]] = []
    held = 0
    for a, b in zip(x[:SEQUENCES], y, strict=False):
        pair = [data_uri(picture) for picture in a], [data_uri(picture) for picture in b]
        # The page holds the first frames twice: as the figure and as its first animation frame.
        held += sum(len(source) for sources in pair for source in [*sources, sources[0]])
        if found and held > PICTURE_BYTES:
            break
        found.append(pair)
    return found


def data_uri(picture: Tensor) -> str:
    """A picture (C, H, W) in [0, 1] as a PNG in a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels(picture.numpy())).convert("RGB").save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def heatmap(columns: Tensor, rows: Tensor, values: Tensor, low: float, high: float) -> Any:
    """The trace of a map of log₁₀ √det G, as ``magnification_grid`` gives it, on colours from ``low`` to ``high``."""
    from plotly.graph_objects import Heatmap

    return Heatmap(
        x=columns.numpy(),
        y=rows.numpy(),
        z=values.numpy(),
        zmin=low,
        zmax=high,
        zsmooth="best",
        colorscale="Viridis",
        colorbar={"title": {"text": f"{MAGNIFICATION} (decades)", "side": "right"}, "len": 1},
        hovertemplate=f"PC 1 %{{x:.2f}}, PC 2 %{{y:.2f}}: %{{z:.2f}}<extra>{MAGNIFICATION}</extra>",
    )


def _plane_axes(figure: "Figure", plane: Plane, extent: tuple[float, float, float, float]) -> None:
    left, right, bottom, top = extent
    first, second = plane.axis_labels()
    plain = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(title_text=first, range=[left, right], constrain="domain", **plain)
    figure.update_yaxes(
        title_text=second, range=[bottom, top], scaleanchor="x", constrain="domain", **plain
    )
    _style(figure, width=820, height=270 + round(560 * min(1.2, (top - bottom) / (right - left))))


def _style(figure: "Figure", width: int, height: int) -> None:
    figure.update_layout(
        template="plotly_white",
        width=width,
        height=height,
        margin={"l": 60, "r": 30, "t": 80, "b": 140},
        font={"color": ORIGINAL},
        title={"font": {"size": 15}, "x": 0.02},
    )


def _controls(figure: "Figure", names: list[str]) -> None:
    """Play, pause and a slider over the frames."""

    def move(target: list[str | None] | None, duration: int) -> list[Any]:
        return [
            target,
            {
                "mode": "immediate",
                "fromcurrent": True,
                # Without redrawing, plotly.js moves points only and drops pictures and maps.
                "frame": {"duration": duration, "redraw": True},
                "transition": {"duration": 0},
            },
        ]

    buttons = [
        {"label": "▶ play", "method": "animate", "args": move(None, FRAME_MS)},
        {"label": "❚❚ pause", "method": "animate", "args": move([None], 0)},
    ]
    play = {
        "type": "buttons",
        "direction": "left",
        "buttons": buttons,
        "showactive": False,
        "x": 0,
        "y": 0,
        "xanchor": "left",
        "yanchor": "top",
        "pad": {"t": 72},
    }
    slider = {
        "steps": [{"label": name, "method": "animate", "args": move([name], 0)} for name in names],
        "currentvalue": {"prefix": "frame t = "},
        "activebgcolor": OURS,
        "bgcolor": MUTED,
        "x": 0.25,
        "len": 0.75,
        "y": 0,
        "pad": {"t": 50},
    }
    figure.update_layout(updatemenus=[play], sliders=[slider])


def _menu(figure: "Figure", titles: list[str]) -> None:
    """A menu that shows one pair of pictures, with its title."""
    buttons = [
        {
            "label": f"sequence {i}",
            "method": "update",
            "args": [
                {"visible": [j // 2 == i for j in range(2 * len(titles))]},
                {"title.text": title},
            ],
        }
        for i, title in enumerate(titles)
    ]
    menu = {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.06, "yanchor": "bottom"}
    figure.update_layout(
        title_text=titles[0], updatemenus=[*figure.layout.updatemenus, menu] if titles else None
    )
