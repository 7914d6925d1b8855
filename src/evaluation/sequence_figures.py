"""Figures of sequence models: pictures over time, latent trajectories, flows and the metric along them.

x, y are sequences of pictures (N, T, C, H, W) in [0, 1], the originals and their reconstructions; z are latent
trajectories (N, T, D). Frames are counted from 0.
"""

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from src.evaluation.figures import MUTED, ORIGINAL, OURS
from src.evaluation.geometry_figures import Plane, bare_strip, draw_strip, label_colours, strips

SEQUENCES = 4  # shown as pictures
FRAMES = 16  # … and at most so many of each
PATHS = 8  # trajectories drawn as lines
LINKS = 200  # trajectories drawn as a start and an end
DARKEST = 0.01  # the least intensity that the error maps' colours end at
CYCLIC = 1e-4  # first–last MSE below which a sequence counts as cyclic


def sequence_reconstructions(x: Tensor, y: Tensor) -> Figure:
    """The first sequences: original, reconstruction and |difference| in three rows, one column a frame."""
    difference = (x - y).abs()
    n, frames = min(SEQUENCES, len(x)), _spread(x.shape[1])
    high = max(float(difference[:n, frames].mean(2).max()), DARKEST)
    height, width = x.shape[-2:]
    figure = Figure(
        figsize=(max(6.5, 2.4 + 0.75 * len(frames)), 0.8 + n * (0.35 + 3 * 0.75 * height / width)),
        layout="constrained",
    )
    rows = figure.subplots(3 * n, 1, squeeze=False)[:, 0]
    for i in range(n):
        image = _three_rows(rows[3 * i : 3 * i + 3], x[i, frames], y[i, frames], high)
        rows[3 * i + 2].set_xticks(rows[3 * i + 2].get_xticks(), [str(t) for t in frames])
        told = (
            f"sequence {i}\nMSE {float(difference[i].square().mean()):.4f}\n"
            f"MAE {float(difference[i].mean()):.4f}"
        )
        middle = rows[3 * i + 1]
        middle.text(1.02, 0.5, told, transform=middle.transAxes, va="center", fontsize=9)
    rows[-1].set_xlabel("frame t")
    figure.colorbar(
        image,
        ax=rows,
        location="bottom",
        aspect=50,
        shrink=0.6,
        pad=0.02,
        label="|difference| (intensity, mean over channels)",
    )
    per_frame = difference.square().mean((0, 2, 3, 4))
    worst = int(per_frame.argmax())
    figure.suptitle(
        f"Reconstructions: MSE {float(per_frame.mean()):.4f}, MAE {float(difference.mean()):.4f} over "
        f"{_sequences(len(x))};\nworst frame t = {worst} (MSE {float(per_frame[worst]):.4f})",
        fontsize=11,
    )
    return figure


def sample_sequences(x: Tensor) -> Figure:
    """Sequences decoded from the prior, (N, T, C, H, W), one row a sequence, one column a frame."""
    frames = _spread(x.shape[1])
    gaps = _first_last(x)
    labels = [f"sample {i}\nfirst–last MSE {float(gap):.2g}" for i, gap in enumerate(gaps)]
    figure = strips(labels, list(x[:, frames]))
    figure.axes[-1].set_xticks(figure.axes[-1].get_xticks(), [str(t) for t in frames])
    figure.axes[-1].set_xlabel("frame t")
    figure.suptitle(
        f"Samples z ~ p(z), likelihood mean; first–last MSE {np.median(gaps):.2g} (median of {len(x)})",
        fontsize=11,
    )
    return figure


