"""Completed poses beside what was known of them, drawn as sticks. Nothing is saved here."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from src.datamodules.hand_anatomy import FINGERS, positions
from src.evaluation.figures import MUTED
from src.evaluation.pose_drawings import (
    ACROSS,
    ALONG,
    CELL,
    COLOURS,
    draw_pose,
    finger_legend,
    seen,
)

LABEL = {"ha": "right", "va": "center", "rotation": 0, "fontsize": "small"}


def completions(
    truth: Tensor, given: Tensor, hidden: Tensor, found: Mapping[str, Tensor], title: str
) -> Figure:
    """One column a pose: the truth, what is given of it, and what every method makes of that, over the truth in grey.

    Args:
        truth, given: (N, 30, 3) in radians on the CPU.
        hidden: (N, 30) bool, joints of ``given`` that nobody looks at.
        found: method → (N, 30, 3).
        title: of the figure.
    """
    rows, columns = 2 + len(found), len(truth)
    size = (CELL[0] * columns + 1.6, CELL[1] * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for i in range(columns):
        draw_pose(axes[0, i], truth[i])
        _draw_known(axes[1, i], given[i], hidden[i])
        for ax, poses in zip(axes[2:, i], found.values(), strict=True):
            draw_pose(ax, poses[i], behind=truth[i])
    for ax, name in zip(axes[:, 0], ("truth", "what is known", *found), strict=True):
        ax.set_ylabel(name, **LABEL)
    finger_legend(figure)
    figure.suptitle(title)
    return figure


def _draw_known(ax: Axes, pose: Tensor, hidden: Tensor) -> None:
    """A pose without the bones that a hidden joint moves."""
    ax.set(xlim=ACROSS, ylim=ALONG, aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    for side, hand in enumerate(seen(positions(pose[None].numpy()))[0]):
        for number, finger in enumerate(FINGERS):
            first = 15 * side + 3 * number
            for bone in range(3):
                if hidden[first : first + bone + 1].any():
                    break
                start = 1 + 4 * number + bone
                ax.plot(*hand[[start, start + 1]].T, color=COLOURS[finger], lw=1.8)
            ax.plot(*hand[[0, 1 + 4 * number]].T, color=MUTED, lw=1.0)
