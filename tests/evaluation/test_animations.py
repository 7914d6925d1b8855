"""Pages that move: they hold the data, and work where there is no network."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from src.evaluation import animations
from src.evaluation.geometry_figures import Plane


def half_logdet(z):
    return -z.square().sum(-1)


def decoded(source):
    """A data URI's picture, (C, H, W) uint8."""
    kind, data = source.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).transpose(2, 0, 1)


@pytest.mark.parametrize("n, frames, channels", [(1, 2, 1), (3, 4, 3)])
def test_a_sequence_plays_beside_its_reconstruction(n, frames, channels):
    x, y = torch.rand(n, frames, channels, 8, 6), torch.rand(n, frames, channels, 8, 6)
    figure = animations.sequence_animation(x, y)
    assert [frame.name for frame in figure.frames] == [str(t) for t in range(frames)]
    for t, frame in enumerate(figure.frames):
        assert list(frame.traces) == list(range(2 * n))
        for i in range(n):
            for trace, pictures in zip(frame.data[2 * i : 2 * i + 2], (x, y), strict=True):
                expected = (pictures[i, t] * 255).round().expand(3, -1, -1)
                np.testing.assert_array_equal(decoded(trace.source), expected)
    assert [trace.visible for trace in figure.data] == [True, True] + [False] * (2 * n - 2)


def test_the_menu_shows_one_sequence_with_its_errors():
    x, y = torch.rand(3, 2, 3, 8, 8), torch.rand(3, 2, 3, 8, 8)
    figure = animations.sequence_animation(x, y)
    play, menu = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == [f"sequence {i}" for i in range(3)]
    shown, title = menu.buttons[1].args
    assert shown["visible"] == [False, False, True, True, False, False]
    mse, mae = (x - y)[1].square().mean(), (x - y)[1].abs().mean()
    assert title["title.text"] == f"Sequence 1 of 3: MSE {mse:.4f}, MAE {mae:.4f}"
    assert figure.layout.title.text == menu.buttons[0].args[1]["title.text"]
    assert ["play" in play.buttons[0].label, "pause" in play.buttons[1].label] == [True, True]


def test_a_page_of_noise_stays_small(tmp_path):
    x = torch.rand(9, 8, 3, 64, 64)
    figure = animations.sequence_animation(x, x.flip(0))
    assert 1 <= len(figure.data) // 2 < 9
    animations.save_html(figure, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 2_000_000


@pytest.mark.parametrize("n, frames, dimensions", [(1, 2, 2), (12, 5, 4)])
def test_trajectories_grow(n, frames, dimensions):
    z = torch.randn(n, frames, dimensions)
    figure = animations.trajectory_animation(z, half_logdet)
    plane, shown = Plane.of(z.flatten(0, 1)), min(n, 8)
    p = plane.project(z)
    assert len(figure.data) == 1 + shown and figure.data[0].type == "heatmap"
    for t, frame in enumerate(figure.frames):
        for i, trace in enumerate(frame.data):
            path = np.column_stack([trace.x, trace.y])
            np.testing.assert_allclose(path, p[i, : t + 1], atol=1e-5)
    lengths = (z[:, 1:] - z[:, :-1]).norm(dim=-1).sum(1)
    title = figure.layout.title.text
    assert f"{shown} of {n} trajectories, mean length {lengths.mean():.2f}" in title
    assert f"shows {float(plane.explained.sum()):.0%}" in title


@pytest.mark.parametrize("n, frames, dimensions", [(1, 2, 2), (12, 5, 4)])
def test_the_map_follows_the_mean_of_its_step(n, frames, dimensions):
    z = torch.randn(n, frames, dimensions)
    figure = animations.metric_slider(z, half_logdet)
    plane = Plane.of(z.flatten(0, 1))
    values = -half_logdet(z) / np.log(10)
    columns, rows = figure.data[0].x, figure.data[0].y
    for t, frame in enumerate(figure.frames):
        heatmap, points = frame.data
        corner = plane.through(z[:, t].mean(0)).lift(torch.tensor([columns[3], rows[5]]))
        expected = float(-half_logdet(corner[None]) / np.log(10))
        assert heatmap.z[5][3] == pytest.approx(expected, rel=1e-3)
        np.testing.assert_allclose(points.x, plane.project(z[:, t])[:, 0], atol=1e-5)
        np.testing.assert_allclose(points.marker.color, values[:, t], rtol=1e-4)
        assert f"codes {np.median(values[:, t]):.2f}" in frame.layout.title.text
    assert len(figure.layout.sliders[0].steps) == frames


def test_long_sequences_get_as_many_maps_as_a_page_holds(tmp_path):
    figure = animations.metric_slider(torch.randn(400, 90, 3), half_logdet)
    names = [int(frame.name) for frame in figure.frames]
    assert len(names) == animations.MAPS and (names[0], names[-1]) == (0, 89)
    animations.save_html(figure, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 2_000_000


def test_constant_codes_do_not_crash():
    z = torch.zeros(2, 3, 2)
    for draw in (animations.trajectory_animation, animations.metric_slider):
        assert len(draw(z, half_logdet).frames) == 3


def test_a_page_needs_no_network(tmp_path):
    x = torch.rand(1, 2, 1, 4, 4)
    for name in ("a.html", "b.html"):
        animations.save_html(animations.sequence_animation(x, x), tmp_path / name)
    page = (tmp_path / "a.html").read_text()
    sources = re.findall(r"<script[^>]*\ssrc=\"([^\"]*)\"", page)
    assert sources == ["plotly.min.js"]
    assert "http:" not in page and "https:" not in page and '="//' not in page
    assert '"showSendToCloud": false' in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html", "plotly.min.js"]


def test_plotly_is_written_once(tmp_path):
    x = torch.rand(1, 2, 1, 4, 4)
    (tmp_path / "plotly.min.js").write_text("there already")
    animations.save_html(animations.sequence_animation(x, x), tmp_path / "a.html")
    assert (tmp_path / "plotly.min.js").read_text() == "there already"
