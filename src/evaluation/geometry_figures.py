"""Figures of a latent metric G(z) on a plane through the codes; CPU tensors and callables in, figures out.

``half_logdet_inverse`` is z (M, D) → ½ logdet G⁻¹(z), (M,) nats. What is drawn is log₁₀ √det G, the decades by
which the metric magnifies latent volume: a determinant itself leaves the range of floats long before.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogFormatter, MaxNLocator
from torch import Tensor

from src.evaluation.figures import MUTED, ORIGINAL, OURS

HalfLogdet = Callable[[Tensor], Tensor]
Extent = tuple[float, float, float, float]

CELLS = 80  # of a map's longer side
BATCH = 4096  # points whose D × D matrices are in memory together
COLOURS = "viridis"
MAGNIFICATION = "log₁₀ √det G"


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane in latent space with orthonormal coordinates.

    Attributes:
        origin: (D,) the point of coordinates (0, 0).
        axes: (2, D) orthonormal directions.
        explained: (2,) share of the codes' variance along each; 0 where the codes do not vary.
    """

    origin: Tensor
    axes: Tensor
    explained: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> "Plane":
        """The plane through the mean of ``codes`` (N, D) along their first two principal components.

        Raises:
            ValueError: the codes have fewer than two dimensions.
        """
        if codes.shape[-1] < 2:
            raise ValueError(
                f"a plane needs codes of at least 2 dimensions, and these have {codes.shape[-1]}"
            )
        origin = codes.mean(0)
        centred = (codes - origin).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred)
        variances, axes = values.flip(0).clamp(min=0), vectors.T.flip(0)[:2]
        # An eigenvector's sign is arbitrary: fixed, so that two figures of a model can be laid side by side.
        signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
        explained = variances[:2] / variances.sum().clamp(min=torch.finfo(torch.double).tiny)
        return cls(origin, (axes * signs).to(codes), explained.to(codes))

    def through(self, point: Tensor) -> "Plane":
        """The parallel plane through ``point`` (D,); every z has the same coordinates in both."""
        return replace(self, origin=self.origin + point - self.lift(self.project(point)))

    def project(self, z: Tensor) -> Tensor:
        """Coordinates of the nearest points of the plane, (..., D) → (..., 2)."""
        return (z - self.origin) @ self.axes.T

    def lift(self, p: Tensor) -> Tensor:
        """The latent points of coordinates p, (..., 2) → (..., D)."""
        return self.origin + p @ self.axes

    def axis_labels(self) -> tuple[str, str]:
        """What a figure writes beside the two axes."""
        first, second = (
            f"PC {i} ({float(share):.0%} of variance)"
            for i, share in enumerate(self.explained, start=1)
        )
        return first, second


def extent_of(points: Tensor) -> Extent:
    """(left, right, bottom, top) around points (..., 2) with a margin, never thinner than 2:1 or empty."""
    flat = points.reshape(-1, 2)
    low, high = flat.amin(0), flat.amax(0)
    span = high - low
    span = span.clamp(min=float(span.max()) / 2)
    half = torch.where(span > 0, 0.58 * span, torch.ones_like(span))
    middle = (low + high) / 2
    (left, bottom), (right, top) = (middle - half).tolist(), (middle + half).tolist()
    return left, right, bottom, top


@torch.no_grad()
def magnification(z: Tensor, half_logdet_inverse: HalfLogdet) -> Tensor:
    """log₁₀ √det G = −½ logdet G⁻¹ / ln 10 of z (..., D), in slices to bound memory."""
    parts = [half_logdet_inverse(part) for part in z.reshape(-1, z.shape[-1]).split(BATCH)]
    return (-torch.cat(parts) / math.log(10)).reshape(z.shape[:-1]).cpu()


def magnification_grid(
    plane: Plane, extent: Extent, half_logdet_inverse: HalfLogdet, cells: int = CELLS
) -> tuple[Tensor, Tensor, Tensor]:
    """Magnification on a grid of square cells over the plane.

    Returns:
        The coordinates of the columns (W,) and rows (H,), and log₁₀ √det G, (H, W).
    """
    left, right, bottom, top = extent
    size = max(right - left, top - bottom) / cells
    x = torch.linspace(left, right, max(2, round((right - left) / size))).to(plane.origin)
    y = torch.linspace(bottom, top, max(2, round((top - bottom) / size))).to(plane.origin)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    z = plane.lift(torch.stack([columns, rows], -1))
    return x, y, magnification(z, half_logdet_inverse)


