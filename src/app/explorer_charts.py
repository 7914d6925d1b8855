"""Plotly figures of the latent explorer, and what a click on one does."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from src.utils.charts import CHART

STILL = CHART | {"displayModeBar": False}


def chart(figure: Any, key: str, alt: str, on_select: Any = "ignore", **options: Any) -> Any:
    """A plotly figure on the page."""
    options = {"config": CHART, "selection_mode": "points", **options}
    return st.plotly_chart(figure, key=key, alt=alt, on_select=on_select, **options)


def clicked(key: str, find: Callable[[dict[str, Any]], Sequence[tuple[str, Any]]]) -> None:
    """What a click on the chart ``key`` sets: ``find`` makes settings and their values of the chosen point."""
    points = st.session_state[key].selection.points
    if points:
        for setting, value in find(points[0]):
            st.session_state[setting] = value