def cyclicity(x: Tensor, y: Tensor, z: Tensor) -> Figure:
    """Whether a sequence comes back to its first frame: in the data, in the reconstruction and in latent space.

    Raises:
        ValueError: z has fewer than two dimensions.
    """
    data, model = (_first_last(pictures) for pictures in (x, y))
    latent = (z[:, -1] - z[:, 0]).square().mean(-1)
    between = (z[:, 1:] - z[:, :-1]).square().mean(-1)
    figure = Figure(figsize=(13, 7.4), layout="constrained")
    axes = figure.subplots(2, 3, height_ratios=(1.5, 1))
    _first_last_scatter(axes[0, 0], data, model)
    _latent_gaps(axes[0, 1], latent, between)
    _paths(axes[0, 2], z, None, "PCA paths of the first {}")
    last = x.shape[1] - 1
    for ax, pictures, name in ((axes[1, 0], x, "Original"), (axes[1, 1], y, "Reconstruction")):
        draw_strip(ax, pictures[0, [0, -1]])
        ax.set_xticks(ax.get_xticks(), ["t = 0", f"t = {last}"])
        ax.set_title(f"{name} 0: first–last MSE {float(_first_last(pictures)[0]):.2g}", fontsize=10)
    gaps = torch.stack([(p[0, 0] - p[0, -1]).abs() for p in (x, y)])
    image = _error_strip(axes[1, 2], gaps, max(float(gaps.mean(1).max()), DARKEST))
    axes[1, 2].set_xticks(axes[1, 2].get_xticks(), ["original", "reconstruction"])
    axes[1, 2].set_title(f"|frame 0 − frame {last}| of sequence 0", fontsize=10)
    figure.colorbar(
        image, ax=axes[1, :], aspect=12, shrink=0.8, label="|difference|\n(intensity, channel mean)"
    )
    figure.suptitle(
        f"{int((data < CYCLIC).sum())} of {len(x)} originals and {int((model < CYCLIC).sum())} reconstructions "
        f"return to their first frame (first–last MSE < {CYCLIC:g}); "
        f"median MSE {np.median(data):.2g} and {np.median(model):.2g}"
    )
    return figure


def trajectories(z: Tensor, labels: Tensor | None) -> Figure:
    """Where the latent trajectories (N, T, D) go on their first two principal components.

    Paths are coloured by label (N,), or each by itself.

    Raises:
        ValueError: z has fewer than two dimensions.
    """
    plane = Plane.of(z.flatten(0, 1))
    p, colours = plane.project(z), _colours(len(z), labels)
    lengths = (z[:, 1:] - z[:, :-1]).norm(dim=-1).sum(1)
    ends = (z[:, -1] - z[:, 0]).norm(dim=-1)
    figure = Figure(figsize=(13, 7.4), layout="constrained")
    axes = figure.subplots(2, 3)
    _paths(axes[0, 0], z, labels, "Paths of the first {}")
    if labels is not None and len(table := label_colours(labels)) <= 10:
        for name, colour in table.items():
            axes[0, 0].plot([], color=colour, label=str(name))
        figure.legend(title="label", loc="outside right upper", frameon=False)
    for i, ax in enumerate(axes[0, 1:]):
        for path, colour in zip(p[:PATHS], colours, strict=False):
            ax.plot(path[:, i], color=colour, lw=1.3, marker=".", ms=4)
        ax.set(xlabel="frame t", ylabel=plane.axis_labels()[i], title=f"PC {i + 1} over time")
        _whole_frames(ax)
    _histogram(axes[1, 0], {"path length": (lengths, OURS)})
    axes[1, 0].set(
        xlabel="path length (latent units)",
        ylabel="sequences",
        title=f"Path length: {_mean_sd(lengths)}",
    )
    _links(axes[1, 1], plane, p[:LINKS], colours)
    _histogram(axes[1, 2], {"path length": (lengths, MUTED), "start to end": (ends, OURS)})
    axes[1, 2].legend(frameon=False)
    axes[1, 2].set(
        xlabel="distance (latent units)",
        ylabel="sequences",
        title=f"Start to end: {_mean_sd(ends)}",
    )
    share = float(np.median(ends / lengths.clamp(min=1e-12)))
    figure.suptitle(
        f"{len(z)} trajectories end {share:.0%} of their path length from their start (median; 0% is a loop, "
        f"100% a straight line); the plane shows {float(plane.explained.sum()):.0%} of the variance"
    )
    return figure