def label_colours(labels: Tensor) -> dict[Any, Any]:
    """A colour for every value of ``labels`` (N,), in their order."""
    names = np.unique(labels.numpy())
    if len(names) <= 10:
        return {name.item(): mpl.colormaps["tab10"](i) for i, name in enumerate(names)}
    return {
        name.item(): mpl.colormaps["turbo"](i / (len(names) - 1)) for i, name in enumerate(names)
    }


def magnification_map(
    codes: Tensor, half_logdet_inverse: HalfLogdet, labels: Tensor | None = None
) -> Figure:
    """How much the metric magnifies volume on the plane of the codes (N, D), and the codes on top.

    A code lies beside the plane by what the plane does not show: without labels (N,) its point is filled with the
    magnification at the code itself, so that it stands out where the map is not true for it.
    """
    plane = Plane.of(codes)
    points, own = plane.project(codes), magnification(codes, half_logdet_inverse)
    extent = extent_of(points)
    figure = Figure(figsize=(6.6, 1.4 + 5.2 * _ratio(extent)), layout="constrained")
    ax = figure.subplots()
    values = _map(ax, plane, extent, half_logdet_inverse, seen=own)
    if labels is None:
        _codes(ax, points, own)
    else:
        _labelled(figure, ax, points, labels)
    figure.colorbar(ax.images[0], ax=ax, label=f"{MAGNIFICATION} (decades)")
    ax.set_title(
        f"{MAGNIFICATION}: {np.median(own):.2f} at the codes (median), "
        f"{float(values.min()):.2f} to {float(values.max()):.2f} on this plane,\n"
        f"which shows {float(plane.explained.sum()):.0%} of the variance of {len(codes)} codes",
        fontsize=10,
    )
    return figure


def geodesic_map(
    codes: Tensor,
    half_logdet_inverse: HalfLogdet,
    geodesics: Tensor,
    lines: Tensor,
    lengths: Tensor,
) -> Figure:
    """Geodesics and straight lines between the same ends over the magnification map.

    Args:
        codes: (N, D), they set the plane.
        half_logdet_inverse: (M, D) → (M,) nats.
        geodesics: (S, P, D), S points of each of P paths.
        lines: (S', P, D), the straight lines between the same ends.
        lengths: (P, 2), the Riemannian length of each geodesic and of its line.

    Raises:
        ValueError: the three do not have the same number of paths.
    """
    paths = geodesics.shape[1]
    if lines.shape[1] != paths or lengths.shape != (paths, 2):
        raise ValueError(
            f"geodesics {tuple(geodesics.shape)} and lines {tuple(lines.shape)} are (points, paths, D), "
            f"and lengths {tuple(lengths.shape)} must be (paths, 2)"
        )
    plane = Plane.of(codes)
    curved, straight, points = (plane.project(z) for z in (geodesics, lines, codes))
    extent = extent_of(torch.cat([p.reshape(-1, 2) for p in (curved, straight, points)]))
    figure = Figure(figsize=(9.8, 1.5 + 5.6 * _ratio(extent)), layout="constrained")
    ax, side = figure.subplots(1, 2, width_ratios=(3, 1.1))
    _map(ax, plane, extent, half_logdet_inverse)
    figure.colorbar(ax.images[0], ax=ax, location="left", label=f"{MAGNIFICATION} (decades)")
    ax.scatter(*points.T, s=4, color="white", alpha=0.6, linewidths=0)
    ratio = float((lengths[:, 0] / lengths[:, 1]).mean())
    for p in range(paths):
        _path(ax, straight[:, p], "straight line" if p == 0 else None, ORIGINAL, (0, (3, 1.5)))
        _path(ax, curved[:, p], f"geodesic: {ratio:.2f} × the length" if p == 0 else None, OURS)
        for end in (curved[0, p], curved[-1, p]):
            _mark(ax, end, str(p + 1))
    ax.legend(fontsize=8, framealpha=0.85)
    _lengths(side, lengths)
    figure.suptitle(
        f"Geodesics are {ratio:.2f} × as long as straight lines (mean of {paths}); "
        f"the plane shows {float(plane.explained.sum()):.0%} of the variance"
    )
    return figure


