"""Which figures a model gets, and that they are of the model and data given."""

import pytest
import torch
from matplotlib.figure import Figure

from src.evaluation.codes import distant_pairs
from src.evaluation.figure_sets import check_level, figure_set
from src.utils.errors import UserError


class Data:
    """Random samples of a shape, with labels."""

    value_range = "unit"

    def __init__(self, shape: tuple[int, ...], size: int = 40) -> None:
        self.x, self.label = torch.rand(size, *shape), torch.arange(size) % 3

    def spread(self, split: str, count: int) -> torch.Tensor:
        return torch.arange(min(count, len(self.x)))

    def rows(self, split: str, rows: torch.Tensor) -> torch.Tensor:
        return self.x[rows]

    def floats(self, split: str, limit: int) -> torch.Tensor:
        return self.x[:limit]

    def labels(self, split: str) -> torch.Tensor:
        return self.label


def names(model: torch.nn.Module, level: str) -> dict[str, object]:
    with torch.no_grad():
        return dict(figure_set(model.eval(), Data(model.shape), "test", level))


def test_levels_add_to_each_other(tiny_vae):
    model = tiny_vae("model=riemannian_flow", "data.shape=[4,3,16,16]", "model.metric.centroids=6")
    model.latent.refresh_metric(None, torch.randn(30, 4))
    minimal, standard, full = (names(model, level) for level in ("minimal", "standard", "full"))
    assert set(minimal) == {"reconstructions", "samples"}
    assert set(minimal) < set(standard) < set(full)
    assert {"cyclicity", "trajectories", "jacobians", "magnification", "geodesics"} <= set(standard)
    assert all(isinstance(figure, Figure) for figure in standard.values())
    pages = {name for name, figure in full.items() if not isinstance(figure, Figure)}
    assert pages == {"sequences", "latent_trajectories", "metric_slider"}


def test_a_picture_model_with_a_metric_gets_its_figures_too(tiny_vae):
    model = tiny_vae("model=vae", "model/metric=fitted", "model.metric.centroids=6")
    model.latent.refresh_metric(None, torch.randn(30, 4))
    found = names(model, "standard")
    assert {"magnification", "geodesics", "metric_eigenvalues", "interpolations"} <= set(found)
    assert "geodesics" not in names(tiny_vae("model=vae"), "standard")


def test_the_ends_of_geodesics_are_far_apart_and_different():
    codes = torch.randn(100, 5)
    pairs = distant_pairs(codes, 4)
    assert pairs.shape == (2, 4, 5)
    ends = pairs.flatten(0, 1)
    assert torch.pdist(ends).min() > torch.pdist(codes).median() * 0.5
    few = codes[:3].repeat(5, 1)  # three different codes make one pair, one makes none
    assert distant_pairs(few, 4).shape == (2, 1, 5)
    assert distant_pairs(codes[:1].repeat(5, 1), 4).shape == (2, 0, 5)


def test_an_unknown_level_is_refused():
    with pytest.raises(UserError, match="minimal, standard, full"):
        check_level("everything")
