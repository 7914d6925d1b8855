"""Samples as pictures inside of a page: data URIs that a browser shows without asking for a file."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from src.datamodules.hand_anatomy import BONES, FINGERS, positions
from src.evaluation.opened import OpenedRun
from src.evaluation.pose_drawings import ACROSS, ALONG, COLOURS, PALM, seen
from src.utils.pictures import pixels

# Of a drawing, units of its own a metre, and the width of a bar.
METRE, BAR = 1000, 4
GREY = "#8a93a3"


@dataclass(frozen=True)
class Inline:
    """A picture for a page.

    Attributes:
        uri: PNG or SVG.
        width, height: of one frame, pixels or units of a drawing.
        frames: how many lie side by side in it.
        drawn: whether it is a drawing, which may be scaled smoothly.
        alt: what it is, in words.
    """

    uri: str
    width: int
    height: int
    frames: int
    drawn: bool
    alt: str


def inline(opened: OpenedRun, x: Tensor) -> Inline:
    """One sample (*shape) of a run's kind of data: pictures, sequences, hands, or the numbers of anything else."""
    if opened.is_pose:
        width, height = (round(METRE * (high - low)) for low, high in (ACROSS, ALONG))
        told = "two hands, drawn as their bones"
        return Inline(_svg_uri(hands(x)), width, height, 1, True, told)
    if x.dim() not in (3, 4):
        values = x.flatten()
        return Inline(
            _svg_uri(bars(values)), BAR * len(values), 100, 1, True, f"{len(values)} numbers"
        )
    frames = x if x.dim() == 4 else x[None]
    sheet = np.concatenate([pixels(frame) for frame in frames.numpy()], 1)
    height, width = sheet.shape[0], sheet.shape[1] // len(frames)
    alt = f"picture of {width} × {height} pixels"
    if len(frames) > 1:
        alt = f"sequence of {len(frames)} frames of {width} × {height} pixels"
    return Inline(_png_uri(sheet), width, height, len(frames), False, alt)


def _png_uri(array: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    # The quickest compression: the picture goes no farther than to the browser, and is shown once.
    Image.fromarray(array).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def hands(pose: Tensor) -> str:
    """Both hands of a pose (30, 3) in radians as an SVG, as ``pose_drawings`` has them."""
    points = seen(positions(pose[None].double().numpy()))[0]
    # The page's second axis points downwards.
    page = (points - [ACROSS[0], ALONG[1]]) * [METRE, -METRE]
    width, height = (METRE * (high - low) for low, high in (ACROSS, ALONG))
    body = "".join(_hand(hand) for hand in page)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">{body}</svg>'


def _hand(points: np.ndarray) -> str:
    """One hand, (21, 2) in units of the drawing."""
    palm = " ".join(f"{x:.1f},{y:.1f}" for x, y in points[PALM])
    sticks = [f'<polygon points="{palm}" fill="{GREY}" fill-opacity=".25"/>']
    for number, (start, end) in enumerate(BONES):
        # From the wrist to a knuckle there is palm.
        colour = GREY if start == 0 else COLOURS[FINGERS[number // 4]]
        (x1, y1), (x2, y2) = points[start], points[end]
        sticks.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="3.5" '
            'stroke-linecap="round"/>'
        )
    return "".join(sticks)


def bars(values: Tensor) -> str:
    """Numbers (N,) as bars from 0 in an SVG, on a scale from the largest to its negative."""
    largest = max(float(values.abs().max()), 1e-9)
    found = []
    for i, value in enumerate((values / largest).tolist()):
        top, height = 50 - 48 * max(value, 0), max(abs(48 * value), 0.3)
        found.append(
            f'<rect x="{BAR * i}" y="{top:.2f}" width="{BAR - 1}" height="{height:.2f}" fill="#2563eb"/>'
        )
    size = f"0 0 {BAR * len(values)} 100"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}">{"".join(found)}</svg>'
