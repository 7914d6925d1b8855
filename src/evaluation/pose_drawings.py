"""Hands drawn as sticks: figures of poses (N, 30, 3) in radians on the CPU. Nothing is saved here.

The hand is the synthetic one of ``hand_anatomy``, seen from above, a little from behind and outside, both palms down.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from src.datamodules.hand_anatomy import BONES, FINGERS, positions
from src.evaluation.figures import MUTED, ORIGINAL

COLOURS = dict(zip(FINGERS, ("#2563eb", "#0d9488", "#a21caf", "#ea580c", "#b45309"), strict=True))
# What the eye is off the plumb line, backwards and to the side of the little finger: bent fingers show their bend.
TILT, ROLL = np.deg2rad(20), np.deg2rad(-20)
# Metres between the wrists, and what the axes of two hands show, from the palms down to the fingertips.
APART = 0.19
ACROSS, ALONG = (-0.185, 0.185), (-0.035, 0.185)
# Points of the outline of a palm: the wrist and the knuckles from the thumb to the little finger.
PALM = [0, 17, 1, 5, 13, 9, 0]
CELL = (1.9, 1.18)


def seen(points: np.ndarray) -> np.ndarray:
    """Points of both hands (N, 2, 21, 3) in metres on the page, (N, 2, 21, 2): left hand at the left, fingers up."""
    x, y, z = np.moveaxis(points, -1, 0)
    # Half a turn about the plumb line brings the left hand's fingers up too.
    side = np.array([1.0, -1.0])[:, None]
    across = side * (z * np.cos(ROLL) + y * np.sin(ROLL))
    height = y * np.cos(ROLL) - z * np.sin(ROLL)
    up = side * x * np.cos(TILT) + height * np.sin(TILT)
    return np.stack([across - side * APART / 2, up], -1)


def draw_hand(ax: Axes, points: np.ndarray, colour: str | None = None, width: float = 1.8) -> None:
    """The sticks of one hand on the page, (21, 2) as ``seen`` gives them; a colour a finger where none is given."""
    if colour is None:
        ax.fill(*points[PALM].T, color=MUTED, alpha=0.25, lw=0)
    # From the wrist to a knuckle there is palm.
    shades = [
        colour or (MUTED if start == 0 else COLOURS[FINGERS[number // 4]])
        for number, (start, _) in enumerate(BONES)
    ]
    sticks = points[np.array(BONES)]
    ax.add_collection(LineCollection(sticks, colors=shades, lw=width, capstyle="round"))


def draw_pose(ax: Axes, pose: Tensor, behind: Tensor | None = None) -> None:
    """Both hands of a pose (30, 3); another one may lie behind it in grey."""
    if behind is not None:
        for hand in seen(positions(behind[None].numpy()))[0]:
            draw_hand(ax, hand, ORIGINAL, 1.0)
    for hand in seen(positions(pose[None].numpy()))[0]:
        draw_hand(ax, hand)
    ax.set(xlim=ACROSS, ylim=ALONG, aspect="equal", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def finger_legend(figure: Figure) -> None:
    """The colours of the fingers, below everything."""
    handles = [Line2D([], [], color=colour, lw=2, label=name) for name, colour in COLOURS.items()]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize="small"
    )


def sheet(poses: Tensor, title: str, columns: int = 6) -> Figure:
    """A page of poses, (N, 30, 3)."""
    rows = -(-len(poses) // columns)
    size = (CELL[0] * columns, CELL[1] * rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax, pose in zip(axes, poses, strict=False):
        draw_pose(ax, pose)
    for ax in list(axes)[len(poses) :]:
        ax.remove()
    finger_legend(figure)
    figure.suptitle(title)
    return figure


def reconstructions(x: Tensor, y: Tensor, errors: Tensor) -> Figure:
    """Poses x and their reconstructions y (N, 30, 3), over the pose in grey, with their errors (N,) in degrees."""
    figure = Figure(figsize=(CELL[0] * len(x) + 0.9, 2 * CELL[1] + 1.1), layout="constrained")
    axes = figure.subplots(2, len(x), squeeze=False)
    for column, (pose, rebuilt) in enumerate(zip(x, y, strict=True)):
        draw_pose(axes[0, column], pose)
        draw_pose(axes[1, column], rebuilt, behind=pose)
        axes[1, column].set_xlabel(f"{float(errors[column]):.2f}°")
    for ax, label in zip(axes[:, 0], ("original", "reconstruction"), strict=True):
        ax.set_ylabel(label)
    finger_legend(figure)
    figure.suptitle("Reconstructions of held-out poses over the originals in grey, and their MPJRE")
    return figure


def traversals(
    poses: Tensor,
    values: Tensor,
    dimensions: Sequence[int],
    information: Tensor,
    unit: str = "nats",
) -> Figure:
    """One row a latent dimension, one column a value of it, around one held-out pose.

    Args:
        poses: (rows, columns, 30, 3).
        values: (columns,) of z.
        dimensions: which dimension a row moves.
        information: (D,) of every dimension in ``unit``, told beside each row.
    """
    rows, columns = poses.shape[:2]
    size = (CELL[0] * columns + 1.3, CELL[1] * rows + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for r, row in enumerate(poses):
        for ax, pose in zip(axes[r], row, strict=True):
            draw_pose(ax, pose)
        told = f"z[{dimensions[r]}]\n{float(information[dimensions[r]]):.2g} {unit}"
        axes[r, 0].set_ylabel(told, rotation=0, ha="right", va="center", fontsize=9)
    for ax, value in zip(axes[-1], values, strict=True):
        ax.set_xlabel(f"{float(value):+.2g}")
    finger_legend(figure)
    figure.suptitle("Traversals: one dimension at a time, most informative first; its value below")
    return figure
