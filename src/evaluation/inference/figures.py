"""What is drawn of one sample and its reconstruction; B is 1, everything is on the CPU, nothing is saved here."""

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.datamodules.hand_anatomy import JOINTS, SIDES
from src.evaluation.animations import FRAME_MS
from src.evaluation.figures import MUTED, OURS
from src.evaluation.inference.infer import Inference, dimensions
from src.evaluation.pose_drawings import draw_pose, finger_legend
from src.utils.pictures import pixels

if TYPE_CHECKING:  # plotly takes a second to import
    from plotly.graph_objects import Figure as Chart

# Pixels of a picture's longer side on the page, at least.
SIDE = 384
# Pixels of data between two pictures of a film.
GAP = 2
# Dimensions in a bar chart.
BARS = 64
# Of the right hand, to be seen on a light page and on a dark one.
RIGHT = "#ea580c"
# The least error that an error map's colours end at, so that rounding does not look like an error.
DARKEST = 1e-3


def picture(x: Tensor) -> np.ndarray:
    """(C, H, W) in [0, 1] → (h, w, 3) uint8, every pixel a square; channels that are no colours lie side by side."""
    array = pixels(x.numpy())
    if array.ndim == 2:
        array = np.stack([array] * 3, -1)
    factor = max(1, round(SIDE / max(array.shape[:2])))
    return array.repeat(factor, 0).repeat(factor, 1)


def png(figure: Figure) -> bytes:
    """A figure as a picture, to its very edges."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def error_map(x: Tensor, y: Tensor) -> Figure:
    """|x − y| of pictures (C, H, W), the mean over channels, as wide as the pictures beside it, with its scale."""
    error = (x - y).abs().mean(0).numpy()
    height, width = error.shape
    inches, bar = 4.0, 0.62
    figure = Figure(figsize=(inches, inches * height / width + bar))
    top = bar / figure.get_figheight()
    ax = figure.add_axes((0, top, 1, 1 - top))
    image = ax.imshow(
        error, cmap="magma", vmin=0, vmax=max(float(error.max()), DARKEST), interpolation="nearest"
    )
    ax.set_axis_off()
    scale = figure.add_axes((0.06, top * 0.72, 0.88, top * 0.18))
    figure.colorbar(image, cax=scale, orientation="horizontal", label="|x − x̂| (intensity)")
    return figure


def film(x: Tensor, y: Tensor) -> bytes:
    """Sequences (T, C, H, W) beside each other, as an animated GIF that repeats itself."""
    from PIL import Image

    pairs = (
        torch.cat([a, torch.ones_like(a[..., :GAP]), b], -1) for a, b in zip(x, y, strict=True)
    )
    first, *others = [Image.fromarray(picture(pair)) for pair in pairs]
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    return stream.getvalue()


def hands(x: Tensor, y: Tensor) -> Figure:
    """A pose (30, 3), and below it its reconstruction over the pose in grey."""
    figure = Figure(figsize=(5, 7), layout="constrained")
    above, below = figure.subplots(2, 1)
    draw_pose(above, x)
    draw_pose(below, y, behind=x)
    above.set_title("sample x", fontsize=10)
    below.set_title("reconstruction x̂, over the sample in grey", fontsize=10)
    finger_legend(figure)
    return figure


def posterior(found: Inference) -> "Chart":
    """Means ± standard deviations of the dimensions, those of the largest KL, else of the largest |mean|, first."""
    from plotly.graph_objects import Bar
    from plotly.graph_objects import Figure as Chart

    order = by_information(found)[:BARS]
    names, mean = dimensions(found.mean), found.mean.flatten(1)[0]
    bars = Bar(x=[f"z[{names[i]}]" for i in order], y=mean[order].tolist(), marker_color=OURS)
    told = "μ"
    if found.sigma is not None:
        spread = found.sigma.flatten(1)[0][order].tolist()
        bars.error_y = {"type": "data", "array": spread, "color": MUTED}
        told = "μ ± σ"
    figure = Chart(bars)
    sorted_by = "KL" if found.kl is not None else "|μ|"
    shown = "" if len(order) == len(names) else f", the first {len(order)} of {len(names)}"
    figure.update_xaxes(title_text=f"latent dimension, largest {sorted_by} first{shown}")
    figure.update_yaxes(title_text=told)
    figure.update_layout(height=320, margin={"t": 10, "b": 10, "l": 10, "r": 10})
    return figure


def by_information(found: Inference) -> list[int]:
    """The dimensions, those first that say most of this sample."""
    weight = found.mean.abs() if found.kl is None else found.kl
    return weight.flatten(1)[0].argsort(descending=True).tolist()


def joint_chart(values: Tensor, title: str) -> "Chart":
    """One number a joint, (30,), both hands beside each other."""
    from plotly.graph_objects import Bar
    from plotly.graph_objects import Figure as Chart

    figure = Chart()
    for side, row, colour in zip(SIDES, values.view(2, -1), (OURS, RIGHT), strict=True):
        figure.add_trace(Bar(x=list(JOINTS), y=row.tolist(), name=side, marker_color=colour))
    figure.update_yaxes(title_text=title)
    figure.update_xaxes(title_text="joint")
    figure.update_layout(
        height=300,
        margin={"t": 40, "b": 10, "l": 10, "r": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        barmode="group",
    )
    return figure
