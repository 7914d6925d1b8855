"""Many uploaded samples as a table, and their codes, to be downloaded."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from src.app.common import weights_of

if TYPE_CHECKING:
    from src.evaluation.inference.batches import Batch
    from src.evaluation.inference.infer import Yardstick
    from src.evaluation.inference.uploads import Samples
    from src.evaluation.opened import OpenedRun

# Rows on the page; the file has all.
SHOWN = 1000


def many(
    run: "OpenedRun", samples: "Samples", c: int | None, yardstick: "Yardstick | None"
) -> None:
    """Evaluate all of them when asked, and keep the result until something else is chosen."""
    from src.evaluation.inference.batches import evaluate

    st.subheader("All samples")
    key = (weights_of(run), c, id(samples))
    kept = st.session_state.get("_inf_batch")
    if st.button(f"Evaluate all {len(samples):,} samples", key="inf_evaluate", type="primary"):
        bar = st.progress(0.0, "Evaluating …")
        # The samples are kept with their result: their id is theirs as long as they live.
        kept = (key, evaluate(run, samples, yardstick, c, bar.progress), samples)
        st.session_state["_inf_batch"] = kept
        bar.empty()
    if kept is not None and kept[0] == key:
        _show(kept[1])


def _show(batch: "Batch") -> None:
    rows = batch.rows()
    if len(rows) > SHOWN:
        st.caption(f"The first {SHOWN:,} of {len(rows):,}; the files have all.")
    st.dataframe(rows[:SHOWN], hide_index=True, key="inf_table")
    with st.container(horizontal=True):
        _download("Table (CSV)", batch.table_csv, "table.csv", "text/csv")
        _download("Codes (CSV)", batch.codes_csv, "codes.csv", "text/csv")
        _download("Codes (NPZ)", batch.codes_npz, "codes.npz", "application/octet-stream")


def _download(label: str, content: Callable[[], str | bytes], file: str, kind: str) -> None:
    # The file is made when it is asked for; nothing on the page depends on a download.
    st.download_button(label, content, file, kind, key=f"inf_{file}", on_click="ignore")
