"""Many samples in the cells of one plotly figure: pictures as pixels, hands and vectors as lines.

Letters: R rows, C columns, S sample shape.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from src.datamodules.hand_anatomy import BONES, FINGERS, positions
from src.evaluation.animations import data_uri
from src.evaluation.figures import MUTED, OURS
from src.evaluation.pose_drawings import ACROSS, ALONG, COLOURS, seen

if TYPE_CHECKING:  # plotly takes a second to import
    from plotly.graph_objects import Figure

# Pixels that a cell takes on the screen, at least and at most, and what all cells of a row may take.
SMALLEST, LARGEST, ROW = 22, 88, 1000
GAP = 0.5  # grey level between pictures
FINE = 32  # pixels of a picture that a line between two takes one of

# Metres across and along that a pose is shown in.
HANDS = (ACROSS[1] - ACROSS[0], ALONG[1] - ALONG[0])


def plate(
    samples: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    pose: bool = False,
    titles: tuple[str, str] = ("", ""),
    largest: int = LARGEST,
) -> "Figure":
    """Samples (R, C, *S) in a grid.

    Args:
        samples: pictures (C, H, W) in [0, 1], poses (30, 3), or vectors.
        rows, columns: what is written beside and below them.
        pose: whether samples are poses.
        titles: of the columns' and the rows' axis.
        largest: pixels that a cell takes at most.
    """
    from plotly.graph_objects import Figure

    if pose:
        # Two hands in a cell.
        traces, cell, largest = _hands(samples), HANDS, round(1.4 * largest)
    elif samples.dim() == 5:
        traces, cell = [_pixels(samples)], _picture_cell(samples)
    else:
        traces, cell = [_lines(samples)], (1.0, 1.0)
    figure = Figure(traces)
    _axes(figure, cell, rows, columns, titles)
    wide = max(SMALLEST, min(largest, ROW / len(columns)))
    tall = wide * cell[1] / cell[0]
    width = 70 if any(rows) else 20
    figure.update_layout(
        width=round(width + 20 + wide * len(columns)),
        height=round(tall * len(rows) + 30 + (30 if any(columns) else 0) + 30 * bool(titles[0])),
        margin={"l": width, "r": 10, "t": 10, "b": 10},
        showlegend=False,
    )
    return figure


def clickable(figure: "Figure", values: Tensor, names: tuple[str, str]) -> None:
    """Let every cell of a plate be chosen by a click, which tells its pair of ``values`` (R, C, 2)."""
    from plotly.graph_objects import Scatter

    across, down = figure.layout.xaxis.tickvals, figure.layout.yaxis.tickvals
    x, y = np.meshgrid(np.array(across), np.array(down))
    unseen = {"marker": {"opacity": 0}}
    figure.add_trace(
        Scatter(
            x=x.ravel(),
            y=y.ravel(),
            mode="markers",
            customdata=values.reshape(-1, 2).numpy(),
            marker={"opacity": 0, "size": 14},
            selected=unseen,
            unselected=unseen,
            hovertemplate=f"{names[0]} = %{{customdata[0]:+.2f}}, {names[1]} = %{{customdata[1]:+.2f}}<extra></extra>",
        )
    )


def mosaic(samples: Tensor) -> Tensor:
    """Pictures (R, C, channels, H, W) as one, with a grey line between them; small ones have larger pixels."""
    larger, gap = _grain(samples.shape[-1])
    samples = samples.repeat_interleave(larger, -1).repeat_interleave(larger, -2)
    padded = torch.nn.functional.pad(samples.clamp(0, 1), (0, gap, 0, gap), value=GAP)
    rows, columns, channels, height, width = padded.shape
    whole = padded.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)
    return whole[:, :-gap, :-gap]


def _picture_cell(samples: Tensor) -> tuple[float, float]:
    height, width = samples.shape[-2:]
    larger, gap = _grain(width)
    return float(width * larger + gap), float(height * larger + gap)


def _grain(width: int) -> tuple[int, int]:
    """For pictures of ``width`` pixels: the side of a square that shows one of them, and the line between pictures."""
    larger = max(1, FINE // width)
    return larger, max(1, width * larger // FINE)


def _pixels(samples: Tensor) -> Any:
    from plotly.graph_objects import Image

    return Image(source=data_uri(mosaic(samples)), zsmooth=False, hoverinfo="skip")


def _axes(
    figure: "Figure",
    cell: tuple[float, float],
    rows: Sequence[str],
    columns: Sequence[str],
    titles: tuple[str, str],
) -> None:
    """Cells from the upper left, y downwards; a word at the middle of each row and column."""
    plain = {"showgrid": False, "zeroline": False, "constrain": "domain", "ticks": ""}
    for update, size, words, title, upside in (
        (figure.update_xaxes, cell[0], columns, titles[0], 1),
        (figure.update_yaxes, cell[1], rows, titles[1], -1),
    ):
        places = [(i + 0.5) * size - 0.5 for i in range(len(words))]
        ends = [-0.5, len(words) * size - 0.5][::upside]
        update(tickvals=places, ticktext=list(words), range=ends, title_text=title, **plain)
    figure.update_xaxes(tickangle=0)
    figure.update_yaxes(scaleanchor="x", constraintoward="top")


def _placed(lines: np.ndarray, columns: int, cell: tuple[float, float]) -> Any:
    """Lines (R·C, L, P, 2), y upwards in a cell from 0, as x and y of one trace, broken between lines."""
    number = np.arange(len(lines))
    corner = np.stack([number % columns * cell[0], number // columns * cell[1]], -1)[:, None, None]
    turned = np.stack([lines[..., 0], cell[1] - lines[..., 1]], -1) + corner - 0.5
    broken = np.concatenate([turned, np.full_like(turned[:, :, :1], np.nan)], 2)
    return broken.reshape(-1, 2).T


def _hands(samples: Tensor) -> list[Any]:
    """A trace for the palms and one for each finger, of poses (R, C, 30, 3)."""
    from plotly.graph_objects import Scatter

    points = seen(positions(samples.flatten(0, 1).numpy())) - np.array([ACROSS[0], ALONG[0]])
    sticks = points[:, :, np.array(BONES)]  # (R·C, 2 hands, bones, 2 ends, 2)
    palm = [number for number, (start, _) in enumerate(BONES) if start == 0]
    groups = {"palm": (MUTED, palm)}
    for finger, colour in COLOURS.items():
        first = 4 * FINGERS.index(finger)
        groups[finger] = (colour, [n for n in range(first, first + 4) if n not in palm])
    traces = []
    for name, (colour, chosen) in groups.items():
        lines = sticks[:, :, chosen].reshape(len(points), -1, 2, 2)
        x, y = _placed(lines, samples.shape[1], HANDS)
        drawn = {"color": colour, "width": 2}
        traces.append(Scatter(x=x, y=y, mode="lines", line=drawn, name=name, hoverinfo="skip"))
    return traces


def _lines(samples: Tensor) -> Any:
    """Vectors (R, C, …) as lines, all on one scale."""
    from plotly.graph_objects import Scatter

    values = samples.flatten(2).flatten(0, 1).numpy()
    low, high = values.min(), values.max()
    up = 0.05 + 0.9 * (values - low) / max(high - low, 1e-12)
    across = np.broadcast_to(np.linspace(0.05, 0.95, values.shape[1]), up.shape)
    x, y = _placed(np.stack([across, up], -1)[:, None], samples.shape[1], (1.0, 1.0))
    return Scatter(x=x, y=y, mode="lines", line={"color": OURS, "width": 1}, hoverinfo="skip")
