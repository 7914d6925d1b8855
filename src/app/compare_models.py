"""What of a comparison takes the models themselves: pictures of the same data, and numbers measured now."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from src.app.common import has_weights, opened, plain, stamp, told
from src.app.document_parts import show
from src.runs import Run

if TYPE_CHECKING:
    from src.evaluation.comparing.chosen_runs import Chosen
    from src.evaluation.comparing.document import Part

# Pictures kept for all windows.
KEPT = 8
MEASURED = "cmp_measured"


def pictures(chosen: "Chosen") -> None:
    """Reconstructions and samples of the first seed of every group."""
    from src.evaluation.comparing.document import Picture
    from src.evaluation.comparing.run_report import CAPTIONS

    count = st.slider("Rows", 1, 6, 2, key="cmp_rows", bind="query-params")
    found = shown_pictures(chosen, count)
    show([Picture(png, CAPTIONS[name]) for name, png in found.items()], "cmp_picture")


def shown_pictures(chosen: "Chosen", count: int = 2) -> dict[str, bytes]:
    """``reconstructions`` and ``samples`` → PNG, of the models that have weights; a sentence where none has."""
    runs = _with_weights(chosen)
    if not runs:
        st.info("None of these runs has weights yet: there is nothing to make pictures with.")
        return {}
    found: dict[str, bytes] = {}
    with told():
        found, remarks = _drawn(_key(runs), count, runs)
        for remark in remarks:
            st.caption(plain(remark))
    return found


def _with_weights(chosen: "Chosen") -> dict[str, Run]:
    """Label → the group's first run that has weights."""
    runs: dict[str, Run] = {}
    for entry in chosen.readable:
        if has_weights(entry.run):
            runs.setdefault(entry.group, entry.run)
    return runs


@st.cache_data(max_entries=KEPT, show_spinner="Asking the models …")
def _drawn(
    key: tuple[Any, ...], count: int, _runs: Mapping[str, Run]
) -> tuple[dict[str, bytes], list[str]]:
    from src.evaluation.comparing.run_report import picture_files

    return picture_files({label: opened(run) for label, run in _runs.items()}, count)


def now(chosen: "Chosen") -> None:
    """A few metrics of every model on the same held-out data, whatever it was tested on, if at all."""
    runs = _with_weights(chosen)
    if not runs:
        st.info("None of these runs has weights yet: there is nothing to measure.")
        return
    st.write(
        "Measures the models on held-out data of the first one, here and now: for runs that have not been tested, or "
        "were tested in another way."
    )
    first, second, third = st.columns(3, vertical_alignment="bottom")
    count = first.number_input(
        "Samples, at most", 10, 100_000, 500, key="cmp_samples", bind="query-params"
    )
    k = second.number_input(
        "Importance samples of the NLL", 1, 1000, 16, key="cmp_k", bind="query-params"
    )
    if third.button("Measure now", type="primary", width="stretch"):
        with told():
            st.session_state[MEASURED] = _measure(runs, int(count), int(k))
    parts = measured_parts(chosen)
    show(parts, "cmp_now")
    if MEASURED in st.session_state and not parts:
        st.info("What was measured was of other runs or weights than these; measure again.")


def _key(runs: Mapping[str, Run]) -> tuple[Any, ...]:
    return tuple((label, str(run.path), stamp(run.path)) for label, run in runs.items())


def _measure(runs: Mapping[str, Run], count: int, k: int) -> tuple[Any, list["Part"]]:
    from src.evaluation.comparing.measured import measured_now

    bar = st.progress(0.0, "Opening the models …")
    models = {label: opened(run) for label, run in runs.items()}
    found = measured_now(models, count, k, partial(_tell, bar))
    bar.empty()
    return _key(runs), found


def _tell(bar: Any, done: float, name: str) -> None:
    bar.progress(done, f"Measuring {plain(name)} …")


def measured_parts(chosen: "Chosen") -> list["Part"]:
    """What was measured in this window, if it was of these runs with these weights."""
    key, parts = st.session_state.get(MEASURED, (None, []))
    return parts if key == _key(_with_weights(chosen)) else []
