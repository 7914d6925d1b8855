"""The views of the latent explorer that show many codes at once: embeddings, the aggregate posterior, the metric."""

import functools
from typing import TYPE_CHECKING, Any

import streamlit as st

from src.app.explorer_charts import STILL, chart, clicked
from src.app.explorer_settings import (
    choose_ends,
    choose_pair,
    codes_of,
    dimension_names,
    kept,
    number_of,
    settings,
    space_of,
    view,
)

if TYPE_CHECKING:  # torch is imported when a model is opened
    from torch import Tensor

    from src.evaluation.exploring.aggregate import Aggregate
    from src.evaluation.exploring.codes import Codes
    from src.evaluation.exploring.embeddings import Embedding
    from src.evaluation.exploring.paths import Pairs
    from src.evaluation.exploring.space import LatentSpace
    from src.evaluation.opened import OpenedRun

COUNTS = (100, 200, 500, 1000, 2000)
MOST_PAIRS = 6
ENDS = ("codes far apart", "two points")
NO_METRIC = "This model has no latent metric: distances in its latent space are Euclidean, and there is no map to draw."


@view
def embeddings(opened: "OpenedRun") -> None:
    """Codes of held-out data on a plane; a click on one shows its sample and the reconstruction."""
    from src.evaluation.exploring.embeddings import METHODS
    from src.evaluation.exploring.plots import scatter

    space = space_of(opened)
    with settings():
        method = st.segmented_control(
            "Method", METHODS, default="PCA", required=True, key="ex_method", bind="query-params"
        )
        count = choose_count()
        codes = codes_of(space, count)
        name, values = _colours(codes)
    embedding = _embedded(space, count, method or "PCA", _options(method))
    st.caption(f"Posterior means of {len(codes.z)} held-out samples. A click on a point shows it.")
    left, right = st.columns([3, 2])
    with left:
        chart(
            scatter(embedding.points, embedding.axes, codes.rows, values, name),
            "ex_embedding",
            f"{method} of posterior means",
            functools.partial(clicked, "ex_embedding", _row_of),
        )
    with right:
        _show_row(space)


def choose_count() -> int:
    """How many held-out samples are encoded."""
    return int(st.selectbox("Held-out samples", COUNTS, 2, key="ex_count", bind="query-params"))


def _colours(codes: "Codes") -> "tuple[str, Tensor | None]":
    """What codes are coloured by: the label, a factor, or nothing."""
    options: dict[str, Tensor | None] = {}
    if codes.labels is not None:
        options["label"] = codes.labels
    if codes.factors is not None:
        options |= {f"factor {i}": codes.factors[:, i] for i in range(codes.factors.shape[1])}
    options["nothing"] = None
    name = st.selectbox("Colour", [*options], key="ex_colour", bind="query-params")
    return name, options[name]


def _options(method: str | None) -> dict[str, int]:
    """What the method takes beside the codes."""
    if method == "t-SNE":
        near = st.slider("Perplexity", 2, 100, 30, key="ex_perplexity", bind="query-params")
        return {"perplexity": near}
    if method == "UMAP":
        with settings():
            near = st.slider("Neighbours", 2, 100, 15, key="ex_neighbours", bind="query-params")
            seed = st.number_input("Seed", 0, 2**31 - 1, key="ex_umap_seed", bind="query-params")
        return {"neighbours": near, "seed": int(seed)}
    return {}


@kept("Embedding the codes …")
def _embedded(
    space: "LatentSpace", count: int, method: str, options: dict[str, int]
) -> "Embedding":
    from src.evaluation.exploring.embeddings import embed

    return embed(codes_of(space, count).z, method, **options)


def _row_of(point: dict[str, Any]) -> list[tuple[str, Any]]:
    row = point.get("customdata")
    row = row[0] if isinstance(row, list | tuple) else row
    return [] if row is None else [("ex_row", int(row))]


def _show_row(space: "LatentSpace") -> None:
    """One held-out sample beside what the model makes of it."""
    import torch

    from src.evaluation.exploring.sample_plates import plate

    last = space.held_out - 1
    row = int(
        st.number_input(f"Held-out sample, 0 to {last}", 0, last, key="ex_row", bind="query-params")
    )
    x, label = space.sample(row)
    y = space.decode(space.code_of(row), label)
    pair = torch.stack([x, y])[None]
    words = ["held-out sample", "reconstruction"]
    figure = plate(pair, [""], words, space.opened.is_pose, largest=160)
    chart(figure, "ex_sample", "Sample and reconstruction", width="content", config=STILL)
    unit = "rad²" if space.opened.is_pose else "intensity²"
    known = "" if label is None else f"label {label}; "
    st.caption(f"Row {row}: {known}MSE {float((x - y).square().mean()):.4g} {unit}.")


@view
def aggregate(opened: "OpenedRun") -> None:
    """The aggregate posterior beside the prior: a dimension, a pair of dimensions, and numbers of all."""
    from src.evaluation.exploring.aggregate import table
    from src.evaluation.exploring.plots import densities, pair

    space = space_of(opened)
    with settings():
        count = choose_count()
        codes = codes_of(space, count)
        names = dimension_names(codes)
        dimension = number_of(
            st.selectbox("Dimension", names, key="ex_dimension", bind="query-params")
        )
        seed = int(
            st.number_input("Seed of the draws", 0, 10**6, 0, key="ex_seed", bind="query-params")
        )
    both = _aggregate(space, count, seed)
    _tell_difference(space, codes, both)
    chart(densities(both, dimension), "ex_densities", f"Densities of z {dimension}", config=STILL)
    if space.dim > 1:
        with settings():
            chosen = choose_pair(codes)
        chart(pair(both, chosen), "ex_pair", "Draws in two dimensions", config=STILL)
    st.dataframe(table(codes, both), hide_index=True)
    st.caption(
        "W₁ is the Wasserstein distance of the two marginals; equal densities would have about the last column's at "
        "this number of draws."
    )


