"""The table of runs: one row a run, and how its columns look."""

from datetime import datetime
from typing import Any

import streamlit as st

from src.evaluation.units import unit_of
from src.runs import Run
from src.runs.summary import Summary, duration_text, stamp, summary

# Of so many runs what their files say is kept; a row of the table is asked for every few seconds.
KEPT = 2000


def shown_summary(run: Run) -> Summary:
    """``summary``, kept until one of the run's files changes."""
    return _summary(str(run.path.resolve()), stamp(run), run)


@st.cache_data(max_entries=KEPT, show_spinner=False)
def _summary(path: str, when: tuple[Any, ...], _run: Run) -> Summary:
    return summary(_run)


def run_row(name: str, run: Run) -> dict[str, Any]:
    """What the table tells of a run; empty where its files do not tell."""
    found = shown_summary(run)
    unit = unit_of(found.metric, found.is_pose)
    return {
        "run": name,
        "state": run.state,
        "progress": found.fraction,
        "so far": found.trend,
        "value": found.value,
        "metric": f"{found.metric}, {unit}" if unit else found.metric,
        "epoch": found.epoch,
        "time": None if found.seconds is None else duration_text(found.seconds),
        "started": None if found.started is None else datetime.fromtimestamp(found.started),
        "device": found.device,
        "tags": found.tags,
        "error": found.error,
    }


def run_columns() -> dict[str, Any]:
    """How the columns of ``run_row`` are drawn."""
    column = st.column_config
    return {
        "run": column.TextColumn(width=230, pinned=True),
        "progress": column.ProgressColumn(
            format="percent", min_value=0.0, max_value=1.0, width=120, help="Steps done, of all"
        ),
        "so far": column.LineChartColumn(
            width=90, help="The metric as it was logged, on a scale of its own"
        ),
        "value": column.NumberColumn(
            format="%.4g",
            help="As the run itself says at its end, which is the best value where a checkpoint watches the metric; "
            "before that the latest logged",
        ),
        "metric": column.TextColumn(help="What the run optimises"),
        "started": column.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss"),
        "tags": column.ListColumn(),
    }
