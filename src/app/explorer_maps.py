"""The views of the latent explorer that decode many points: traversals, slices and paths."""

import functools
from typing import TYPE_CHECKING, Any

import streamlit as st

from src.app.explorer_charts import STILL, chart, clicked
from src.app.explorer_settings import (
    Place,
    axes_of,
    choose_class,
    choose_ends,
    choose_pair,
    choose_place,
    choose_reach,
    codes_of,
    dimension_names,
    number_of,
    settings,
    space_of,
    view,
)

if TYPE_CHECKING:  # torch is imported when a model is opened
    from torch import Tensor

    from src.evaluation.exploring.codes import Codes
    from src.evaluation.exploring.paths import Way
    from src.evaluation.exploring.space import LatentSpace
    from src.evaluation.opened import OpenedRun

TRAVERSED = 8
PLANES = ("principal components", "two dimensions")


@view
def traversals(opened: "OpenedRun") -> None:
    """One dimension at a time: a row of samples for each, its value changing from left to right."""
    import torch

    from src.evaluation.figures import moved

    space = space_of(opened)
    codes = codes_of(space)
    names = dimension_names(codes)
    chosen = st.multiselect(
        "Dimensions, the most informative first",
        names,
        names[:TRAVERSED],
        key="ex_dims",
        bind="query-params",
    )
    with settings():
        centre, label = _centre(space)
        reach = choose_reach(space, codes)
        steps = st.slider("Steps", 3, 15, 7, 2, key="ex_steps", bind="query-params")
    if not chosen:
        st.info("Choose at least one dimension.")
        return
    st.caption(f"Around {centre.name}; each row moves one dimension. {_information(codes)}")
    numbers = [number_of(name) for name in chosen]
    z = moved(centre.z, numbers, torch.linspace(-reach, reach, steps))
    figure = _rows_of(space, codes, numbers, z, label)
    chart(figure, "ex_traversals", "Traversals: a row a dimension", width="content", config=STILL)


def _rows_of(
    space: "LatentSpace", codes: "Codes", numbers: list[int], z: "Tensor", label: int | None
) -> Any:
    """What z (R, C, D) is decoded to; row r has the values of dimension ``numbers[r]`` below it."""
    from src.evaluation.exploring.sample_plates import plate

    # The middle is 0, and neither 7e-09 nor −0.
    values = [round(value, 6) + 0.0 for value in z[0, :, numbers[0]].tolist()]
    return plate(
        space.decode(space.project(z), label),
        [codes.told(d) for d in numbers],
        [f"{value:+.3g}" for value in values],
        space.opened.is_pose,
        ("value of the dimension (latent units)", ""),
    )


def _information(codes: "Codes") -> str:
    if codes.unit == "nats":
        return f"Beside it, its mean KL over {len(codes.z)} held-out samples."
    return (
        f"Beside it, the variance of the posterior means of {len(codes.z)} held-out samples (latent units²): posterior "
        "or prior is not factorised, and a KL by dimension is not defined."
    )


def _centre(space: "LatentSpace") -> "tuple[Place, int | None]":
    """What all other dimensions are, and the class that is decoded."""
    centre = choose_place(space, "Centre", "ex_at")
    return centre, choose_class(space, centre.label)


@view
def slices(opened: "OpenedRun") -> None:
    """Two dimensions at a time: what their plane is decoded to, where the data lie on it, and one point of it."""
    from src.evaluation.exploring.slices import at, lattice

    space = space_of(opened)
    codes = codes_of(space)
    with settings():
        pair = choose_pair(codes)
        centre, label = _centre(space)
    with settings():
        reach = choose_reach(space, codes)
        resolution = st.slider("Resolution", 5, 25, 11, key="ex_resolution", bind="query-params")
        point = _chosen_point(pair)
    nodes = lattice(centre.z, pair, reach, resolution)
    st.caption(
        f"All other dimensions as in {centre.name}. A click in either picture decodes that point below."
    )
    left, right = st.columns(2)
    with left:
        _decoded_plane(space, nodes, pair, label)
    with right:
        _map_of_codes(codes, nodes, pair, point)
    _show_point(space, at(centre.z, pair, point), label)


