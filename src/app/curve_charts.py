"""Learning curves as charts: training and validation of one term in one chart."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from src.evaluation.units import unit_of
from src.runs.curves import STAGES, Point, thin

POINTS = 300  # of a curve
DOTTED = 20  # points up to which every one of them has a mark; a single one has no line


def chart(term: str, points: Sequence[Point], is_pose: bool, height: int = 300) -> None:
    """One term over the optimiser's steps, thinned so that no peak is lost."""
    unit = unit_of(term, is_pose)
    st.text(f"{term}, {unit}" if unit else term)
    spec = _spec(unit or term, len(points) <= DOTTED * len(STAGES))
    st.vega_lite_chart(thin(points, POINTS), spec, height=height)  # type: ignore[arg-type]


def _spec(title: str, dotted: bool) -> dict[str, Any]:
    def axis(name: str, text: str) -> dict[str, Any]:
        return {"field": name, "type": "quantitative", "title": text, "scale": {"zero": False}}

    stage = {"field": "stage", "type": "nominal", "scale": {"domain": [*STAGES]}}
    return {
        "mark": {"type": "line", "point": dotted, "tooltip": True},
        "encoding": {
            "x": axis("step", "optimiser steps") | {"axis": {"tickMinStep": 1}},
            "y": axis("value", title),
            "color": stage | {"title": None, "legend": {"orient": "bottom", "offset": 4}},
        },
    }
