"""What all pages share: where runs lie, choosing one, opening its model, telling an error."""

import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.errors import StreamlitAPIException

from src.runs import Run, list_runs
from src.runs.loading import WEIGHTS
from src.utils.errors import UserError

if TYPE_CHECKING:  # torch is imported when a model is opened
    from streamlit import Page

    from src.evaluation.opened import OpenedRun

# Models kept in memory for all windows.
OPEN_MODELS = 3


def logs_root() -> Path:
    """Where runs lie: LATENT_LAB_LOGS, else logs/."""
    return Path(os.environ.get("LATENT_LAB_LOGS", "logs"))


def all_runs() -> dict[str, Run]:
    """Every run by its path below the logs, newest first."""
    root = logs_root()
    return {str(run.path.relative_to(root)): run for run in list_runs(root)}


def plain(text: object) -> str:
    """Text that may be anybody's, so that Markdown shows it as it is and on one line."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~<>$:])", r"\\\1", " ".join(str(text).split()))


@contextmanager
def told() -> Iterator[None]:
    """Show a ``UserError`` as one sentence and go on with the page behind this block."""
    try:
        yield
    except UserError as error:
        st.error(plain(error))


def choose_run(
    runs: dict[str, Run], suits: Callable[[Run], bool] = lambda run: True, key: str = "run"
) -> Run | None:
    """A run by a box that is part of the page's address; None, with a sentence, where there is none to choose.

    Args:
        runs: as ``all_runs`` gives them.
        suits: which of them are offered.
        key: of the box, and its name in the address.
    """
    names = [name for name, run in runs.items() if suits(run)]
    if not names:
        st.info(
            f"There is no such run in {plain(logs_root())} yet. The page Experiments trains one in less than a minute."
        )
        return None
    asked = st.session_state.get(key, st.query_params.get(key))
    if asked not in names:
        if asked:
            why = "has nothing that could be shown here" if asked in runs else "is not here"
            st.warning(f"The run that was chosen, {plain(asked)}, {why}; another one is shown.")
        asked = st.session_state[key] = names[0]
    # So that what is shared names this run, and not whichever is the newest then.
    if key not in st.query_params:
        # The box itself writes the address from the second time on.
        with suppress(StreamlitAPIException):
            st.query_params[key] = asked
    name = st.selectbox("Run", names, index=None, key=key, bind="query-params")
    return None if name is None else runs[name]


def link(page: str, label: str, **address: str) -> None:
    """A link to the page at ``page`` of the menu; ``address`` says what is chosen there, as ``run=…``."""
    st.page_link(page_at(page), label=label, query_params=address)


def page_at(path: str) -> "Page":
    """The page of the menu whose address ends in ``path``; the first one has none."""
    from src.app.shell import pages

    return next(page for page in pages() if page.url_path == path)


def has_weights(run: Run) -> bool:
    """Whether there is anything to open: a portable model, or a checkpoint to take one from."""
    files = [f"model/{WEIGHTS}", "checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    return any((run.path / file).exists() for file in files)


def opened(run: Run) -> "OpenedRun":
    """The run's model, kept for the next page and window; opened again when its weights have changed.

    Raises:
        UserError: as ``src.evaluation.opened.open_run``.
    """
    found = _open(str(run.path.resolve()), stamp(run.path))
    import torch

    # Windows and trainings share the machine, and one picture is little work: threads of torch would wait for each
    # other. Said every time, because it holds for the thread that says it, and every click has a new one.
    torch.set_num_threads(1)
    return found


def stamp(path: Path) -> tuple[int, ...]:
    """When the weights of the run at ``path`` were written: what is kept of a model is kept under this."""
    found = []
    for file in (
        path / "model" / WEIGHTS,
        *sorted((path / "checkpoints").glob("*.ckpt")),
    ):
        with suppress(FileNotFoundError):  # a training replaces its checkpoints
            found.append(file.stat().st_mtime_ns)
    return tuple(found)


def weights_of(opened: "OpenedRun") -> tuple[str, tuple[int, ...]]:
    """The weights that were opened, whatever has become of their file: what is computed of them is kept under this."""
    return str(opened.weights.resolve()), opened.stamp


@st.cache_resource(max_entries=OPEN_MODELS, show_spinner="Opening the model …")
def _open(path: str, stamp: tuple[int, ...]) -> "OpenedRun":
    from src.evaluation.opened import open_run

    found = replace(open_run(path), stamp=stamp)
    # What torch has brought stays: looking for garbage in it takes 0.2 s, which a slider would wait for.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    return found
