"""Figures say what they show: titles, axes, units. Pixels are for the eye."""

import pytest
import torch
from matplotlib.figure import Figure

from src.evaluation import figures

SHAPES = [(1, 8, 8), (3, 16, 12), (90,)]


def texts(figure: Figure) -> dict[str, str]:
    """Title and axis labels of a figure, after drawing it."""
    figure.canvas.draw()
    axes = figure.axes
    return {
        "title": " ".join([figure.get_suptitle(), *(ax.get_title() for ax in axes)]).strip(),
        "x": " ".join([figure.get_supxlabel(), *(ax.get_xlabel() for ax in axes)]).strip(),
        "y": " ".join(ax.get_ylabel() for ax in axes).strip(),
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reconstructions(shape):
    x, y = torch.rand(4, *shape), torch.rand(4, *shape)
    figure = figures.reconstructions(x, y)
    found = texts(figure)
    assert f"MSE of these 4: {(x - y).square().mean():.3g}" in found["title"]
    if len(shape) == 3:
        assert (
            "original" in found["y"]
            and "reconstruction" in found["y"]
            and "|difference|" in found["y"]
            and "intensity" in found["y"]
        )
    else:
        assert found["y"] == "value" and found["x"] == "element element element element"
        assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == [
            "original",
            "reconstruction",
        ]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_samples(shape):
    figure = figures.samples(torch.rand(16, *shape))
    assert "p(z)" in texts(figure)["title"] and len(figure.axes) == 16
    assert all(ax.images or ax.lines for ax in figure.axes)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_traversals(tiny_vae, shape):
    kind = "image" if len(shape) == 3 else "vector"
    model = tiny_vae(f"data.shape={list(shape)}", f"data.kind={kind}").eval()
    values, dimensions, kl = (
        torch.tensor([-2.0, 0.0, 2.0]),
        [3, 1],
        torch.tensor([0.1, 2.5, 0.2, 7.0]),
    )
    x = torch.rand(shape)
    grid = figures.traversal_grid(model, x, dimensions, values)
    z = model.encode(x[None]).mean.detach().clone()
    z[0, 1] = 2.0
    torch.testing.assert_close(grid[1, 2], model.decode(z).mean[0].detach())
    found = texts(figures.traversals(grid, values, dimensions, kl))
    assert grid.shape == (2, 3, *shape) and "Traversals" in found["title"]
    assert found["y"].split() == ["z[3]", "7", "nats", "z[1]", "2.5", "nats"]
    label, *ticks = found["x"].rsplit(maxsplit=3)
    assert (
        label.startswith("value of the dimension")
        and [float(tick) for tick in ticks] == values.tolist()
    )


@pytest.mark.parametrize("dimensions", [1, 2, 5])
@pytest.mark.parametrize("classes", [None, 3, 15, 40])
def test_latent_scatter(dimensions, classes):
    z = torch.randn(80, dimensions)
    figure = figures.latent_scatter(z, None if classes is None else torch.arange(80) % classes)
    found = texts(figure)
    assert (
        "Posterior means" in found["title"]
        and "% of variance" in found["x"]
        and "% of variance" in found["y"]
    )
    legend = figure.axes[0].get_legend()
    assert (len(legend.get_texts()) if legend else None) == (
        classes if classes in (3, 15) else None
    )
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 80


def test_latent_distributions_are_sorted_by_kl():
    z = torch.randn(500, 3) * torch.tensor([0.1, 2.0, 1.0])
    sigma = torch.tensor([0.9, 0.1, 0.5]).expand(500, 3)
    figure = figures.latent_distributions(z, sigma, torch.tensor([0.1, 3.0, 1.0]))
    found = texts(figure)
    assert "500 held-out" in found["title"] and "posterior σ" in found["y"]
    spread, width = figure.axes
    assert width.lines[0].get_ydata() == pytest.approx([0.1, 0.5, 0.9])
    assert [tick.get_text() for tick in width.get_xticklabels()] == ["1", "2", "0"]
    longest, *_, shortest = (
        line[1, 1] - line[0, 1] for line in spread.collections[0].get_segments()
    )
    assert longest == pytest.approx(2 * 2 * 1.645, rel=0.2) and shortest < 0.5


def test_kl_per_dimension_is_sorted_and_marks_active_units():
    figure = figures.kl_per_dimension(
        torch.tensor([0.0, 3.0, 1.5]), torch.tensor([False, True, True])
    )
    found = texts(figure)
    assert (found["x"], found["y"]) == ("latent dimension", "KL (nats)")
    assert "2 of 3 units active, 4.5 nats" in found["title"]
    assert [bar.get_height() for bar in figure.axes[0].patches] == [3.0, 1.5, 0.0]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "2", "0"]


def test_loss_curves_show_each_term_by_stage():
    rows = [
        {
            "step": step,
            "metrics": {"train/loss": 9.0 - step, "train/kl": None if step == 1 else 1.0},
        }
        for step in range(5)
    ]
    rows += [
        {"step": 4, "metrics": {"val/loss": 5.5, "val/mse": 0.02}},
        {"step": None, "metrics": {"test/loss": 1.0}},
    ]
    figure = figures.loss_curves(rows)
    found = texts(figure)
    assert found["title"].split() == ["loss", "kl", "mse"] and found["x"] == "step step step"
    assert found["y"] == "nats nats intensity²"
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["train"].get_ydata()) == [9, 8, 7, 6, 5] and list(
        lines["val"].get_xdata()
    ) == [4]
    assert len(figure.axes[1].lines[0].get_xdata()) == 4  # a null is no point
    low, high = figure.axes[0].get_ylim()
    assert low < 5 and high > 8


def test_there_are_no_curves_before_there_are_rows():
    assert figures.loss_curves([]) is None
    assert figures.loss_curves([{"step": 1, "metrics": {"train/loss": None, "lr": 0.1}}]) is None
