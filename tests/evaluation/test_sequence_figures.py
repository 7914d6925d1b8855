"""Figures of sequences say what the tensors hold, whatever their number, length and width."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from src.evaluation import sequence_figures
from src.evaluation.figures import OURS
from src.evaluation.geometry_figures import Plane

SIZES = [(1, 2), (3, 8), (6, 30)]  # sequences, frames


def pictures(n, frames, channels=3):
    return torch.rand(n, frames, channels, 8, 6)


def titles(figure: Figure) -> str:
    """All titles of a figure, after drawing it."""
    figure.canvas.draw()
    return "\n".join([figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)])


def scattered(ax):
    return np.concatenate([np.asarray(points.get_offsets()) for points in ax.collections])


@pytest.mark.parametrize("n, frames", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_sequence_reconstructions(n, frames, channels):
    x, y = pictures(n, frames, channels), pictures(n, frames, channels)
    figure = sequence_figures.sequence_reconstructions(x, y)
    told = titles(figure)
    assert f"MSE {(x - y).square().mean():.4f}, MAE {(x - y).abs().mean():.4f} over {n} seq" in told
    worst = int((x - y).square().mean((0, 2, 3, 4)).argmax())
    assert f"worst frame t = {worst} " in told
    shown, columns = min(n, 4), min(frames, 16)
    rows = figure.axes[: 3 * shown]
    assert [ax.get_ylabel() for ax in rows] == [
        "original",
        "reconstruction",
        "|difference|",
    ] * shown
    ticks = [int(tick.get_text()) for tick in rows[-1].get_xticklabels()]
    assert len(ticks) == columns and (ticks[0], ticks[-1]) == (0, frames - 1)
    for i in range(shown):
        error = np.asarray(rows[3 * i + 2].images[0].get_array())
        np.testing.assert_allclose(error[:, :6], (x - y)[i, 0].abs().mean(0), rtol=1e-5)
        beside = rows[3 * i + 1].texts[0].get_text().split("\n")
        mse, mae = (x - y)[i].square().mean(), (x - y)[i].abs().mean()
        assert beside == [f"sequence {i}", f"MSE {mse:.4f}", f"MAE {mae:.4f}"]
    assert (
        figure.axes[-1].get_xlabel().startswith("|difference|")
        and len(figure.axes) == 3 * shown + 1
    )


def test_a_perfect_reconstruction_is_drawn_too():
    x = pictures(2, 3)
    assert "MSE 0.0000, MAE 0.0000" in titles(sequence_figures.sequence_reconstructions(x, x))


@pytest.mark.parametrize("frames", [2, 20])
def test_sample_sequences(frames):
    x = pictures(3, frames)
    figure = sequence_figures.sample_sequences(x)
    gaps = (x[:, 0] - x[:, -1]).square().mean((1, 2, 3))
    assert f"first–last MSE {np.median(gaps):.2g} (median of 3)" in titles(figure)
    assert figure.axes[1].get_ylabel() == f"sample 1\nfirst–last MSE {gaps[1]:.2g}"


@pytest.mark.parametrize("n, frames", SIZES)
@pytest.mark.parametrize("dimensions", [2, 5])
def test_cyclicity(n, frames, dimensions):
    x, y, z = pictures(n, frames), pictures(n, frames), torch.randn(n, frames, dimensions)
    x[0, -1] = x[0, 0]
    figure = sequence_figures.cyclicity(x, y, z)
    told = titles(figure)
    data, model = ((p[:, -1] - p[:, 0]).square().mean((1, 2, 3)) for p in (x, y))
    np.testing.assert_allclose(scattered(figure.axes[0]), np.column_stack([data, model]), rtol=1e-5)
    assert f"1 of {n} originals and 0 reconstructions return" in told
    assert f"median MSE {np.median(data):.2g} and {np.median(model):.2g}" in told
    latent = (z[:, -1] - z[:, 0]).square().mean(1)
    between = (z[:, 1:] - z[:, :-1]).square().mean(-1)
    assert f"{np.median(latent):.2g} first to last, {np.median(between):.2g} between" in told
    shares = sum(bar.get_height() for bar in figure.axes[1].patches)
    assert shares == pytest.approx(2)  # two histograms, each of all its pairs
    assert len(figure.axes) == 7
    last = [tick.get_text() for tick in figure.axes[3].get_xticklabels()]
    assert last == ["t = 0", f"t = {frames - 1}"]
    assert len(figure.axes[2].lines) == min(n, 8)


def test_an_exact_zero_stands_at_zero_and_inside_the_axes():
    x = pictures(3, 4)
    x[:, -1] = x[:, 0]
    y = x.clone()
    y[:, -1] += 1e-3
    figure = sequence_figures.cyclicity(x, y, torch.zeros(3, 4, 2))
    assert "3 of 3 originals return exactly" in titles(figure)
    assert "3 of 3 originals and 3 reconstructions" in figure.get_suptitle()
    ax = figure.axes[0]
    assert (scattered(ax)[:, 0] == 0).all() and ax.get_xlim()[0] < 0 < ax.get_xlim()[1]
    assert ax.get_xscale() == ax.get_yscale() == "symlog"


@pytest.mark.parametrize("n, frames", [*SIZES, (12, 4)])
@pytest.mark.parametrize("dimensions", [2, 5])
def test_trajectories(n, frames, dimensions):
    z = torch.randn(n, frames, dimensions)
    figure = sequence_figures.trajectories(z, None)
    told = titles(figure)
    lengths = (z[:, 1:] - z[:, :-1]).norm(dim=-1).sum(1)
    ends = (z[:, -1] - z[:, 0]).norm(dim=-1)
    assert f"{n} trajectories end {np.median(ends / lengths):.0%} of their path length" in told
    assert f"Path length: {lengths.mean():.2f} ± {lengths.std(correction=0):.2f}" in told
    assert f"Start to end: {ends.mean():.2f} ± {ends.std(correction=0):.2f}" in told
    plane = Plane.of(z.flatten(0, 1))
    p, shown = plane.project(z), min(n, 8)
    assert f"shows {plane.explained.sum():.0%} of the variance" in told
    for i in range(shown):
        np.testing.assert_allclose(figure.axes[0].lines[i].get_xydata(), p[i], atol=1e-5)
        for c in range(2):
            np.testing.assert_allclose(
                figure.axes[1 + c].lines[i].get_ydata(), p[i, :, c], atol=1e-5
            )
    np.testing.assert_allclose(scattered(figure.axes[4]), torch.cat([p[:, 0], p[:, -1]]), atol=1e-5)
    assert sum(bar.get_height() for bar in figure.axes[3].patches) == n
    assert len(figure.axes) == 6


@pytest.mark.parametrize("classes, named", [(2, 2), (12, None)])
def test_trajectories_are_coloured_by_label(classes, named):
    labels = torch.arange(12) % classes
    figure = sequence_figures.trajectories(torch.randn(12, 5, 3), labels)
    figure.canvas.draw()
    assert (len(figure.legends[0].get_texts()) if figure.legends else None) == named
    colours = [line.get_color() for line in figure.axes[1].lines]
    assert (
        len(set(colours)) == min(classes, 8) and colours[0] == figure.axes[2].lines[0].get_color()
    )


def test_a_standing_trajectory_has_no_length():
    told = titles(sequence_figures.trajectories(torch.ones(3, 4, 2), None))
    assert "Path length: 0.00 ± 0.00" in told and "end 0% of their path" in told


def test_one_dimension_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        sequence_figures.trajectories(torch.randn(3, 4, 1), None)


@pytest.mark.parametrize("n, frames", SIZES)
def test_jacobians(n, frames):
    log_dets, half_logdet = torch.randn(n, frames - 1), torch.randn(n, frames)
    figure = sequence_figures.jacobians(log_dets, half_logdet)
    told = titles(figure)
    assert f"{log_dets.mean():.2f} ± {log_dets.std(correction=0):.2f} nats a step" in told
    assert f"{(log_dets < 0).float().mean():.0%} of the steps shrink volume" in told
    change = half_logdet[:, 1:] - half_logdet[:, :-1]
    expected = torch.stack([change.flatten(), log_dets.flatten()], 1)
    np.testing.assert_allclose(scattered(figure.axes[1]), expected, rtol=1e-5)
    if log_dets.numel() > 1:
        r = np.corrcoef(change.flatten(), log_dets.flatten())[0, 1]
        assert f"r = {r:.2f}" in told
    else:
        assert "undefined" in told
    sums = np.concatenate([[0], log_dets.cumsum(1).mean(0)])
    np.testing.assert_allclose(figure.axes[2].lines[0].get_ydata(), sums, rtol=1e-4, atol=1e-6)
    heights = [bar.get_height() for bar in figure.axes[3].patches]
    np.testing.assert_allclose(heights, log_dets.numpy().std(0), rtol=1e-4, atol=1e-6)


def test_a_flow_that_keeps_riemannian_volume_lies_on_the_diagonal():
    half_logdet = torch.randn(5, 6)
    figure = sequence_figures.jacobians(half_logdet.diff(dim=1), half_logdet)
    assert "r = 1.00" in titles(figure)
    points = scattered(figure.axes[1])
    np.testing.assert_allclose(points[:, 0], points[:, 1])


def test_volume_preserving_flows_have_no_correlation():
    told = titles(sequence_figures.jacobians(torch.zeros(4, 3), torch.randn(4, 4)))
    assert "undefined (one is constant)" in told and "0.00 ± 0.00 nats" in told


@pytest.mark.parametrize("n, frames", SIZES)
def test_metric_over_time(n, frames):
    volume, condition = torch.randn(n, frames), torch.rand(n, frames)
    figure = sequence_figures.metric_over_time(volume, condition)
    told = titles(figure)
    means = volume.mean(0)
    assert f"mean {means[0]:.2f} → {means[-1]:.2f} nats" in told
    assert f"varies by {means.max() - means.min():.2f} nats" in told
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "½ logdet G⁻¹ (nats)",
        "log₁₀ condition number",
    ]
    for ax, values in zip(figure.axes, (volume, condition), strict=True):
        assert len(ax.lines) == min(n, 8) + 1
        mean = next(line for line in ax.lines if line.get_color() == OURS)
        np.testing.assert_allclose(mean.get_ydata(), values.mean(0), rtol=1e-5)
