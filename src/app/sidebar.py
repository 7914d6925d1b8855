"""What every page shows at its side: this machine, and what works on it."""

from pathlib import Path

import streamlit as st

from src.app.common import all_runs, link, logs_root, plain
from src.app.run_table import shown_summary
from src.runs.machine import Machine, machine, size_text
from src.runs.queue import RUNNING, WAITING, jobs, runs_of
from src.runs.reading import ALIVE, Run

SECONDS = 4  # between two looks
SHOWN = 6  # living runs that are named


def sidebar() -> None:
    """Device, memory, disk and running jobs, looked at again every few seconds."""
    with st.sidebar:
        st.fragment(_machine_and_jobs, run_every=SECONDS)()
        st.caption("Light or dark: in the menu ⋮ at the top right.")


def _machine_and_jobs() -> None:
    st.markdown("**At work**")
    _jobs()
    st.markdown("**This machine**")
    found = _machine(str(logs_root()))
    _device(found)
    _bar("Memory", found.memory_used, found.memory_total)
    _bar("Disk of the logs", found.disk_total - found.disk_free, found.disk_total)


@st.cache_data(ttl=SECONDS - 1, max_entries=4, show_spinner=False)
def _machine(logs: str) -> Machine:
    return machine(Path(logs))


def _device(found: Machine) -> None:
    st.caption(f"Load {found.load:.1f} on {found.cores} CPU cores, over the last minute")
    for gpu in found.gpus:
        busy = "" if gpu.busy is None else f", {gpu.busy:.0%} busy"
        if gpu.used is None or gpu.total is None:
            st.caption(f"{plain(gpu.name)}{busy}; its driver tells no memory")
        else:
            _bar(f"{plain(gpu.name)}{busy}", gpu.used, gpu.total)
    if found.trouble:
        st.caption(plain(found.trouble))
    elif not found.gpus:
        st.caption("No GPU of NVIDIA's: trainings run on the CPU")


def _bar(what: str, used: int, total: int) -> None:
    text = f"{what}: {size_text(used)} of {size_text(total)}"
    st.progress(used / total if total else 0.0, text)


def _jobs() -> None:
    runs, listed = all_runs(), jobs(logs_root())
    alive = [(name, run) for name, run in runs.items() if run.state in ALIVE]
    waiting = sum(job.state == WAITING for job in listed)
    begun = [job for job in listed if job.state == RUNNING]
    beginning = sum(not runs_of(job, runs.values()) for job in begun)
    for name, run in alive[:SHOWN]:
        link("experiments", plain(name), run=name)
        _how_far(run)
    if len(alive) > SHOWN:
        st.caption(f"and {len(alive) - SHOWN} more runs")
    if beginning or waiting:
        st.caption(f"In the queue: {beginning} starting, {waiting} waiting")
    if not (alive or beginning or waiting):
        st.caption("Nothing runs and nothing waits.")


def _how_far(run: Run) -> None:
    fraction = shown_summary(run).fraction
    if fraction is None:
        st.caption(run.state)
    else:
        st.progress(fraction, f"{run.state}, {fraction:.0%}")