@kept("Drawing from prior and posterior …")
def _aggregate(space: "LatentSpace", count: int, seed: int) -> "Aggregate":
    from src.evaluation.exploring.aggregate import aggregate as drawn

    return drawn(space, codes_of(space, count), seed)


def _tell_difference(space: "LatentSpace", codes: "Codes", both: "Aggregate") -> None:
    n = len(both.q)
    if both.distance is None or both.floor is None:
        st.info("This model has no prior, and no density fitted to its codes: q(z) is shown alone.")
    else:
        left, right = st.columns(2)
        mean, floor = float(both.distance.mean()), float(both.floor.mean())
        left.metric(
            "Mean W₁(q, p) over dimensions (latent units)",
            f"{mean:.3f}",
            help=f"Equal densities would have {floor:.3f} with {n} draws.",
        )
        if codes.kl is not None:
            right.metric("Sum of KL over dimensions (nats)", f"{float(codes.kl.sum()):.2f}")
        conditional = space.classes is not None and space.opened.model.sampler is None
        given = ", given the same labels" if conditional else ""
        st.caption(
            f"q(z): one posterior draw for each of {n} held-out samples; p: {n} draws from {space.source}{given}. "
            f"Equal densities would have a mean W₁ of {floor:.3f}."
        )


@view
def magnification(opened: "OpenedRun") -> None:
    """The latent metric on the plane of the codes, and geodesics over it beside straight lines."""
    from src.evaluation.exploring.paths import between

    space = space_of(opened)
    if not _has_map(space):
        return
    codes = codes_of(space)
    ends = _ends(space, codes)
    if not ends.shape[1]:
        st.info("All codes are the same point: there are no two ends for a path.")
        return
    paths = between(space, ends)
    _map(space, codes, paths)
    st.dataframe(_lengths(paths), hide_index=True)


def _map(space: "LatentSpace", codes: "Codes", paths: "Pairs") -> None:
    from src.evaluation.exploring.plots import add_ends, add_ways, magnification_plot
    from src.evaluation.geometry_figures import Plane

    plane = Plane.of(codes.z)
    figure = magnification_plot(plane, codes.z, space.metric.half_logdet_inverse)
    both, count = (("linear", paths.straight), ("geodesic", paths.curved)), len(paths.lengths)
    add_ways(figure, [(n, plane.project(z[:, i])) for n, z in both for i in range(count)], True)
    words = [str(i + 1) for i in range(count)]
    add_ends(figure, plane.project(paths.curved[[0, -1]]).flatten(0, 1), words * 2)
    alt = "Magnification of the latent metric on the plane of the codes"
    chart(figure, "ex_magnification", alt, width="content")
    shown = float(plane.explained.sum())
    st.caption(
        f"log₁₀ √det G, the decades by which the metric enlarges latent volume, on a plane that shows {shown:.0%} of "
        f"the variance of {len(codes.z)} codes; each code is filled with the value at itself, beside the plane."
    )


def _ends(space: "LatentSpace", codes: "Codes") -> "Tensor":
    """Ends of paths, (2, P, D): codes that lie far apart, or two points of one's own."""
    import torch

    from src.evaluation.codes import distant_pairs

    kind = st.segmented_control(
        "Ends of the paths",
        ENDS,
        default=ENDS[0],
        required=True,
        key="ex_ends",
        bind="query-params",
    )
    if kind == ENDS[1]:
        with settings():
            a, b = choose_ends(space)
        return torch.stack([a.z, b.z])[:, None]
    count = st.slider("Pairs of codes", 1, MOST_PAIRS, 4, key="ex_pairs", bind="query-params")
    return distant_pairs(codes.z, count)


def _lengths(paths: "Pairs") -> list[dict[str, Any]]:
    rows = []
    for i, (straight, curved) in enumerate(paths.lengths.tolist()):
        row = {
            "path": i + 1,
            "geodesic (Riemannian length)": curved,
            "straight line (Riemannian length)": straight,
            "geodesic / line": curved / straight if straight else None,
        }
        euclidean = paths.straight[-1, i] - paths.straight[0, i]
        rows.append(row | {"straight line (latent units)": float(euclidean.norm())})
    return rows


def _has_map(space: "LatentSpace") -> bool:
    """Whether there is a metric to draw; if not, why."""
    if space.metric is not None and space.dim > 1:
        return True
    if space.metric is not None:
        st.info("A map needs two latent dimensions, and this model has one.")
    elif space.latent.metric is not None:
        st.info("This model's latent metric has not been fitted yet: until then it is Euclidean.")
    elif space.curved is not None:
        st.info(
            f"This latent space, {space.latent.posterior.support}, has its geometry by definition and no learned "
            "metric; the view Interpolation has its geodesics and their lengths."
        )
    else:
        st.info(NO_METRIC)
    return False
