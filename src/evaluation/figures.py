"""Figures of a model. Each function takes tensors or rows and returns a matplotlib figure; nothing is saved here."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from torch import Tensor

from src.evaluation.units import UNITS

# The terms of a training that are shown, and those of a training on poses.
CURVES = ("loss", "recon_nll", "kl", "mse")
POSE_CURVES = ("loss", "recon_nll", "kl", "mpjre")
ORIGINAL, OURS, MUTED = "#444444", "#2563eb", "#c4c9d4"


def reconstructions(x: Tensor, y: Tensor) -> Figure:
    """Originals x, reconstructions y and their absolute difference, (N, *shape), one column a sample."""
    n = len(x)
    title = (
        f"Reconstructions of held-out data (MSE of these {n}: {float((x - y).square().mean()):.3g})"
    )
    if x.dim() != 4:
        figure = Figure(figsize=(1.6 * n, 2.2), layout="constrained")
        for i, ax in enumerate(figure.subplots(1, n, sharey=True, squeeze=False)[0]):
            ax.plot(x[i].flatten().numpy(), color=ORIGINAL, label="original")
            ax.plot(y[i].flatten().numpy(), color=OURS, label="reconstruction")
            ax.set_xlabel("element")
        figure.axes[0].set_ylabel("value")
        figure.axes[-1].legend(fontsize="x-small")
        figure.suptitle(title)
        return figure
    cell = _cell(x)
    figure = Figure(figsize=(1 + cell * n, 0.7 + 3 * cell), layout="constrained")
    axes = figure.subplots(3, n, squeeze=False)
    for i in range(n):
        _draw(axes[0, i], x[i])
        _draw(axes[1, i], y[i])
        error = axes[2, i].imshow(
            (x[i] - y[i]).abs().mean(0).numpy(), cmap="magma", vmin=0, vmax=0.5
        )
        _bare(axes[2, i])
    for ax, label in zip(axes[:, 0], ("original", "reconstruction", "|difference|"), strict=True):
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
    figure.colorbar(error, ax=axes[2, :], pad=0.01, aspect=6, label="intensity")
    figure.suptitle(title)
    return figure


def samples(x: Tensor) -> Figure:
    """A square of pictures decoded from the prior, (N, *shape)."""
    side = int(np.sqrt(len(x)))
    cell = _cell(x)
    figure = Figure(figsize=(cell * side, cell * side + 0.4), layout="constrained")
    for ax, picture in zip(figure.subplots(side, side, squeeze=False).flat, x, strict=False):
        _draw(ax, picture)
    figure.suptitle("Samples z ~ p(z), likelihood mean")
    return figure


def traversals(
    x: Tensor, values: Tensor, dimensions: list[int], information: Tensor, unit: str = "nats"
) -> Figure:
    """One row a latent dimension, one column a value of it, around one held-out sample.

    Args:
        x: (rows, columns, *shape).
        values: (columns,) of z.
        dimensions: which dimension a row moves.
        information: (D,) of every dimension in ``unit``, told beside each row.
    """
    rows, columns = x.shape[:2]
    cell = _cell(x)
    figure = Figure(figsize=(1.4 + cell * columns, cell * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for r in range(rows):
        for c in range(columns):
            _draw(axes[r, c], x[r, c])
        axes[r, 0].set_ylabel(
            f"z[{dimensions[r]}]\n{float(information[dimensions[r]]):.2g} {unit}",
            rotation=0,
            ha="right",
            va="center",
            fontsize=8,
        )
    for c in range(columns):
        axes[-1, c].set_xlabel(f"{float(values[c]):+.2g}")
    figure.suptitle("Traversals: one dimension at a time, most informative first")
    figure.supxlabel("value of the dimension", fontsize=9)
    return figure


def latent_scatter(z: Tensor, labels: Tensor | None) -> Figure:
    """Posterior means (N, D) on their first two principal components, coloured by label."""
    model = PCA(n_components=2)
    plane = (
        model.fit_transform(z.numpy())
        if z.shape[1] > 1
        else np.column_stack([z.numpy(), np.zeros(len(z))])
    )
    share = model.explained_variance_ratio_ if z.shape[1] > 1 else (1.0, 0.0)
    figure = Figure(figsize=(6.2, 5), layout="constrained")
    ax = figure.subplots()
    if labels is None:
        ax.scatter(plane[:, 0], plane[:, 1], s=8, color=OURS)
    else:
        names = np.unique(labels.numpy())
        palette = mpl.colormaps["tab10" if len(names) <= 10 else "turbo"]
        for i, name in enumerate(names):
            colour = palette(i) if len(names) <= 10 else palette(i / (len(names) - 1))
            chosen = plane[labels.numpy() == name]
            ax.scatter(chosen[:, 0], chosen[:, 1], s=10, color=colour, label=str(name))
        if len(names) <= 20:
            ax.legend(
                title="label",
                loc="center left",
                bbox_to_anchor=(1, 0.5),
                markerscale=2,
                frameon=False,
            )
    ax.set(
        xlabel=f"PC 1 ({share[0]:.0%} of variance)",
        ylabel=f"PC 2 ({share[1]:.0%} of variance)",
        title="Posterior means of held-out data, PCA",
    )
    ax.set_aspect("equal", adjustable="datalim")
    return figure


def kl_per_dimension(kl: Tensor, active: Tensor) -> Figure:
    """Mean KL of every latent dimension, (D,) nats, sorted; ``active`` (D,) marks the active units."""
    order = kl.argsort(descending=True)
    figure = Figure(figsize=(max(4.0, 1.5 + 0.22 * len(kl)), 3.2), layout="constrained")
    ax = figure.subplots()
    positions = np.arange(len(kl))
    for mask, colour, label in (
        (active[order], OURS, "active"),
        (~active[order], MUTED, "inactive"),
    ):
        if mask.any():
            ax.bar(positions[mask.numpy()], kl[order][mask].numpy(), color=colour, label=label)
    ax.set_xticks(
        positions,
        [str(int(d)) for d in order],
        fontsize=7 if len(kl) > 20 else 9,
        rotation=90 if len(kl) > 20 else 0,
    )
    ax.set(
        xlabel="latent dimension",
        ylabel="KL (nats)",
        title=f"KL per dimension: {int(active.sum())} of {len(kl)} units active, {float(kl.sum()):.1f} nats",
    )
    ax.legend(frameon=False)
    return figure


def latent_distributions(z: Tensor, sigma: Tensor, kl: Tensor) -> Figure:
    """How the codes lie along every dimension: quantiles of the posterior means, and the posterior's own width.

    Args:
        z, sigma: posterior means and standard deviations, (N, D).
        kl: of every dimension, (D,) nats, by which they are sorted.
    """
    order = kl.argsort(descending=True)
    quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=z.dtype)
    low, first, middle, third, high = z[:, order].quantile(quantiles, dim=0).numpy()
    positions = np.arange(len(kl))
    figure = Figure(figsize=(max(5.0, 1.5 + 0.22 * len(kl)), 5), layout="constrained")
    spread, width = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    spread.axhspan(-1, 1, color=MUTED, alpha=0.35, lw=0, label="prior, ±1 σ")
    spread.vlines(positions, low, high, color=OURS, lw=1, label="5 to 95 % of the means")
    spread.vlines(positions, first, third, color=OURS, lw=4, label="25 to 75 %")
    spread.plot(positions, middle, "o", color="white", mec=OURS, ms=4, label="median")
    spread.set(ylabel="posterior mean", title=f"Codes of {len(z)} held-out samples, by dimension")
    spread.set_ylim(min(-1.2, low.min() * 1.1), max(1.2, high.max()) * 1.45)  # room for the legend
    spread.legend(frameon=False, fontsize="small", ncols=2, loc="upper right")
    width.plot(positions, sigma[:, order].mean(0).numpy(), "o", color=OURS, ms=4)
    width.axhline(1, color=ORIGINAL, lw=0.8, ls="--", label="prior")
    width.set(ylabel="mean posterior σ", xlabel="latent dimension, most informative first")
    width.set(yscale="log", ylim=(None, 2))
    width.legend(frameon=False, fontsize="small")
    width.set_xticks(
        positions,
        [str(int(d)) for d in order],
        fontsize=7 if len(kl) > 20 else 9,
        rotation=90 if len(kl) > 20 else 0,
    )
    return figure


def loss_curves(rows: Iterable[dict[str, Any]], terms: Iterable[str] = CURVES) -> Figure | None:
    """Training and validation curves by term, from the rows of ``metrics.jsonl``; None before there are any."""
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row["metrics"].items():
            if value is not None and row["step"] is not None:
                # A step that a resumed run has trained again counts once.
                curves.setdefault(name, {})[row["step"]] = value
    shown = [term for term in terms if f"train/{term}" in curves or f"val/{term}" in curves]
    if not shown:
        return None
    figure = Figure(figsize=(3.4 * len(shown), 3), layout="constrained")
    for ax, term in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for stage, colour in (("train", ORIGINAL), ("val", OURS)):
            if f"{stage}/{term}" in curves:
                steps, values = zip(*sorted(curves[f"{stage}/{term}"].items()), strict=True)
                ax.plot(
                    steps,
                    values,
                    color=colour,
                    label=stage,
                    lw=1.4,
                    marker="." if len(steps) < 3 else None,
                )
                tail = np.asarray(values[len(values) // 10 :])
                low, high = (
                    ax.get_ylim()
                    if stage == "val" and f"train/{term}" in curves
                    else (tail.min(), tail.max())
                )
                margin = 0.05 * (tail.max() - tail.min() + 1e-9)
                ax.set_ylim(min(low, tail.min() - margin), max(high, tail.max() + margin))
        ax.set(xlabel="step", title=term, ylabel=UNITS.get(term, "nats"))
        ax.legend(frameon=False)
    return figure


def _cell(x: Tensor) -> float:
    """Inches that one sample takes: a frame of a game is nothing at the size of a digit."""
    return 1.2 if x.shape[-1] > 32 and x.dim() > 2 else 0.78


def _draw(ax: Axes, x: Tensor) -> None:
    """One sample: a picture, or a line for a vector."""
    if x.dim() == 3:
        ax.imshow(x.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    else:
        ax.plot(x.flatten().numpy(), color=OURS, lw=0.8)
    _bare(ax)


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


@torch.no_grad()
def traversal_grid(model: Any, x: Tensor, dimensions: list[int], values: Tensor) -> Tensor:
    """Decode one sample x (*shape) with each of ``dimensions`` set to each of ``values``: (rows, columns, *shape)."""
    return model.decode(moved(model.encode(x[None]).mean[0], dimensions, values)).mean


def moved(z: Tensor, dimensions: Sequence[int], values: Tensor) -> Tensor:
    """Copies of z (D,) with each of ``dimensions`` set to each of ``values``: (rows, columns, D)."""
    grid = z.repeat(len(dimensions), len(values), 1)
    for row, dimension in enumerate(dimensions):
        grid[row, :, dimension] = values.to(z)
    return grid