def jacobians(log_dets: Tensor, half_logdet: Tensor) -> Figure:
    """How the flow from frame to frame changes volume, and whether the metric changes along with it.

    √det G(z_t+1) · |det ∂z_t+1/∂z_t| = √det G(z_t) where a flow keeps Riemannian volume, so that
    log|det ∂z_t+1/∂z_t| equals the change of ½ logdet G⁻¹: the diagonal of the second panel.

    Args:
        log_dets: (N, T − 1) of each step, nats.
        half_logdet: (N, T) ½ logdet G⁻¹ at each frame, nats.
    """
    change, cumulative = half_logdet.diff(dim=1), log_dets.cumsum(1)
    steps = np.arange(1, log_dets.shape[1] + 1)
    figure = Figure(figsize=(10.5, 7.4), layout="constrained")
    axes = figure.subplots(2, 2)
    _boxes(axes[0, 0], log_dets, steps)
    _against_metric(axes[0, 1], change, log_dets)
    mean = torch.cat([torch.zeros(1), cumulative.mean(0)])
    sd = torch.cat([torch.zeros(1), cumulative.std(0, correction=0)])
    axes[1, 0].fill_between(range(len(mean)), mean - sd, mean + sd, color=MUTED, alpha=0.6, lw=0)
    axes[1, 0].plot(mean, color=OURS, marker="o", ms=4, label="mean ± sd over sequences")
    axes[1, 0].axhline(0, color=ORIGINAL, lw=0.8, ls=":")
    axes[1, 0].legend(frameon=False)
    axes[1, 0].set(
        xlabel="frame t",
        ylabel="Σ log|det| since t = 0 (nats)",
        title=f"Up to the last frame: {_mean_sd(cumulative[:, -1])} nats",
    )
    spread = log_dets.std(0, correction=0)
    axes[1, 1].bar(steps, spread.numpy(), color=OURS)
    axes[1, 1].set(
        xlabel="step into frame t",
        ylabel="sd over sequences (nats)",
        title=f"Spread largest into t = {int(steps[int(spread.argmax())])}: {float(spread.max()):.3g} nats",
    )
    for ax in axes[1]:
        _whole_frames(ax)
    figure.suptitle(
        f"The flow changes volume by {_mean_sd(log_dets)} nats a step over {_sequences(len(log_dets))}"
    )
    return figure


def metric_over_time(half_logdet: Tensor, log10_condition: Tensor) -> Figure:
    """The metric along the trajectories.

    Args:
        half_logdet: (N, T) ½ logdet G⁻¹ at each frame, nats.
        log10_condition: (N, T) log₁₀ of the condition number of G.
    """
    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    rows = (
        (half_logdet, "½ logdet G⁻¹ (nats)", "Volume of G⁻¹", " nats"),
        (log10_condition, "log₁₀ condition number", "Anisotropy", ""),
    )
    for ax, (values, label, name, unit) in zip(figure.subplots(1, 2), rows, strict=True):
        low, high = values.quantile(torch.tensor([0.25, 0.75]).to(values), dim=0)
        times, mean = np.arange(values.shape[1]), values.mean(0)
        for i, line in enumerate(values[:PATHS]):
            ax.plot(line, color=MUTED, lw=0.9, label="single sequences" if i == 0 else None)
        ax.fill_between(times, low, high, color=OURS, alpha=0.2, lw=0, label="quartiles")
        ax.plot(mean, color=OURS, lw=2, marker="o", ms=4, label="mean")
        ax.set(
            xlabel="frame t",
            ylabel=label,
            title=f"{name}: mean {float(mean[0]):.2f} → {float(mean[-1]):.2f}{unit}",
        )
        _whole_frames(ax)
    ax.legend(frameon=False, fontsize=8)
    change = half_logdet.mean(0)
    figure.suptitle(
        f"The metric along {_sequences(len(half_logdet))} of {half_logdet.shape[1]} frames: "
        f"mean ½ logdet G⁻¹ varies by {float(change.max() - change.min()):.2f} nats"
    )
    return figure


