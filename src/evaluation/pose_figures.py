"""Figures of energies and errors of hand poses. Each function takes arrays and returns a figure; nothing is saved here.

Energies, and the terms they are made of, are in nats, lower being more plausible.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve
from torch import Tensor

from src.datamodules.hand_anatomy import JOINTS, SIDES
from src.evaluation.figures import MUTED, ORIGINAL, OURS

BINS = 50
# Latent dimensions whose posteriors are shown.
WIDTHS, SHOWN = 8, 16
VARIED = "most varied first"
TERMS = {"recon_nll": "reconstruction NLL", "kl": "KL"}


def energies(
    energy: np.ndarray, terms: Mapping[str, np.ndarray], z: Tensor, variance: Tensor
) -> Figure:
    """What the energies of held-out poses are made of, 2 × 3.

    Args:
        energy: (N,).
        terms: ``recon_nll`` and ``kl``, (N,) each, that add up to it.
        z, variance: posterior means and variances, (N, D).
    """
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    axes = figure.subplots(2, 3)
    shown = {"energy": energy} | {TERMS[name]: value for name, value in terms.items()}
    for ax, (name, value) in zip(axes[0], shown.items(), strict=True):
        _histogram(ax, value, name)
    _scatter(axes[1, 0], z)
    _variances(axes[1, 1], z, variance)
    means = {
        **{TERMS[name]: value.mean() for name, value in terms.items()},
        "energy": energy.mean(),
    }
    bars = axes[1, 2].bar([*means], [*means.values()], color=[MUTED, MUTED, OURS])
    axes[1, 2].bar_label(bars, fmt="%.1f", padding=2)
    axes[1, 2].axhline(0, color=ORIGINAL, lw=0.8)
    axes[1, 2].margins(y=0.15)
    axes[1, 2].set(ylabel="mean (nats)", title="Where the energy comes from")
    axes[1, 2].tick_params(axis="x", labelsize="small")
    figure.suptitle(f"Energies of {len(energy)} held-out poses at the posterior's mean")
    return figure


def density_energies(energy: np.ndarray) -> Figure:
    """The energies (N,) of a model of whose latent space there is no more to show, such as a density of the pose."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    _histogram(figure.subplots(), energy, "energy")
    figure.suptitle(f"Energies of {len(energy)} held-out poses")
    return figure


def _histogram(ax: Axes, value: np.ndarray, name: str) -> None:
    ax.hist(value, bins=BINS, color=OURS, histtype="stepfilled")
    ax.axvline(value.mean(), color=ORIGINAL, lw=1, ls="--", label=f"mean {value.mean():.1f}")
    ax.set(xlabel=f"{name} (nats)", ylabel="poses")
    ax.legend(frameon=False, fontsize="small")


def _scatter(ax: Axes, z: Tensor) -> None:
    a, b = [*_most_varied(z, 2), 0][:2]
    ax.scatter(z[:, a].numpy(), z[:, b].numpy(), s=5, color=OURS, alpha=0.5, lw=0)
    ax.set(xlabel=f"z[{a}]", ylabel=f"z[{b}]", title="Posterior means")


def _variances(ax: Axes, z: Tensor, variance: Tensor) -> None:
    order = _most_varied(z, WIDTHS)
    ax.boxplot(variance[:, order].numpy(), tick_labels=[*map(str, order)], showfliers=False)
    ax.axhline(1, color=ORIGINAL, lw=0.8, ls="--", label="prior")
    ax.set(yscale="log", xlabel=f"latent dimension, {VARIED}", ylabel="variance")
    ax.set_title("Posterior variances")
    ax.legend(frameon=False, fontsize="small")


def _most_varied(z: Tensor, count: int) -> list[int]:
    """The dimensions whose posterior means vary most, most varied first."""
    return z.var(0).argsort(descending=True)[:count].tolist()


def energy_beta(recon: np.ndarray, kl: np.ndarray, z: Tensor, betas: Sequence[float]) -> Figure:
    """How the energy depends on the weight β of its KL.

    Args:
        recon, kl: terms of every pose, (N,).
        z: posterior means, (N, D).
        betas: weights.
    """
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    over, line, box, mean, std = figure.subplot_mosaic(
        [["h", "h", "l", "l", "b", "b"], ["m", "m", "m", "s", "s", "s"]]
    ).values()
    palette = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(betas)))
    for beta, colour in zip(betas, palette, strict=True):
        over.hist(
            recon + beta * kl, bins=BINS, histtype="step", color=colour, label=f"β = {beta:g}"
        )
    over.set(xlabel="energy (nats)", ylabel="poses")
    over.legend(frameon=False, fontsize="small")
    line.plot(betas, [float((recon + beta * kl).mean()) for beta in betas], "o-", color=OURS)
    line.set(xlabel="β", ylabel="mean energy (nats)")
    box.boxplot([recon, kl], tick_labels=[*TERMS.values()], showfliers=False)
    box.set(ylabel="nats", title="Terms, without outliers")
    order = _most_varied(z, SHOWN)
    few, places = z[:, order], range(len(order))
    for ax, value, label in (
        (mean, few.mean(0), "mean of the posterior means"),
        (std, few.std(0), "their standard deviation"),
    ):
        ax.bar(places, value.numpy(), color=OURS)
        ax.axhline(0, color=ORIGINAL, lw=0.8)
        ax.set_xticks(places, [*map(str, order)], fontsize=7)
        ax.set(xlabel=f"latent dimension, {VARIED}", ylabel=label)
    figure.suptitle(f"Energies of {len(recon)} held-out poses by the weight β of the KL")
    return figure