def logdet_over_time(z: Tensor, half_logdet_inverse: HalfLogdet, steps: Sequence[int]) -> Figure:
    """The map through the mean of each of a few time steps, and that step's codes.

    Args:
        z: (N, T, D) latent trajectories.
        half_logdet_inverse: (M, D) → (M,) nats.
        steps: which frames.
    """
    plane = Plane.of(z.flatten(0, 1))
    extent = extent_of(plane.project(z[:, list(steps)]))
    own = magnification(z[:, list(steps)], half_logdet_inverse)
    size = (1.8 + 3.1 * len(steps), 1.3 + 3.1 * _ratio(extent))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(steps), sharex=True, sharey=True, squeeze=False)[0]
    planes = [plane.through(z[:, step].mean(0)) for step in steps]
    grids = [magnification_grid(p, extent, half_logdet_inverse)[2] for p in planes]
    low, high = _limits(*grids, own)
    for i, (ax, step) in enumerate(zip(axes, steps, strict=True)):
        image = _show(ax, grids[i], extent, low, high)
        _codes(ax, plane.project(z[:, step]), own[:, i])
        ax.set_title(f"t = {step}: median {np.median(own[:, i]):.2f}", fontsize=10)
        ax.set_xlabel(plane.axis_labels()[0])
    axes[0].set_ylabel(plane.axis_labels()[1])
    figure.colorbar(image, ax=axes, label=f"{MAGNIFICATION} (decades)", pad=0.01)
    change = float(np.median(own[:, -1]) - np.median(own[:, 0]))
    figure.suptitle(
        f"{MAGNIFICATION} at the codes changes by {change:+.2f} (median) from t = {steps[0]} to t = {steps[-1]}"
    )
    return figure


