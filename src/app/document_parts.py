"""Parts of a document on a page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from src.app.common import plain
from src.utils.charts import CHART

if TYPE_CHECKING:
    from src.evaluation.comparing.document import Part, Table

# Rows up to which a table is shown whole.
WHOLE = 60
# Behind cells, on a light page and on a dark one.
TONES = {
    "good": "background-color: rgba(22, 163, 74, 0.22)",
    "bad": "background-color: rgba(220, 38, 38, 0.2)",
}


def show(parts: Sequence["Part"], key: str, nothing: str = "") -> None:
    """Show parts one below the other.

    Args:
        key: of the first widget; the others are numbered.
        nothing: said where there are none, or only an empty table.
    """
    from src.evaluation.comparing.document import Chart, Picture, Table, Text

    if nothing and not any(not isinstance(part, Table) or part.rows for part in parts):
        st.info(nothing)
        return
    for number, part in enumerate(parts):
        if isinstance(part, Text):
            st.caption(plain(part.words))
        elif isinstance(part, Table):
            table(part, f"{key}_{number}")
        elif isinstance(part, Picture):
            st.image(part.png, caption=plain(part.caption))
        elif isinstance(part, Chart):
            st.plotly_chart(part.figure, config=CHART, key=f"{key}_{number}")
            st.caption(plain(part.caption))


def table(content: "Table", key: str) -> None:
    """A table whose first column stays in view; bold and tones as they are in the document."""
    import pandas as pd  # type: ignore[import-untyped]

    frame = pd.DataFrame(content.plain_rows(), dtype=str)
    styled = (
        frame.style.apply(lambda _: _styles(content, frame), axis=None) if len(frame) else frame
    )
    columns: Any = {
        name: st.column_config.TextColumn(pinned=k == 0) for k, name in enumerate(frame)
    }
    height: Any = "content" if len(frame) <= WHOLE else "auto"
    st.dataframe(styled, hide_index=True, key=key, column_config=columns, height=height)


def _styles(content: "Table", frame: Any) -> Any:
    styles = frame.map(lambda _: "")
    for row, column in content.bold:
        styles.iat[row, column] = "font-weight: bold"
    for (row, column), tone in content.tones.items():
        styles.iat[row, column] = TONES[tone]
    return styles
