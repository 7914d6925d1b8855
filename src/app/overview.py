"""What runs there are and what came out of one; everything on the page is read from the run's files."""

import streamlit as st

from src.app.common import all_runs, choose_run, has_weights, link, logs_root, page_at, plain, told
from src.app.run_parts import curves_part, facts, pictures
from src.app.run_table import run_columns, run_row
from src.runs import Run
from src.runs.figures import figures
from src.runs.machine import folder_size, size_text
from src.runs.queue import RUNNING, WAITING, enqueue, jobs
from src.runs.summary import mentions, result_rows

TABS = ("Results", "Curves", "Figures")
STATES = ("starting", "running", "paused", "finished", "stopped", "failed", "dead", "unreadable")
ROWS = 50  # runs on one page of the table
PICTURES = 6
SECONDS = 3  # between two looks at the runs


def page() -> None:
    """All runs below the logs, and one of them in short."""
    st.title("Runs")
    runs = all_runs()
    if not runs:
        st.fragment(_without_runs, run_every=SECONDS)()
        return
    left, right = st.columns([1, 3])
    left.text_input(
        "Name, tag, note or error has", key="ov_text", bind="query-params", type="search", live=True
    )
    right.pills("State", STATES, selection_mode="multi", key="ov_state", bind="query-params")
    st.fragment(_table, run_every=SECONDS)()
    st.subheader("One run")
    if run := choose_run(runs):
        with told():
            _show(run)


def _without_runs() -> None:
    if all_runs():  # the first one is there
        st.rerun()
    st.info(
        f"There are no runs in {plain(logs_root())} yet. One click trains the quick example, a VAE of handwritten "
        "digits: less than a minute on two cores."
    )
    if st.button("Train the quick example", type="primary", key="ov_train"):
        with told():
            enqueue(logs_root(), [])
            st.switch_page(page_at("experiments"), query_params={"ex_tab": "Queue"})
    if working := sum(job.state in (RUNNING, WAITING) for job in jobs(logs_root())):
        st.caption(f"Jobs of the queue that wait or are about to make a run: {working}")
    st.markdown("The same from a shell:")
    st.code("python run_experiment.py", language="bash")


def _table() -> None:
    if st.session_state.pop("ov_chosen", False):
        st.rerun()  # the run below the table is another one
    runs = {name: run for name, run in all_runs().items() if _is_asked_for(run)}
    pages = max(1, -(-len(runs) // ROWS))
    first = (st.pagination(pages, key="ov_page") - 1) * ROWS if pages > 1 else 0
    names = [*runs][first : first + ROWS]
    if not names:
        st.info("No run is like that.")
        return
    key = f"ov_table_{abs(hash(tuple(names)))}"  # where rows move, none of them stays chosen
    st.dataframe(
        [run_row(name, runs[name]) for name in names],
        hide_index=True,
        column_config=run_columns(),
        placeholder="–",
        alt="Runs, newest first",
        key=key,
        on_select=lambda: _choose(key, names),
        selection_mode="single-row",
    )
    st.caption(
        f"{len(runs)} runs. A click on the box at the left of a row shows that run below. dead: the run says that it "
        "is alive, but its process is gone; Experiments can go on with it."
    )


def _choose(key: str, names: list[str]) -> None:
    """The selected row becomes the chosen run, here and in the address."""
    if rows := st.session_state[key]["selection"]["rows"]:
        st.session_state["run"] = names[rows[0]]
        st.session_state["ov_chosen"] = True


def _is_asked_for(run: Run) -> bool:
    states, text = st.session_state.get("ov_state"), st.session_state.get("ov_text")
    return (not states or run.state in states) and (not text or mentions(run, text))


def _show(run: Run) -> None:
    _links(run)
    facts(run, **{"On disk": size_text(folder_size(run.path))})
    # Only what is looked at is made: the first page of the app must not wait for charts.
    tabs = st.tabs(TABS, key="ov_tab", on_change="rerun", bind="query-params")
    for tab, show in zip(tabs, (_results, _curves, _figures), strict=True):
        if tab.open:
            with tab, told():
                show(run)


def _curves(run: Run) -> None:
    curves_part(run, "ov_terms")


def _links(run: Run) -> None:
    name = str(run.path.relative_to(logs_root()))
    with st.container(horizontal=True):
        link("experiments", "Follow and control", run=name)
        if has_weights(run):
            link("explorer", "Explore its latent space", run=name)
            link("inference", "Ask it", run=name)
        link("compare", "Compare", cmp_runs=name)
        link("gallery", "All figures", run=name)


def _results(run: Run) -> None:
    if rows := result_rows(run):
        alt = "Tested metrics beside their baselines"
        st.dataframe(rows, hide_index=True, placeholder="–", alt=alt)
    else:
        st.info("This run has not been tested: it has no results.json.")


def _figures(run: Run) -> None:
    made = [figure for figure in figures(run.path) if not figure.is_page]
    pictures(made[:PICTURES])
    if not made:
        st.info("This run has no figures yet; they are made when it is tested.")
    elif len(made) > PICTURES:
        st.caption(f"{len(made) - PICTURES} more are in the gallery.")
