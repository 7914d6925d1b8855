"""The queue: what waits, what runs, what has ended, and how many run at once."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import streamlit as st

from src.app.common import all_runs, logs_root, plain, told
from src.runs import Run
from src.runs.queue import (
    CANCELLED,
    ENDED,
    FAILED,
    FINISHED,
    MOST_SLOTS,
    RUNNING,
    WAITING,
    Job,
    cancel,
    command,
    dismiss,
    enqueue,
    ensure_runner,
    is_stranded,
    jobs,
    output,
    runs_of,
    set_slots,
    slots,
)
from src.runs.slurm import is_here, not_started
from src.runs.summary import duration_text
from src.utils.arguments import joined

SECONDS = 2
ENDED_SHOWN = 10
COLOURS = {
    WAITING: "gray",
    RUNNING: "blue",
    FINISHED: "green",
    FAILED: "red",
    CANCELLED: "gray",
}


def queue() -> None:
    """Jobs, the number of slots, and jobs of SLURM that wait."""
    st.fragment(_live, run_every=SECONDS)()
    _slurm()


def _live() -> None:
    root, runs = logs_root(), all_runs()
    found = jobs(root)
    _slots(root)
    if is_stranded(root):
        st.warning("Jobs wait, and the process that starts them is gone. Trainings that run go on.")
        st.button("Go on with the queue", on_click=telling(ensure_runner), args=(root,))
    active = [job for job in found if job.state not in ENDED]
    ended = sorted((job for job in found if job.state in ENDED), key=_end, reverse=True)
    if not found:
        st.info("Nothing is queued. The tab Configure starts a training.")
    for job in active:
        _job(root, job, runs)
    if ended:
        _ended(root, ended, runs)


def _end(job: Job) -> float:
    return job.ended or job.created


def _slots(root: Path) -> None:
    st.session_state["ex_slots"] = slots(root)
    st.number_input(
        "Jobs at a time",
        1,
        MOST_SLOTS,
        key="ex_slots",
        on_change=telling(lambda: set_slots(root, st.session_state["ex_slots"])),
        width=180,
        help="Of this queue; what was started elsewhere is not counted.",
    )


def _ended(root: Path, ended: list[Job], runs: dict[str, Run]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### Ended ({len(ended)})")
        everything = st.toggle("Show all", key="ex_all") if len(ended) > ENDED_SHOWN else False
        st.button("Forget all that ended", on_click=_forget, args=(root, ended), key="ex_forget")
    for job in ended if everything else ended[:ENDED_SHOWN]:
        _job(root, job, runs)


def _forget(root: Path, ended: list[Job]) -> None:
    for job in ended:
        with told():
            dismiss(root, job.id)


def _job(root: Path, job: Job, runs: dict[str, Run]) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(job.state, color=COLOURS[job.state])  # type: ignore[arg-type]
            st.text(_times(job), width="stretch")
            _buttons(root, job)
        st.code(joined(command(root, job.arguments)), language="bash", wrap_lines=True)
        if job.error:
            st.error(plain(job.error))
        _links(job, runs)
        if job.state != WAITING and st.toggle("Output", key=f"ex_output_{job.id}"):
            with told():
                printed(output(root, job.id))


def printed(text: str) -> None:
    """Lines that a process has written, the last ones in view."""
    with st.container(height=300, autoscroll=True):
        st.code(text or "Nothing yet.", language=None, wrap_lines=True)


def _times(job: Job) -> str:
    if job.started is None:
        return f"added {_moment(job.created)}"
    seconds = max((job.ended or time.time()) - job.started, 0.0)
    lasted = "for" if job.state == RUNNING else "took"
    return f"started {_moment(job.started)}, {lasted} {duration_text(seconds)}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _buttons(root: Path, job: Job) -> None:
    if job.state == WAITING:
        st.button(
            "Cancel", key=f"ex_cancel_{job.id}", on_click=telling(cancel), args=(root, job.id)
        )
    elif job.state in ENDED:
        again = (root, job.arguments)
        st.button("Again", key=f"ex_again_{job.id}", on_click=telling(enqueue), args=again)
        st.button(
            "Forget", key=f"ex_forget_{job.id}", on_click=telling(dismiss), args=(root, job.id)
        )


def telling(action: Callable[..., object]) -> Callable[..., None]:
    """``action`` as what a button does, with an error shown as one sentence."""

    def act(*arguments: object) -> None:
        with told():
            action(*arguments)

    return act


def _links(job: Job, runs: dict[str, Run]) -> None:
    made = {str(run.path): name for name, run in runs.items()}
    names = [made[str(run.path)] for run in runs_of(job, runs.values())] or job.runs
    for name in names:
        if name in runs and st.button(
            f"Follow {plain(name)}",
            key=f"ex_follow_{job.id}_{name}",
            icon=":material/arrow_forward:",
            type="tertiary",
            on_click=_follow,
            args=(name,),
        ):
            st.rerun()


def _follow(name: str) -> None:
    st.session_state["run"], st.session_state["ex_tab"] = name, "Run"


def _slurm() -> None:
    """Jobs that SLURM has not started yet; those that it has are runs like any other."""
    if not is_here():
        return
    st.markdown("#### Waiting in SLURM")
    with told():
        waiting = _waiting_in_slurm(str(logs_root()))
        if waiting:
            st.dataframe(waiting, hide_index=True)
        else:
            st.caption("No job that was submitted from here waits.")


@st.cache_data(ttl=15, max_entries=4, show_spinner=False)
def _waiting_in_slurm(root: str) -> list[dict[str, str]]:
    found = not_started(Path(root))
    return [{"job": job, "state": state, "run": str(place)} for place, job, state in found]
