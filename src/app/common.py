"""What all pages share: where runs lie, choosing one, opening its model, telling an error."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from src.runs import Run, list_runs
from src.utils.errors import UserError

if TYPE_CHECKING:  # torch is imported when a model is opened
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
    asked = st.query_params.get(key)
    if asked and asked not in names and key not in st.session_state:
        st.warning(f"The run of this address, {plain(asked)}, is not here; another one is shown.")
    name = st.selectbox("Run", names, key=key, bind="query-params")
    return runs[name]


def has_weights(run: Run) -> bool:
    """Whether there is anything to open: a portable model, or a checkpoint to take one from."""
    from src.runs.loading import WEIGHTS

    files = [f"model/{WEIGHTS}", "checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    return any((run.path / file).exists() for file in files)


def opened(run: Run) -> "OpenedRun":
    """The run's model, kept for the next page and window; opened again when its weights have changed.

    Raises:
        UserError: as ``src.evaluation.opened.open_run``.
    """
    return _open(str(run.path.resolve()), _stamp(run.path))


def _stamp(path: Path) -> tuple[int, ...]:
    files = [path / "model" / "model.safetensors", *sorted((path / "checkpoints").glob("*.ckpt"))]
    return tuple(file.stat().st_mtime_ns for file in files if file.exists())


@st.cache_resource(max_entries=OPEN_MODELS, show_spinner="Opening the model …")
def _open(path: str, stamp: tuple[int, ...]) -> "OpenedRun":
    from src.evaluation.opened import open_run

    return open_run(path)
