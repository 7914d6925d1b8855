"""Maps of a metric: the plane is a plane, the numbers are the metric's, and nothing needs luck with shapes."""

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from src.evaluation import geometry_figures
from src.evaluation.figures import OURS
from src.evaluation.geometry_figures import Plane


def half_logdet(z):
    """G⁻¹ = e^(−|z|²) I, so that ½ logdet G⁻¹ = −D/2 |z|²."""
    return -0.5 * z.shape[-1] * z.square().sum(-1)


def magnification(z):
    return 0.5 * z.shape[-1] * z.square().sum(-1) / math.log(10)


def codes(n=50, dimensions=4):
    return torch.randn(n, dimensions) * torch.linspace(2, 0.5, dimensions)


def offsets(ax):
    """All points scattered in one axes, (N, 2)."""
    return np.concatenate([np.asarray(points.get_offsets()) for points in ax.collections])


@pytest.mark.parametrize("dimensions", [2, 3, 20])
@pytest.mark.parametrize("n", [1, 2, 60])
def test_a_plane_is_orthonormal_and_lift_inverts_project(n, dimensions):
    z = codes(n, dimensions)
    plane = Plane.of(z)
    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2), atol=1e-5, rtol=0)
    p = torch.randn(3, 5, 2)
    assert plane.lift(p).shape == (3, 5, dimensions)
    torch.testing.assert_close(plane.project(plane.lift(p)), p, atol=1e-4, rtol=1e-4)
    if dimensions == 2:
        torch.testing.assert_close(plane.lift(plane.project(z)), z, atol=1e-5, rtol=1e-4)


def test_a_plane_shows_the_share_that_pca_computes():
    z = codes(80, 6)
    variances = torch.linalg.svdvals(z - z.mean(0)).square()
    plane = Plane.of(z)
    torch.testing.assert_close(plane.explained, (variances / variances.sum())[:2])
    spread = plane.project(z).var(0)
    torch.testing.assert_close(spread, variances[:2] / 79)
    assert plane.axis_labels()[0] == f"PC 1 ({float(plane.explained[0]):.0%} of variance)"


def test_a_plane_does_not_depend_on_the_order_of_the_codes():
    z = codes()
    torch.testing.assert_close(Plane.of(z).axes, Plane.of(z.flip(0)).axes, atol=1e-4, rtol=1e-3)


def test_a_parallel_plane_keeps_coordinates_and_goes_through_its_point():
    z = codes()
    plane, point = Plane.of(z), torch.randn(4)
    moved = plane.through(point)
    torch.testing.assert_close(moved.project(z), plane.project(z))
    torch.testing.assert_close(moved.lift(moved.project(point)), point)


def test_there_is_no_plane_in_one_dimension():
    with pytest.raises(ValueError, match="at least 2 dimensions, and these have 1"):
        Plane.of(torch.randn(5, 1))


def test_the_grid_holds_the_metric_at_its_own_cells():
    z = codes()
    plane = Plane.of(z)
    x, y, values = geometry_figures.magnification_grid(plane, (-2, 4, -1, 2), half_logdet, 40)
    assert values.shape == (len(y), len(x)) == (20, 40)
    assert (x[0], x[-1], y[0], y[-1]) == (-2, 4, -1, 2)
    expected = magnification(plane.lift(torch.stack([x[7], y[11]])))
    torch.testing.assert_close(values[11, 7], expected, atol=1e-5, rtol=1e-4)


def test_magnification_in_slices_is_magnification(monkeypatch):
    z = torch.randn(3, 7, 2)
    monkeypatch.setattr(geometry_figures, "BATCH", 4)
    torch.testing.assert_close(
        geometry_figures.magnification(z, half_logdet), magnification(z), atol=1e-5, rtol=1e-4
    )


def test_a_flat_latent_space_is_no_reason_to_underflow():
    """det G = 1e80 is beyond floats, and its logarithm is not."""
    figure = geometry_figures.magnification_map(codes(), lambda z: torch.full(z.shape[:1], -92.1))
    assert "40.00 at the codes" in figure.axes[0].get_title()


@pytest.mark.parametrize("n, dimensions", [(1, 2), (2, 3), (50, 8)])
def test_magnification_map(n, dimensions):
    z = codes(n, dimensions)
    figure = geometry_figures.magnification_map(z, half_logdet)
    figure.canvas.draw()
    ax, bar = figure.axes
    title, plane = ax.get_title(), Plane.of(z)
    assert f"{np.median(magnification(z)):.2f} at the codes" in title
    assert f"shows {float(plane.explained.sum()):.0%} of the variance of {n} codes" in title
    assert bar.get_ylabel() == "log₁₀ √det G (decades)" and "PC 2" in ax.get_ylabel()
    np.testing.assert_allclose(offsets(ax), plane.project(z), atol=1e-5)
    np.testing.assert_allclose(
        ax.collections[0].get_array(), magnification(z), rtol=1e-3, atol=1e-5
    )
    low, high = ax.images[0].get_clim()
    assert low <= float(magnification(z).min()) and high >= float(magnification(z).max())


@pytest.mark.parametrize("classes, legend", [(1, 1), (3, 3), (15, 15), (30, None)])
def test_labels_colour_the_codes(classes, legend):
    z, labels = codes(60), torch.arange(60) % classes
    figure = geometry_figures.magnification_map(z, half_logdet, labels)
    figure.canvas.draw()
    assert len(figure.axes[0].collections) == classes and len(offsets(figure.axes[0])) == 60
    assert (len(figure.legends[0].get_texts()) if figure.legends else None) == legend