def energy_negatives(
    data: np.ndarray, made: Mapping[str, np.ndarray], aurocs: Mapping[str, float]
) -> Figure:
    """Histograms of the energies of data (N,) and of every negative (M,), with its AUROC."""
    columns = 5
    rows = -(-len(made) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.0 * rows + 1), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    low, high = _window(data, made)
    edges = np.linspace(low, high, BINS + 1)
    for ax, (name, energy) in zip(axes, made.items(), strict=False):
        for value, colour, label in ((data, ORIGINAL, "data"), (energy, OURS, "negative")):
            weights = np.full(len(value), 1 / len(value))
            clipped = value.clip(low, high)
            style = {"histtype": "stepfilled", "alpha": 0.6, "color": colour, "label": label}
            ax.hist(clipped, edges, weights=weights, **style)
        ax.set_title(f"{name}\nAUROC {aurocs[name]:.3f}", fontsize=9)
        # Where all is in the last bar, the data would be flat beside it: that bar is cut off.
        ax.set(yticks=[], ylim=(0, 2.2 * np.histogram(data, edges)[0].max() / len(data)))
    for ax in axes[len(made) - columns : len(made)]:
        ax.tick_params(labelbottom=True)
    for ax in axes[len(made) :]:
        ax.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False)
    note = "energy (nats); what lies beyond an edge is in the last bar; high bars are cut off"
    figure.supxlabel(note, fontsize=9)
    figure.suptitle(f"Energies of {len(data)} held-out poses and of as many negatives of each kind")
    return figure


def _window(data: np.ndarray, made: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Energies shown: a random joint has thousands of nats, beside which the data would be one bar."""
    low, high = np.quantile(data, [0.001, 0.999])
    least = min(np.quantile(energy, 0.01) for energy in made.values())
    return float(min(low, least)), float(high + 1.5 * (high - low) + 1e-6)


def roc(data: np.ndarray, made: Mapping[str, np.ndarray], aurocs: Mapping[str, float]) -> Figure:
    """The ROC curve of every negative: how many are rejected for how many rejected poses of the data."""
    figure = Figure(figsize=(7.6, 4.8), layout="constrained")
    ax = figure.subplots()
    order = sorted(made, key=lambda name: aurocs[name])
    palette = mpl.colormaps["turbo"](np.linspace(0.05, 0.95, len(order)))
    for name, colour in zip(order, palette, strict=True):
        truth = np.repeat([0, 1], [len(data), len(made[name])])
        wrong, right, _ = roc_curve(truth, np.concatenate([data, made[name]]))
        ax.plot(wrong, right, color=colour, lw=1.4, label=f"{name} ({aurocs[name]:.3f})")
    ax.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--")
    ax.set(
        xlabel="data rejected (fraction)",
        ylabel="negatives rejected (fraction)",
        title="Rejecting what has more energy than a threshold",
        aspect="equal",
    )
    figure.legend(
        title="negative (AUROC)", loc="outside right center", frameon=False, fontsize="small"
    )
    return figure


def joint_errors(errors: Tensor) -> Figure:
    """A map of the mean error of every joint of both hands, from errors (N, 30) in degrees."""
    means = errors.mean(0).view(len(SIDES), len(JOINTS)).numpy()
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(means, cmap="magma_r", vmin=0, aspect="auto")
    for (row, column), value in np.ndenumerate(means):
        dark = value > 0.3 * means.max()
        ax.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            color="white" if dark else ORIGINAL,
            fontsize=8,
        )
    ax.set_xticks(range(len(JOINTS)), JOINTS, rotation=45, ha="right")
    ax.set_yticks(range(len(SIDES)), SIDES)
    figure.colorbar(image, ax=ax, label="degrees", pad=0.01)
    figure.suptitle(f"MPJRE by joint of {len(errors)} held-out poses: {means.mean():.2f}°")
    return figure


def rate_distortion(points: Mapping[str, tuple[float, float]]) -> Figure:
    """What models lose, and the nats that they take for it.

    Args:
        points: name → rate (KL in nats) and distortion (MPJRE in degrees).
    """
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    ax = figure.subplots()
    rates, losses = np.array([points[name] for name in points]).T
    ax.plot(rates, losses, "o", color=OURS)
    for name, at in points.items():
        ax.annotate(name, at, xytext=(5, 5), textcoords="offset points", fontsize=8)
    ax.margins(x=0.15)
    ax.set(xlabel="rate: KL (nats)", ylabel="distortion: MPJRE (degrees)")
    ax.set_ylim(0, 1.15 * losses.max() + 1e-6)
    ax.set_title("Rate and distortion on held-out data")
    return figure