def _first_last(pictures: Tensor) -> Tensor:
    """MSE of the last frame to the first, (N, T, C, H, W) → (N,)."""
    return (pictures[:, -1] - pictures[:, 0]).square().flatten(1).mean(1)


def _spread(count: int) -> list[int]:
    """All frames, or ``FRAMES`` of them at equal distances."""
    return np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int).tolist()


def _three_rows(axes: np.ndarray, x: Tensor, y: Tensor, high: float) -> AxesImage:
    """Original, reconstruction and |difference| of frames (S, C, H, W); the image of the last."""
    draw_strip(axes[0], x)
    draw_strip(axes[1], y)
    for ax, label in zip(axes, ("original", "reconstruction", "|difference|"), strict=True):
        ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        ax.tick_params(labelsize=8)
    return _error_strip(axes[2], (x - y).abs(), high)


def _error_strip(ax: Axes, errors: Tensor, high: float) -> AxesImage:
    """Absolute errors (S, C, H, W), averaged over channels, in one row; a tick below the middle of each."""
    width = errors.shape[-1]
    gap = max(1, width // 16)
    tiles = torch.nn.functional.pad(errors.mean(1), (0, gap), value=torch.nan)
    image = ax.imshow(
        torch.cat(list(tiles), 1)[:, :-gap].numpy(),
        cmap="magma",
        vmin=0,
        vmax=high,
        interpolation="nearest",
    )
    bare_strip(ax, len(errors), width, gap)
    return image


def _first_last_scatter(ax: Axes, data: Tensor, model: Tensor) -> None:
    """Logarithmic axes that end in a linear piece, because an original's distance may be exactly 0."""
    positive = torch.cat([data, model])
    positive = positive[positive > 0]
    smallest = float(positive.min()) if len(positive) else CYCLIC
    linear = 10.0 ** np.floor(np.log10(min(smallest, CYCLIC)))
    high = 2 * max(float(data.max()), float(model.max()), CYCLIC)
    ax.plot([0, high], [0, high], color=MUTED, lw=1, label="as in the data")
    ax.axhline(CYCLIC, color=ORIGINAL, lw=0.8, ls=":", label=f"cyclic below {CYCLIC:g}")
    ax.axvline(CYCLIC, color=ORIGINAL, lw=0.8, ls=":")
    ax.scatter(data, model, s=14, color=OURS, alpha=0.7, linewidths=0, zorder=3)
    ax.set_xscale("symlog", linthresh=linear, linscale=0.5)
    ax.set_yscale("symlog", linthresh=linear, linscale=0.5)
    ax.set_xlim(-0.3 * linear, high)
    ax.set_ylim(-0.3 * linear, high)
    ax.legend(fontsize=8, loc="lower right")
    exact = int((data == 0).sum())
    ax.set(
        xlabel="original: first–last MSE (intensity²)",
        ylabel="reconstruction: first–last MSE (intensity²)",
        title=f"{exact} of {len(data)} originals return exactly",
    )


def _latent_gaps(ax: Axes, latent: Tensor, between: Tensor) -> None:
    """Squared distances of the ends (N,) beside those of neighbours (N, T − 1), as shares of all."""
    _histogram(
        ax,
        {"consecutive frames": (between.flatten(), MUTED), "first to last": (latent, OURS)},
        share=True,
    )
    ax.legend(frameon=False)
    ax.set(
        xlabel="squared latent distance, mean over dimensions",
        ylabel="share of pairs",
        title=f"Latent: {np.median(latent):.2g} first to last, "
        f"{np.median(between):.2g} between frames (medians)",
    )
    ax.title.set_fontsize(10)


def _histogram(ax: Axes, groups: dict[str, tuple[Tensor, str]], share: bool = False) -> None:
    """Histograms of several groups over the same bins, from 0 for they are lengths."""
    high = max(float(values.max()) for values, _ in groups.values())
    bins = np.linspace(0, high if high > 0 else 1.0, 31).tolist()
    for label, (values, colour) in groups.items():
        weights = np.full(len(values), 1 / len(values)) if share else None
        ax.hist(values.numpy(), bins=bins, weights=weights, color=colour, alpha=0.7, label=label)
    if not share:
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _paths(ax: Axes, z: Tensor, labels: Tensor | None, title: str) -> None:
    """A few trajectories on the plane of all, start and end marked."""
    plane = Plane.of(z.flatten(0, 1))
    few = plane.project(z[:PATHS])
    for path, colour in zip(few, _colours(len(z), labels), strict=False):
        x, y = path.T
        ax.plot(x, y, color=colour, lw=1.3, marker=".", ms=3)
        ax.scatter(x[0], y[0], s=36, facecolors="white", edgecolors=colour, zorder=3)
        ax.scatter(x[-1], y[-1], s=36, marker="X", color=colour, zorder=4)
    first, second = plane.axis_labels()
    ax.set(xlabel=first, ylabel=second, title=title.format(len(few)) + " (○ start, ✕ end)")
    ax.title.set_fontsize(10)
    ax.set_aspect("equal", adjustable="datalim")


def _links(ax: Axes, plane: Plane, p: Tensor, colours: list) -> None:
    """Starts and ends of trajectories p (N, T, 2), each pair linked."""
    x, y = p[:, [0, -1]].permute(2, 1, 0)
    ax.plot(x, y, color=MUTED, lw=0.7, zorder=1)
    ax.scatter(x[0], y[0], s=20, facecolors="white", edgecolors=colours[: len(p)], zorder=2)
    ax.scatter(x[1], y[1], s=20, marker="X", c=colours[: len(p)], linewidths=0, zorder=3)
    first, second = plane.axis_labels()
    ax.set(xlabel=first, ylabel=second, title=f"Start (○) and end (✕) of {len(p)}")
    ax.set_aspect("equal", adjustable="datalim")


def _colours(count: int, labels: Tensor | None) -> list:
    """A colour for every trajectory: its label's, or one of ten in turn."""
    palette = mpl.colormaps["tab10"]
    if labels is None:
        return [palette(i % 10) for i in range(count)]
    table = label_colours(labels)
    return [table[label] for label in labels.tolist()]


def _boxes(ax: Axes, log_dets: Tensor, steps: np.ndarray) -> None:
    ax.boxplot(
        log_dets.numpy(),
        positions=steps,
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": MUTED, "linewidth": 0.8},
        medianprops={"color": OURS, "linewidth": 1.8},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": ORIGINAL},
        manage_ticks=False,
    )
    ax.axhline(0, color=ORIGINAL, lw=0.8, ls=":")
    ax.set(
        xlabel="step into frame t",
        ylabel="log|det ∂z(t)/∂z(t − 1)| (nats)",
        title=f"{float((log_dets < 0).float().mean()):.0%} of the steps shrink volume",
    )
    _whole_frames(ax)


def _against_metric(ax: Axes, change: Tensor, log_dets: Tensor) -> None:
    a, b = change.flatten(), log_dets.flatten()
    steady = min(float(a.std(correction=0)), float(b.std(correction=0))) < 1e-12
    told = "undefined (one is constant)" if steady else f"r = {_correlation(a, b):.2f}"
    low, high = float(min(a.min(), b.min())), float(max(a.max(), b.max()))
    ax.plot([low, high], [low, high], color=MUTED, lw=1.2, label="keeps Riemannian volume")
    ax.scatter(a, b, s=10, color=OURS, alpha=0.5, linewidths=0)
    ax.legend(frameon=False, fontsize=8)
    ax.set(
        xlabel="change of ½ logdet G⁻¹ (nats)",
        ylabel="log|det ∂z(t)/∂z(t − 1)| (nats)",
        title=f"Flow against metric: {told}",
    )


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def _mean_sd(values: Tensor) -> str:
    return f"{float(values.mean()):.2f} ± {float(values.std(correction=0)):.2f}"


def _sequences(count: int) -> str:
    return f"{count} sequence{'s' * (count != 1)}"


def _whole_frames(ax: Axes) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