def test_codes_in_one_point_do_not_crash():
    z = torch.ones(5, 3)
    figure = geometry_figures.magnification_map(z, lambda z: torch.zeros(len(z)))
    figure.canvas.draw()
    assert "shows 0% of the variance" in figure.axes[0].get_title()


@pytest.mark.parametrize("paths, dimensions", [(1, 2), (3, 5)])
def test_geodesic_map(paths, dimensions):
    z = codes(20, dimensions)
    t = torch.linspace(0, 1, 9)[:, None, None]
    lines = torch.lerp(z[:paths], z[paths : 2 * paths], t)
    geodesics = lines + (t * (1 - t))
    lengths = torch.rand(paths, 2) + 0.5
    figure = geometry_figures.geodesic_map(z, half_logdet, geodesics, lines, lengths)
    figure.canvas.draw()
    ax, side = figure.axes[:2]
    ratio = np.mean(lengths[:, 0].numpy() / lengths[:, 1].numpy())
    assert f"{ratio:.2f} × as long as straight lines (mean of {paths})" in figure.get_suptitle()
    assert f"geodesic: {ratio:.2f} × the length" in [t.get_text() for t in ax.legend_.get_texts()]
    drawn = [line for line in ax.lines if line.get_color() == OURS]
    plane = Plane.of(z)
    for p, line in enumerate(drawn):
        np.testing.assert_allclose(line.get_xydata(), plane.project(geodesics[:, p]), atol=1e-5)
    assert len(drawn) == paths and len(ax.lines) == 2 * paths
    told = {text.get_text() for text in side.texts}
    assert {f"{float(length):.2f}" for length in lengths.flatten()} == told
    assert side.get_xlabel() == "Riemannian length"


def test_paths_and_lengths_must_belong_together():
    z = codes(20, 3)
    with pytest.raises(ValueError, match=r"\(points, paths, D\).*must be \(paths, 2\)"):
        geometry_figures.geodesic_map(
            z, half_logdet, torch.rand(9, 2, 3), torch.rand(9, 2, 3), torch.rand(9, 2)
        )


@pytest.mark.parametrize("n, steps", [(1, [0, 1]), (12, [0, 2, 3, 5])])
def test_logdet_over_time(n, steps):
    z = torch.randn(n, 6, 4)
    figure = geometry_figures.logdet_over_time(z, half_logdet, steps)
    figure.canvas.draw()
    own = magnification(z)
    plane = Plane.of(z.flatten(0, 1))
    for ax, step in zip(figure.axes, steps, strict=False):
        assert ax.get_title() == f"t = {step}: median {np.median(own[:, step]):.2f}"
        np.testing.assert_allclose(offsets(ax), plane.project(z[:, step]), atol=1e-5)
    assert len({ax.images[0].get_clim() for ax in figure.axes[: len(steps)]}) == 1
    change = np.median(own[:, steps[-1]]) - np.median(own[:, steps[0]])
    assert f"changes by {change:+.2f} (median)" in figure.get_suptitle()


@pytest.mark.parametrize("n, dimensions", [(1, 2), (40, 6)])
def test_eigenvalues(n, dimensions):
    spectrum = torch.rand(n, dimensions) + 0.1
    condition = (spectrum.amax(1) / spectrum.amin(1)).log10()
    figure = geometry_figures.eigenvalues(spectrum, condition)
    figure.canvas.draw()
    left, right = figure.axes
    ranked = np.sort(spectrum.numpy(), axis=1)[:, ::-1]
    np.testing.assert_allclose(left.lines[0].get_ydata(), np.median(ranked, axis=0), rtol=1e-5)
    assert left.get_yscale() == "log" and "G⁻¹" in left.get_ylabel()
    assert sum(bar.get_height() for bar in right.patches) == n
    fold = 10 ** (np.median(condition) / 2)
    assert f"At {n} codes the metric's lengths differ {fold:.3g}-fold" in figure.get_suptitle()


@pytest.mark.parametrize("channels", [1, 3])
def test_interpolation_strips(channels):
    rows = [("linear", torch.rand(5, channels, 8, 6)), ("geodesic", torch.rand(3, channels, 8, 6))]
    figure = geometry_figures.interpolation_strips(rows)
    figure.canvas.draw()
    steps = [(f[1:] - f[:-1]).square().mean((1, 2, 3)).max() for _, f in rows]
    for (label, frames), ax, step in zip(rows, figure.axes, steps, strict=True):
        assert ax.get_ylabel() == f"{label}\nstep MSE ≤ {step:.4f}"
        ticks = [float(tick.get_text()) for tick in ax.get_xticklabels()]
        np.testing.assert_allclose(ticks, np.linspace(0, 1, len(frames)), atol=0.005)
        shown = ax.images[0].get_array()[:, -6:]  # the last picture
        np.testing.assert_allclose(shown, frames[-1].expand(3, -1, -1).permute(1, 2, 0), rtol=1e-6)
    assert f"{min(steps):.4f}" in figure.get_suptitle()
    assert f"{max(steps):.4f}" in figure.get_suptitle()


def test_a_path_of_one_picture_has_no_step():
    figure = geometry_figures.interpolation_strips([("point", torch.rand(1, 1, 4, 4))])
    figure.canvas.draw()
    assert "0.0000 (point)" in figure.get_suptitle()


def test_every_label_has_its_colour():
    colours = geometry_figures.label_colours(torch.tensor([7, 3, 3]))
    assert list(colours) == [3, 7] and colours[3] == to_rgba("tab:blue")
    assert len(set(geometry_figures.label_colours(torch.arange(25)).values())) == 25
