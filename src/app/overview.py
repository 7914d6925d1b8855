"""What runs there are and what came out of one; everything on the page is read from the run's files."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import streamlit as st

from src.runs import Run, list_runs

USUAL = ("loss", "recon_nll", "kl", "mse")


def page() -> None:
    """All runs below LATENT_LAB_LOGS, else logs/, and one of them in full."""
    st.title("Runs")
    root = Path(os.environ.get("LATENT_LAB_LOGS", "logs"))
    try:
        runs = {str(run.path.relative_to(root)): run for run in list_runs(root)}
        if runs:
            st.dataframe([{"run": name} | _row(run) for name, run in runs.items()], hide_index=True)
            st.caption(
                "dead: the run says that it is alive, but its process is gone; "
                "ckpt_path=…/checkpoints/last.ckpt goes on with it."
            )
            _show(runs[st.selectbox("Run", list(runs))])
        else:
            st.info(f"There are no runs in {root} yet. Make one, in less than a minute, with")
            st.code("python run_experiment.py", language="bash")
    except ValueError as error:
        # A broken file; told as plain text, for its content may be anybody's.
        st.error("A run's files cannot be read.")
        st.text(error)


def _row(run: Run) -> dict[str, Any]:
    progress, started = run.info.get("progress") or {}, run.info.get("started")
    when = datetime.fromtimestamp(started).strftime("%Y-%m-%d %H:%M:%S") if started else None
    shown = {
        "state": run.state,
        "started": when,
        "epoch": progress.get("epoch"),
        "of": progress.get("max_epochs"),
    }
    return shown | {"step": progress.get("step"), "error": run.info.get("error")}


def _show(run: Run) -> None:
    st.subheader("Results")
    if metrics := run.results.get("metrics"):
        rows = [
            {"metric": name, "unit": m["unit"], "this model": m["value"]} | m["baselines"]
            for name, m in metrics.items()
        ]
        st.dataframe(rows, hide_index=True)
    else:
        st.info("This run has not been tested: it has no results.json.")
    st.subheader("Curves")
    if curves := _curves(run):
        chosen = st.multiselect("Terms", sorted(curves), [term for term in USUAL if term in curves])
        for column, term in zip(st.columns(max(len(chosen), 1)), chosen, strict=False):
            column.text(term)
            column.line_chart(curves[term], x="step", y=term, color="stage")
    else:
        st.info("Nothing has been logged yet.")
    st.subheader("Figures")
    pictures = sorted((run.path / "figures").glob("*.png"))
    for picture in pictures:
        st.image(picture.read_bytes(), caption=picture.stem)
    if not pictures:
        st.info("This run has no figures yet; they are made when it is tested.")


def _curves(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Term → points, of the logged training and validation metrics."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in run.metrics():
        for name, value in row["metrics"].items():
            stage, _, term = name.partition("/")
            if stage in ("train", "val") and value is not None and row["step"] is not None:
                found.setdefault(term, []).append(
                    {"step": row["step"], "stage": stage, term: value}
                )
    return found
