"""One run, live: its state, its curves, its pictures as they are written, its log, and what can be done with it."""

from pathlib import Path

import streamlit as st

from src.app.common import choose_run, has_weights, link, logs_root, plain, told
from src.app.experiments_configure import ARGUMENTS
from src.app.experiments_queue import printed, telling
from src.app.run_parts import curves_part, facts, pictures
from src.app.run_table import shown_summary
from src.runs import Run, read_run, request
from src.runs.actions import (
    arguments_of,
    awaited,
    can_go_on,
    going_on,
    job_going_on,
    possible_requests,
)
from src.runs.control import PAUSE, RESUME, STOP
from src.runs.figures import newest_pictures
from src.runs.notes import Notes, known_tags, read_notes, write_notes
from src.runs.queue import ENDED, FAILED, Job, enqueue, jobs
from src.runs.queue_files import tail
from src.runs.reading import ALIVE, bytes_of, file_stamp
from src.runs.record import CONFIG_FILE, METRICS_FILE
from src.utils.arguments import joined

SECONDS = 2
LONG = 5_000_000  # bytes of metrics from which on the curves are drawn less often
PICTURES = 6
LOG_BYTES = 8_000
NOTES = "ex_notes_before"  # what a window's form of notes began with
ICONS = {PAUSE: ":material/pause:", RESUME: ":material/play_arrow:", STOP: ":material/stop:"}


def follow(runs: dict[str, Run]) -> None:
    """Choose a run and show it, live as long as it is alive."""
    run = choose_run(runs)
    if run is None:
        return
    watched = _is_watched(run, jobs(logs_root()))
    st.fragment(_live, run_every=_pace(run) if watched else None)(run.path, watched)
    with told():
        _notes(run, runs)
    _files(run)


def _pace(run: Run) -> int:
    written = file_stamp(run.path / METRICS_FILE)
    return SECONDS * 5 if written is not None and written[1] > LONG else SECONDS


def _is_watched(run: Run, queued: list[Job]) -> bool:
    """Whether anything about it may change by itself."""
    job = job_going_on(run, queued)
    return run.state in ALIVE or (job is not None and job.state not in ENDED)


def _live(path: Path, was_watched: bool) -> None:
    with told():
        run, queued = read_run(path), jobs(logs_root())
        if _is_watched(run, queued) != was_watched:
            st.rerun()  # how often this is looked at changes
        _state(run)
        _buttons(run, queued)
        st.markdown("#### Curves")
        curves_part(run, "ex_terms")
        _pictures(run)
        _log(run)


def _state(run: Run) -> None:
    facts(run)
    fraction = shown_summary(run).fraction
    if fraction is not None:
        st.progress(fraction, f"{fraction:.0%} of the steps that it may take")


def _buttons(run: Run, queued: list[Job]) -> None:
    with st.container(horizontal=True):
        _requests(run)
        goes_on = can_go_on(run, queued)
        help = "Puts it into the queue again: it goes on from last.ckpt, in its own directory."
        st.button(
            "Resume from checkpoint",
            key="ex_go_on",
            disabled=not goes_on,
            help=help,
            on_click=telling(enqueue),
            args=(logs_root(), going_on(run)),
        )
        clones = run.info.get("overrides") is not None
        if st.button("Clone", key="ex_clone", disabled=not clones, on_click=_clone, args=(run,)):
            st.rerun()
    _asked_for(run, job_going_on(run, queued))


def _requests(run: Run) -> None:
    possible = possible_requests(run)
    for what, icon in ICONS.items():
        st.button(
            what.capitalize(),
            key=f"ex_{what}",
            icon=icon,
            disabled=what not in possible,
            on_click=telling(request),
            args=(run.path, what),
        )


def _asked_for(run: Run, job: Job | None) -> None:
    """What somebody wants of the run and has not happened yet, or has failed."""
    if run.state in ALIVE:
        if asked := awaited(run):
            st.info(f"Asked to {plain(asked)}: it will at its next batch.")
    elif job is not None and job.state == FAILED:
        st.error(plain(f"It was to go on and did not: {job.error}"))
    elif job is not None and job.state not in ENDED:
        st.info("It is in the queue, to go on from its checkpoint.")


def _clone(run: Run) -> None:
    with told():
        st.session_state[ARGUMENTS] = joined(arguments_of(run))
        st.session_state["ex_tab"] = "Configure"


def _pictures(run: Run) -> None:
    st.markdown("#### Newest figures")
    newest = newest_pictures(run.path, PICTURES)
    if not newest:
        st.info(
            "It has none yet: they are made at its end, or every callbacks.figures.every_n_epochs epochs."
        )
    pictures(newest)


def _log(run: Run) -> None:
    st.markdown("#### Log")
    if text := tail(run.path / "run.log", LOG_BYTES):
        printed(text)
    else:
        st.info("Nothing has been written to run.log yet.")


def _notes(run: Run, runs: dict[str, Run]) -> None:
    """Tags and a note, which can be written while the run goes on."""
    st.markdown("#### Tags and note")
    notes = read_notes(run)
    name = str(run.path)
    if f"ex_note_{name}" not in st.session_state:  # the boxes are filled with these
        st.session_state[NOTES] = notes
    with st.form(f"ex_notes_{name}"):
        tags = st.multiselect(
            "Tags",
            sorted({*known_tags(runs.values()), *notes.tags}),
            list(notes.tags),
            accept_new_options=True,
            key=f"ex_tags_{name}",
        )
        text = st.text_area("Note", notes.text, key=f"ex_note_{name}", height="content")
        if st.form_submit_button("Save"):
            _save(run, notes, tags, text or "")


def _save(run: Run, notes: Notes, tags: list[str], text: str) -> None:
    """Replace ``notes``, which are there now, unless they are not those that the form began with."""
    if st.session_state[NOTES] == notes:
        write_notes(run, tags, text)
        st.session_state[NOTES] = read_notes(run)
        st.success("Saved.")
        return
    st.session_state[NOTES] = notes
    st.warning("Somebody else has changed them to what follows. Save once more to replace it.")
    st.text(f"Tags: {', '.join(notes.tags)}")
    st.text(notes.text)


def _files(run: Run) -> None:
    config = run.path / CONFIG_FILE
    name = str(run.path.relative_to(logs_root()))
    with st.container(horizontal=True):
        if config.exists():
            with told():
                content = bytes_of(config)
                st.download_button(
                    "Config (YAML)", content, "config.yaml", "text/yaml", on_click="ignore"
                )
        if has_weights(run):
            link("explorer", "Explore its latent space", run=name)
        link("gallery", "All figures", run=name)
        link("compare", "Compare", cmp_runs=name)
