"""What the explorer's views are computed by: slices, embeddings, the aggregate posterior, plates and plots."""

import pytest
import torch

from src.evaluation.exploring import aggregate, embeddings, sample_plates
from src.evaluation.exploring import plots as latent_plots
from src.evaluation.exploring.codes import Codes
from src.evaluation.exploring.slices import at, lattice
from src.evaluation.geometry_figures import Plane
from src.utils.errors import UserError
from tests.evaluation.spaces import ROWS, space_of


def clusters(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes in two heaps far apart, and which heap each is in."""
    label = torch.arange(n) % 2
    return torch.randn(n, 5) + 20 * label[:, None], label


def test_a_lattice_holds_the_centre_and_all_pairs_of_values(model_of):
    centre = torch.tensor([0.1, 0.2, 0.3, 0.4])
    z = lattice(centre, (3, 1), 2.0, 5)
    assert z.shape == (5, 5, 4)
    assert (z[..., [0, 2]] == centre[[0, 2]]).all()
    # Upwards is more, as on paper.
    assert z[0, 0, [3, 1]].tolist() == [-2.0, 2.0] and z[-1, -1, [3, 1]].tolist() == [2.0, -2.0]
    assert torch.equal(at(centre, (3, 1), (-2.0, 2.0)), z[0, 0])
    space = space_of(model_of("model=vae"))
    pictures = space.decode(z)
    torch.testing.assert_close(
        pictures[4, 2], space.opened.model.decode(at(centre, (3, 1), (0.0, -2.0))[None]).mean[0]
    )


@pytest.mark.parametrize("method", ["PCA", "t-SNE"])
def test_an_embedding_is_the_same_every_time_and_keeps_heaps_apart(method):
    z, label = clusters()
    first, second = (embeddings.embed(z, method, perplexity=8).points for _ in range(2))
    assert torch.equal(first, second) and first.shape == (40, 2)
    heaps = [first[label == i] for i in (0, 1)]
    nearest = torch.cdist(*heaps).min()
    within = max(torch.cdist(heap, heap.mean(0, keepdim=True)).max() for heap in heaps)
    assert nearest > 0.3 * within


def test_principal_components_tell_the_variance_that_they_explain():
    z = torch.randn(50, 3) * torch.tensor([3.0, 1.0, 0.1])
    found = embeddings.embed(z, "PCA")
    share = found.points.var(0) / z.var(0).sum()
    assert found.axes == (
        f"PC 1 ({share[0]:.0%} of variance)",
        f"PC 2 ({share[1]:.0%} of variance)",
    )


def test_an_embedding_that_cannot_be_is_refused_in_a_sentence(monkeypatch):
    z, _ = clusters(20)
    with pytest.raises(UserError, match="fewer than 20 neighbours"):
        embeddings.embed(z, "t-SNE", perplexity=20)
    with pytest.raises(UserError, match="at least 2 dimensions"):
        embeddings.embed(z[:, :1], "PCA")
    monkeypatch.setattr(embeddings, "has_umap", lambda: False)
    with pytest.raises(UserError, match=r"not installed; pip install .*\[umap\]"):
        embeddings.embed(z, "UMAP")


def test_the_wasserstein_distance_of_a_shift_is_the_shift():
    z = torch.randn(200, 2)
    shifted = z[torch.randperm(200)] + torch.tensor([0.5, 0.0])
    torch.testing.assert_close(aggregate.wasserstein(z, shifted), torch.tensor([0.5, 0.0]))


def test_the_aggregate_posterior_is_drawn_from_the_posteriors_and_compared_with_the_prior(model_of):
    space = space_of(model_of("model=vae"))
    codes = space.codes(ROWS)
    both = aggregate.aggregate(space, codes, seed=1)
    assert torch.equal(both.q, space.posterior_draws(codes.rows, 1))
    assert both.p.shape == both.q.shape and not torch.equal(both.p, both.q)
    rows = aggregate.table(codes, both)
    assert [row["dimension"] for row in rows] == [f"z {d}" for d in codes.order]
    first = codes.order[0]
    assert rows[0]["KL (nats)"] == pytest.approx(float(codes.kl[first]))
    assert rows[0]["mean of q(z) (latent units)"] == pytest.approx(float(both.q[:, first].mean()))
    assert rows[0]["W₁(q, p) (latent units)"] == pytest.approx(float(both.distance[first]))
    assert torch.equal(both.normal, torch.stack([torch.zeros(4), torch.ones(4)]))


def test_without_a_prior_the_aggregate_posterior_stands_alone(model_of):
    space = space_of(model_of("model=rae_l2"))
    both = aggregate.aggregate(space, space.codes(ROWS), seed=0)
    assert both.p is None and both.distance is None
    assert "mean of p(z) (latent units)" not in aggregate.table(space.codes(ROWS), both)[0]
    assert len(latent_plots.pair(both, (0, 1)).data) == 1


def test_a_density_integrates_to_one():
    edges = torch.linspace(-6, 6, 25)
    height = aggregate.density(torch.randn(500), edges)
    assert float((height * edges.diff()).sum()) == pytest.approx(1)


def test_a_mosaic_has_every_picture_in_its_cell():
    samples = torch.arange(6.0).view(2, 3, 1, 1, 1).expand(2, 3, 1, 40, 40) / 10
    whole = sample_plates.mosaic(samples)
    assert whole.shape == (1, 81, 122)  # a line of one pixel between pictures
    assert float(whole[0, 60, 100]) == pytest.approx(0.5)
    assert float(whole[0, 20, 20]) == 0 and float(whole[0, 40, 0]) == sample_plates.GAP


@pytest.mark.parametrize(("shape", "pose"), [((3, 8, 8), False), ((30, 3), True), ((7,), False)])
def test_a_plate_draws_every_kind_of_sample_between_its_ticks(shape, pose):
    samples = torch.rand(2, 3, *shape)
    figure = sample_plates.plate(samples, ["a", "b"], ["1", "2", "3"], pose)
    assert figure.layout.xaxis.ticktext == ("1", "2", "3")
    assert figure.layout.yaxis.ticktext == ("a", "b")
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first row at the top
    for trace in figure.data:
        if trace.type == "scatter":
            x = torch.tensor([value for value in trace.x if value == value])
            low, high = figure.layout.xaxis.range
            # Cells a third as wide as the figure, and something in each.
            assert set(((x - low) / (high - low) * 3).long().tolist()) == {0, 1, 2}
    drawn = [sample_plates.plate(x, [""] * 2, [""] * 3, pose) for x in (samples, samples.flip(1))]
    again = sample_plates.plate(samples, [""] * 2, [""] * 3, pose)
    assert again.to_json() == drawn[0].to_json() != drawn[1].to_json()


def test_a_click_on_a_plate_tells_the_values_of_its_cell():
    z = lattice(torch.zeros(2), (0, 1), 1.0, 3)
    figure = sample_plates.plate(torch.rand(3, 3, 1, 8, 8), [""] * 3, [""] * 3)
    sample_plates.clickable(figure, z, ("z 0", "z 1"))
    nodes = figure.data[-1]
    found = dict(zip(zip(nodes.x, nodes.y, strict=True), nodes.customdata.tolist(), strict=True))
    corner = found[figure.layout.xaxis.tickvals[0], figure.layout.yaxis.tickvals[2]]
    assert corner == [-1.0, -1.0]


def test_codes_are_coloured_one_by_one_where_labels_are_few_and_by_a_scale_where_many():
    points, rows = torch.randn(60, 2), torch.arange(100, 160)
    few = latent_plots.scatter(points, ("x", "y"), rows, torch.arange(60) % 3, "label")
    assert [trace.name for trace in few.data] == ["label 0", "label 1", "label 2"]
    told = {
        row: (x, y)
        for trace in few.data
        for row, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }
    assert sorted(told) == rows.tolist()
    assert told[107] == pytest.approx(tuple(points[7].tolist()))
    many = latent_plots.scatter(points, ("x", "y"), rows, torch.arange(60), "label")
    assert len(many.data) == 1 and list(many.data[0].marker.color) == list(range(60))


def test_the_map_has_the_metrics_values_under_the_codes():
    codes = Codes(torch.randn(30, 3), None, torch.arange(30), None, None)
    plane = Plane.of(codes.z)
    figure = latent_plots.magnification_plot(plane, codes.z, lambda z: -z.square().sum(-1))
    squares = codes.z.square().sum(-1) / torch.tensor(10.0).log()
    assert list(figure.data[1].marker.color) == pytest.approx(squares.tolist(), rel=1e-4)
    latent_plots.add_ways(figure, [("linear", torch.zeros(5, 2)), ("linear", torch.ones(5, 2))])
    shown = [trace.showlegend for trace in figure.data if trace.name == "linear"]
    assert shown == [True, False]


def test_densities_show_the_exact_prior_where_it_is_known():
    q, p = torch.randn(100, 2), torch.randn(100, 2)
    both = aggregate.Aggregate(q, p, torch.zeros(2), torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    curve = latent_plots.densities(both, 1).data[-1]
    assert curve.name == "p(z), exact"
    assert max(curve.y) == pytest.approx(1 / (2 * (2 * torch.pi) ** 0.5), rel=1e-2)
