"""Experiments: configure a training, queue it, follow it, and decide what becomes of it."""

import streamlit as st

from src.app.common import all_runs, told
from src.app.experiments_configure import clone, configure
from src.app.experiments_queue import queue
from src.app.experiments_run import follow

CONFIGURE, QUEUE, RUN = TABS = ("Configure", "Queue", "Run")
TAB = "ex_tab"
SECONDS = 3  # between two looks for the first run


def page() -> None:
    """Three tabs, of which the open one is built."""
    st.title("Experiments")
    _read_address()
    for tab, show in zip(
        st.tabs(TABS, key=TAB, on_change="rerun", bind="query-params"),
        (configure, queue, _run),
        strict=True,
    ):
        if tab.open:
            with tab:
                show()


def _read_address() -> None:
    """Open the tab that an address means: ``experiments?run=…`` that run, ``experiments?clone=…`` a copy of one."""
    asked = st.query_params
    if name := asked.get("clone"):
        del asked["clone"]
        with told():
            clone(name)
        st.session_state[TAB] = CONFIGURE
    elif "run" in asked and TAB not in asked and TAB not in st.session_state:
        st.session_state[TAB] = RUN


def _run() -> None:
    runs = all_runs()
    follow(runs)
    if not runs:
        st.fragment(_wait_for_the_first, run_every=SECONDS)()


def _wait_for_the_first() -> None:
    if all_runs():
        st.rerun()
