"""What several models make of the same held-out data, and what they draw, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.evaluation.geometry_figures import strips
from src.evaluation.opened import OpenedRun, misfit
from src.evaluation.pose_drawings import CELL, draw_pose, finger_legend
from src.evaluation.poses import joint_errors
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

# Pictures, and poses, in a row.
IN_A_ROW, POSES = 10, 5
# Inches, of pictures side by side for many models, and of the frames of a sequence.
PICTURE_ROW, FRAME_ROW = 0.55, 1.05
Labelled = list[tuple[str, Tensor]]


@dataclass
class Shown:
    """Labelled rows of samples (S, *shape).

    Attributes:
        inches: the height of a row of pictures.
        remarks: a sentence on every model that is left out, or has no reconstructions or no samples.
    """

    inches: float
    reconstructions: Labelled = field(default_factory=list)
    samples: Labelled = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def can_be_seen(run: OpenedRun) -> bool:
    """Whether its data are pictures, sequences of them, or poses."""
    return run.is_pose or run.is_image or run.is_sequence


@torch.no_grad()
def side_by_side(runs: Mapping[str, OpenedRun], count: int) -> Shown:
    """What models make of the first one's held-out data, and what they draw.

    Args:
        runs: label → run.
        count: sequences, or rows of pictures or of poses, spread over the test split.

    Raises:
        UserError: the data are neither pictures nor sequences of them nor poses, or not on this machine.
    """
    first = next(iter(runs.values()))
    if not can_be_seen(first):
        raise UserError(
            f"samples of the shape {list(first.model.shape)} cannot be shown as pictures"
        )
    size = 1 if first.is_sequence else POSES if first.is_pose else IN_A_ROW
    x, labels, _ = first.held_out(count * size)
    shown = Shown(FRAME_ROW if first.is_sequence else PICTURE_ROW)
    runs = _fitting(shown, runs, first, labels)
    for number, rows in enumerate(torch.arange(len(x)).split(size), 1):
        shown.reconstructions.append((f"held out {number}", _frames(x[rows])))
        for label, run in runs.items():
            _reconstruct(shown, label, run, x[rows], None if labels is None else labels[rows])
    for label, run in runs.items():
        _draw(shown, label, run, size, count, labels)
    return shown


def _fitting(
    shown: Shown, runs: Mapping[str, OpenedRun], first: OpenedRun, labels: Tensor | None
) -> dict[str, OpenedRun]:
    """The runs whose models can be asked about the data of ``first``; of the others a remark."""
    reasons = {label: misfit(run, first, labels) for label, run in runs.items()}
    shown.remarks += [f"{label} is left out: {why}." for label, why in reasons.items() if why]
    return {label: run for label, run in runs.items() if not reasons[label]}


def _reconstruct(shown: Shown, label: str, run: OpenedRun, x: Tensor, c: Tensor | None) -> None:
    try:
        y = run.model.reconstruct(x, *_condition(run, c))
    except NotImplementedError as error:
        shown.remarks.append(f"{label} has no reconstructions: {error}")
        return
    told = f"{label}\n{_error(run, x, y)}"
    shown.reconstructions.append((told, _frames(y if run.is_pose else y.clamp(0, 1))))


def _error(run: OpenedRun, x: Tensor, y: Tensor) -> str:
    """How far the samples of one row are from their reconstructions."""
    if run.is_pose:
        return f"MPJRE {float(joint_errors(x, y).mean()):.3g}°"
    return f"MSE {float((x - y).square().mean()):.3g}"


def _draw(
    shown: Shown, label: str, run: OpenedRun, size: int, count: int, labels: Tensor | None
) -> None:
    if not run.model.can_sample:
        shown.remarks.append(f"{label} draws no samples: it has no prior, and no sampler is fitted")
        return
    conditional = run.model.latent.condition_key == "label" and labels is not None
    rows = labels.split(size) if conditional and labels is not None else [None] * count
    with isolated_rng(0):
        for c in rows:
            drawn = run.model.sample(size) if c is None else run.model.sample(len(c), c)
            shown.samples.append((label, _frames(drawn if run.is_pose else drawn.clamp(0, 1))))


def _condition(run: OpenedRun, c: Tensor | None) -> tuple[Tensor, ...]:
    return (c,) if c is not None and run.model.latent.condition_key == "label" else ()


def _frames(x: Tensor) -> Tensor:
    """A row of pictures: of the one sequence (1, T, C, H, W) its frames."""
    return x[0] if x.dim() == 5 else x


def figures(shown: Shown) -> Iterator[tuple[str, Figure]]:
    """``reconstructions`` and ``samples``, to be titled by the caller, where there are any."""
    for name in ("reconstructions", "samples"):
        labelled = [(label.replace("$", r"\$"), row) for label, row in getattr(shown, name)]
        if labelled:
            names, rows = zip(*labelled, strict=True)
            poses = rows[0].dim() == 3
            yield name, pose_rows(names, rows) if poses else strips(names, rows, shown.inches)


def pose_rows(labels: Sequence[str], rows: Sequence[Tensor]) -> Figure:
    """Rows of poses (S, 30, 3) with labels on their left."""
    columns = max(len(row) for row in rows)
    size = (CELL[0] * columns + 1.8, CELL[1] * len(rows) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, label, poses in zip(axes, labels, rows, strict=True):
        for ax, pose in zip(line, poses, strict=False):
            draw_pose(ax, pose)
        for ax in line[len(poses) :]:
            ax.set_axis_off()
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    finger_legend(figure)
    return figure