def _decoded_plane(
    space: "LatentSpace", nodes: "Tensor", pair: tuple[int, int], label: int | None
) -> None:
    from src.evaluation.exploring.sample_plates import clickable, plate

    places = nodes[..., list(pair)]
    size = len(nodes)
    figure = plate(
        space.decode(space.project(nodes), label),
        _every(places[:, 0, 1].tolist()),
        _every(places[0, :, 0].tolist()),
        space.opened.is_pose,
        axes_of(pair),
        largest=max(22, 460 // size),
    )
    names = (f"z {pair[0]}", f"z {pair[1]}")
    clickable(figure, places, names)
    chart(
        figure,
        "ex_plane_decoded",
        f"What the plane of {names[0]} and {names[1]} is decoded to",
        functools.partial(clicked, "ex_plane_decoded", _of_cell),
        config=STILL,
    )


def _every(values: list[float], form: str = "+.2g") -> list[str]:
    """Words for some of the values, so that they do not run into each other."""
    apart = -(-len(values) // 7)
    return [format(value, form) if i % apart == 0 else "" for i, value in enumerate(values)]


def _of_cell(point: dict[str, Any]) -> list[tuple[str, Any]]:
    return _set_point(*point["customdata"])


def _of_place(point: dict[str, Any]) -> list[tuple[str, Any]]:
    return _set_point(point["x"], point["y"])


def _set_point(x: float, y: float) -> list[tuple[str, Any]]:
    # Not −0, which would be a different address.
    return [("ex_px", round(float(x), 3) + 0.0), ("ex_py", round(float(y), 3) + 0.0)]


def _map_of_codes(
    codes: "Codes", nodes: "Tensor", pair: tuple[int, int], point: tuple[float, float]
) -> None:
    from src.evaluation.exploring.plots import add_choices, add_mark, scatter

    figure = scatter(codes.z[:, list(pair)], axes_of(pair), codes.rows, codes.labels, "label")
    add_choices(figure, nodes[..., list(pair)].reshape(-1, 2))
    add_mark(figure, *point, "chosen point")
    chart(
        figure,
        "ex_plane_codes",
        "Codes of held-out samples on this plane",
        functools.partial(clicked, "ex_plane_codes", _of_place),
    )


def _chosen_point(pair: tuple[int, int]) -> tuple[float, float]:
    """Where on the plane, by two boxes that a click fills; the origin at first."""
    x, y = (
        st.number_input(f"Point: z {d}", step=0.1, format="%.3f", key=key, bind="query-params")
        for d, key in zip(pair, ("ex_px", "ex_py"), strict=True)
    )
    return float(x), float(y)


def _show_point(space: "LatentSpace", z: "Tensor", label: int | None) -> None:
    """The chosen point, decoded large, with its z."""
    from src.evaluation.exploring.sample_plates import plate

    z = space.project(z)
    left, right = st.columns(2)
    with left:
        decoded = space.decode(z, label)
        figure = plate(decoded[None, None], [""], [""], space.opened.is_pose, largest=256)
        chart(figure, "ex_point", "The chosen point decoded", width="content", config=STILL)
    right.dataframe(
        [{"dimension": f"z {d}", "value (latent units)": v} for d, v in enumerate(z.tolist())],
        hide_index=True,
        height=300,
    )


@view
def interpolation(opened: "OpenedRun") -> None:
    """From one latent point to another by every path that the model has, side by side, with their lengths."""
    from src.evaluation.exploring.paths import no_geodesics, ways
    from src.evaluation.exploring.sample_plates import plate

    space = space_of(opened)
    with settings():
        a, b = choose_ends(space)
    with settings():
        steps = st.slider("Steps", 3, 25, 9, key="ex_path_steps", bind="query-params")
        label = choose_class(space, a.label)
    found = ways(space, a.z, b.z, steps)
    decoded = [space.decode(way.z, label) for way in found]
    st.caption(f"From {a.name} to {b.name}.")
    figure = plate(
        _stacked(decoded),
        [way.name for way in found],
        _every([i / (steps - 1) for i in range(steps)], ".2g"),
        opened.is_pose,
        ("share of the path", ""),
    )
    chart(figure, "ex_paths", "Decoded along each path", width="content", config=STILL)
    if reason := no_geodesics(space):
        st.info(reason)
    _lengths(space, found, decoded)
    _ways_on_plane(space, found)


def _stacked(decoded: "list[Tensor]") -> "Tensor":
    import torch

    return torch.stack(decoded)


def _lengths(space: "LatentSpace", found: "list[Way]", decoded: "list[Tensor]") -> None:
    from src.evaluation.exploring.paths import largest_step

    own = "length in the curved space" if space.curved is not None else "Riemannian length"
    unit = "rad²" if space.opened.is_pose else "intensity²"
    rows = []
    for way, samples in zip(found, decoded, strict=True):
        row = {"path": way.name, "Euclidean length (latent units)": way.euclidean}
        if space.curved is not None or space.metric is not None:
            row[own] = way.riemannian
        rows.append(row | {f"largest step, MSE ({unit})": largest_step(samples)})
    st.dataframe(rows, hide_index=True)
    if any(way.riemannian is None for way in found) and space.curved is not None:
        st.caption("A path without a length there leaves the space, and is decoded as it is.")


def _ways_on_plane(space: "LatentSpace", found: "list[Way]") -> None:
    from src.evaluation.exploring.plots import add_ends, add_ways, scatter

    if space.dim < 2:
        st.info("This model has one latent dimension: its paths lie on one line.")
        return
    codes = codes_of(space)
    kind = st.segmented_control(
        "Plane", PLANES, default=PLANES[0], required=True, key="ex_path_plane", bind="query-params"
    )
    project, axes = _plane(codes, kind or PLANES[0])
    figure = scatter(project(codes.z), axes, codes.rows, codes.labels, "label")
    for trace in figure.data:
        trace.update(marker={"size": 5, "opacity": 0.35}, showlegend=False)
    add_ways(figure, [(way.name, project(way.z)) for way in found])
    add_ends(figure, project(found[0].z[[0, -1]]), ["A", "B"])
    chart(figure, "ex_path_map", "The paths on a plane through the codes")


def _plane(codes: "Codes", kind: str) -> tuple[Any, tuple[str, str]]:
    """What brings z onto the plane, and what its axes show."""
    from src.evaluation.geometry_figures import Plane

    if kind == PLANES[0]:
        plane = Plane.of(codes.z)
        return plane.project, plane.axis_labels()
    with settings():
        pair = choose_pair(codes)
    return lambda z: z[..., list(pair)], axes_of(pair)
