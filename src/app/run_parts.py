"""Parts of a page that show one run: its facts, its curves, some of its figures."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from src.app.common import plain, told
from src.app.curve_charts import chart
from src.app.run_table import shown_summary
from src.evaluation.units import unit_of
from src.runs import Run
from src.runs.curves import curves
from src.runs.figures import FigureFile, read_png
from src.runs.summary import duration_text

USUAL = ("loss", "recon_nll", "kl", "mse")


def facts(run: Run, **more: str) -> None:
    """What a run says of itself, shown large, with ``more`` after it, and below it what it failed with."""
    found = shown_summary(run)
    unit = unit_of(found.metric, found.is_pose)
    told_of = {
        "State": run.state,
        "Epoch": found.epoch or "–",
        "Step": "–" if found.step is None else str(found.step),
        f"{found.metric}, {found.source}": "–"
        if found.value is None
        else f"{found.value:.5g} {unit}",
        "Time": "–" if found.seconds is None else duration_text(found.seconds),
        "Device": found.device or "–",
    }
    with st.container(horizontal=True):
        for label, fact in (told_of | more).items():
            st.metric(plain(label), plain(fact), width="content")
    if found.error:
        st.error(plain(found.error))


def curves_part(run: Run, key: str) -> None:
    """Every term that is asked for, in training and validation; ``key`` is that of the box that asks."""
    found = curves(run)
    if not found:
        st.info("Nothing has been logged yet.")
        return
    usual = [term for term in USUAL if term in found]
    chosen = st.multiselect("Terms", sorted(found), usual, key=key, bind="query-params")
    is_pose = shown_summary(run).is_pose
    for place, term in zip(_grid(len(chosen), 2), chosen, strict=True):
        with place:
            chart(term, found[term], is_pose)


def pictures(made: Sequence[FigureFile]) -> None:
    """Figures, three in a row; of one that is damaged, why."""
    for place, figure in zip(_grid(len(made), 3), made, strict=True):
        epoch = "" if figure.epoch is None else f", epoch {figure.epoch}"
        with place, told():
            st.image(read_png(figure.path), caption=plain(f"{figure.name}{epoch}"))


def _grid(number: int, across: int) -> list[Any]:
    """``number`` places, ``across`` in a row."""
    rows = [st.columns(across) for _ in range(-(-number // across))]
    return [place for row in rows for place in row][:number]