def eigenvalues(inverse_eigenvalues: Tensor, log10_condition: Tensor) -> Figure:
    """How stretched and how anisotropic the metric is at the codes.

    Args:
        inverse_eigenvalues: (N, D) of G⁻¹ at each code, in any order.
        log10_condition: (N,) log₁₀ of the condition number there.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _spectrum(left, inverse_eigenvalues)
    median = float(np.median(log10_condition))
    right.hist(log10_condition.numpy(), bins=30, color=OURS)
    right.axvline(median, color=ORIGINAL, lw=1.2, label=f"median {median:.2f}")
    right.set(
        xlabel="log₁₀ condition number of G",
        ylabel="codes",
        title=f"From {float(log10_condition.min()):.2f} to {float(log10_condition.max()):.2f}",
    )
    right.legend(frameon=False)
    figure.suptitle(
        f"At {len(log10_condition)} codes the metric's lengths differ {10 ** (median / 2):.3g}-fold "
        "between directions (median √condition)"
    )
    return figure


def interpolation_strips(rows: Sequence[tuple[str, Tensor]]) -> Figure:
    """Pictures decoded along paths, one row a path.

    Args:
        rows: label and frames (S, C, H, W) in [0, 1] of each path; S may differ.
    """
    told, largest = [], []
    for label, frames in rows:
        steps = frames.diff(dim=0).square().flatten(1).mean(1)
        largest.append(float(steps.max()) if len(steps) else 0.0)
        told.append(f"{label}\nstep MSE ≤ {largest[-1]:.4f}")
    figure = strips(told, [frames for _, frames in rows])
    for ax, (_, frames) in zip(figure.axes, rows, strict=True):
        shares = np.linspace(0, 1, len(frames))
        ax.set_xticks(ax.get_xticks(), [f"{t:.2g}" for t in shares], fontsize=7)
    figure.axes[-1].set_xlabel("share of the path", fontsize=9)
    smoothest, roughest = int(np.argmin(largest)), int(np.argmax(largest))
    figure.suptitle(
        f"Decoded along the paths; largest step (MSE): {largest[smoothest]:.4f} ({rows[smoothest][0]}) "
        f"at best, {largest[roughest]:.4f} ({rows[roughest][0]}) at worst",
        fontsize=10,
    )
    return figure


def strips(labels: Sequence[str], rows: Sequence[Tensor], inches: float = 1.05) -> Figure:
    """Rows of frames (S, C, H, W) in [0, 1] with labels on their left, to be titled by the caller.

    Args:
        labels, rows: of the same number.
        inches: the height of a row.
    """
    longest = max(len(frames) for frames in rows)
    size = (max(7.5, 2.2 + 0.76 * inches * longest), 0.7 + inches * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for ax, label, frames in zip(axes, labels, rows, strict=True):
        draw_strip(ax, frames)
        ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def draw_strip(ax: Axes, frames: Tensor) -> None:
    """Frames (S, C, H, W) in [0, 1] in one row of one axes, a tick without a label below the middle of each."""
    gap = max(1, frames.shape[-1] // 16)
    pictures = frames.clamp(0, 1).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    white = np.ones((len(pictures), pictures.shape[1], gap, 3), pictures.dtype)
    tiles = np.concatenate([pictures, white], 2)
    ax.imshow(np.concatenate(list(tiles), 1)[:, :-gap], interpolation="nearest")
    bare_strip(ax, len(frames), frames.shape[-1], gap)


def bare_strip(ax: Axes, count: int, width: int, gap: int) -> None:
    """Take the frame from around a strip of ``count`` pictures; a tick without a label below each."""
    ax.set_yticks([])
    ax.tick_params(length=0, pad=1)
    for spine in ax.spines.values():
        spine.set_visible(False)
    middles = [i * (width + gap) + (width - 1) / 2 for i in range(count)]
    ax.set_xticks(middles, [""] * count)


def _spectrum(ax: Axes, inverse_eigenvalues: Tensor) -> None:
    """Median and quartiles of each rank of eigenvalues (N, D)."""
    spectrum = inverse_eigenvalues.sort(dim=1, descending=True).values
    low, middle, high = spectrum.quantile(torch.tensor([0.25, 0.5, 0.75]).to(spectrum), dim=0)
    ranks = np.arange(1, spectrum.shape[1] + 1)
    ax.errorbar(
        ranks,
        middle.numpy(),
        yerr=torch.stack([middle - low, high - middle]).numpy(),
        color=OURS,
        ecolor=MUTED,
        elinewidth=4,
        marker="o",
        ms=4,
        lw=1.2,
        label="median, quartiles",
    )
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(LogFormatter())
    ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.6)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(
        xlabel="rank",
        ylabel="eigenvalue of G⁻¹ (latent units²)",
        title=f"Median from {float(middle[0]):.2g} down to {float(middle[-1]):.2g}",
    )
    ax.legend(frameon=False)


def _limits(*values: Tensor) -> tuple[float, float]:
    """The range of a common colour scale, never empty."""
    low = min(float(v.min()) for v in values)
    high = max(float(v.max()) for v in values)
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def _show(ax: Axes, values: Tensor, extent: Extent, low: float, high: float) -> Any:
    image = ax.imshow(
        values.numpy(),
        origin="lower",
        extent=extent,
        cmap=COLOURS,
        vmin=low,
        vmax=high,
        interpolation="bilinear",
    )
    ax.set_aspect("equal")
    return image


def _map(
    ax: Axes,
    plane: Plane,
    extent: Extent,
    half_logdet_inverse: HalfLogdet,
    seen: Tensor | None = None,
) -> Tensor:
    """Draw the map and return its values; ``seen`` are values that its colour scale must hold too."""
    values = magnification_grid(plane, extent, half_logdet_inverse)[2]
    _show(ax, values, extent, *_limits(values, *([] if seen is None else [seen])))
    ax.set(xlabel=plane.axis_labels()[0], ylabel=plane.axis_labels()[1])
    return values


def _ratio(extent: Extent) -> float:
    """Height of an extent to its width, held to what a figure can be sized by."""
    left, right, bottom, top = extent
    return min(1.2, (top - bottom) / (right - left))


def _codes(ax: Axes, points: Tensor, values: Tensor) -> None:
    """Points (N, 2) filled with their own values on the colour scale of the map below them."""
    low, high = ax.images[0].get_clim()
    x, y = points.T
    ax.scatter(
        x, y, c=values, cmap=COLOURS, vmin=low, vmax=high, s=16, linewidths=0.5, edgecolors="white"
    )


def _labelled(figure: Figure, ax: Axes, points: Tensor, labels: Tensor) -> None:
    colours = label_colours(labels)
    for name, colour in colours.items():
        x, y = points[labels == name].T
        ax.scatter(x, y, color=colour, label=str(name), s=16, linewidths=0.5, edgecolors="white")
    if len(colours) <= 20:
        columns = min(10, len(colours))
        figure.legend(title="label", fontsize=8, loc="outside lower center", ncols=columns)


def _path(ax: Axes, points: Tensor, label: str | None, color: str, ls: Any = "-") -> None:
    """A line that is seen on every colour of the map, for it has a white edge."""
    edge = [withStroke(linewidth=3.6, foreground="white")]
    ax.plot(*points.T, color=color, ls=ls, lw=1.8, label=label, path_effects=edge)


def _mark(ax: Axes, point: Tensor, text: str) -> None:
    ax.annotate(
        text,
        (float(point[0]), float(point[1])),
        ha="center",
        va="center",
        fontsize=7,
        bbox={"boxstyle": "circle,pad=0.25", "fc": "white", "ec": ORIGINAL, "lw": 0.8},
        zorder=5,
    )


def _lengths(ax: Axes, lengths: Tensor) -> None:
    """Each pair of lengths (P, 2) as two bars with their numbers."""
    places = np.arange(1, len(lengths) + 1)
    for column, (colour, offset) in enumerate(((OURS, -0.2), (MUTED, 0.2))):
        bars = ax.barh(places + offset, lengths[:, column].numpy(), height=0.36, color=colour)
        ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    ax.set_yticks(places)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.25 * float(lengths.max()))
    ax.set(
        xlabel="Riemannian length", ylabel="path", title="geodesic (blue),\nstraight line (grey)"
    )
    ax.title.set_fontsize(9)
