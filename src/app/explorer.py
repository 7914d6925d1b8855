"""The latent space of one run: by sliders, and by maps of it."""

import streamlit as st

from src.app.common import all_runs, choose_run, has_weights, opened, plain, told
from src.app.explorer_codes import aggregate, embeddings, magnification
from src.app.explorer_maps import interpolation, slices, traversals
from src.runs import Run
from src.runs.reading import ALIVE

LIVE = "Live"
# The others and what shows them; only the one that is open is computed.
VIEWS = {
    "Traversals": traversals,
    "Slices": slices,
    "Interpolation": interpolation,
    "Embeddings": embeddings,
    "Prior and posterior": aggregate,
    "Geometry": magnification,
}


def page() -> None:
    """Choose a run and one way to look into its latent space."""
    st.title("Latent explorer")
    runs = all_runs()
    run = choose_run(runs, has_weights)
    if run is None:
        return
    view = st.segmented_control(
        "View",
        [LIVE, *VIEWS],
        default=LIVE,
        required=True,
        key="ex_view",
        bind="query-params",
        label_visibility="collapsed",
    )
    with told():
        _show(run, next(name for name, one in runs.items() if one is run), view or LIVE)


def _show(run: Run, name: str, view: str) -> None:
    explored = opened(run)
    file = explored.weights.relative_to(explored.path)
    said = f"{plain(explored.config['model'].get('name', 'Model'))}, weights of {plain(file)}."
    if run.state != "finished":
        said += f" The run is {plain(run.state)}" + (
            ": its weights may change." if run.state in ALIVE else "."
        )
    st.caption(said)
    if view == LIVE:
        from src.app.board import board

        board(run, name)
    else:
        VIEWS[view](explored)
