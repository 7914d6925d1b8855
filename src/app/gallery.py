"""Every figure of a run, by what it was made by and, of those made during training, by epoch."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from src.app.common import all_runs, choose_run, plain, told
from src.runs import Run
from src.runs.figures import TESTED, TRAINING, FigureFile, figures, read_page, read_png
from src.runs.reading import bytes_of
from src.utils.charts import CHART
from src.utils.errors import UserError

# Seconds between two epochs that are played.
PACE = 1.0
WHAT = {
    TESTED: "Of the test data, with the tested weights.",
    TRAINING: "Of the validation data, with the weights of that epoch.",
}


def page() -> None:
    """The figures of a chosen run."""
    st.title("Gallery")
    run = choose_run(all_runs())
    if run is None:
        return
    found = figures(run.path)
    if not found:
        st.info(_none_yet(run))
        return
    stages = list(dict.fromkeys(figure.stage for figure in found))
    stage = st.segmented_control(
        "Made",
        stages,
        default=stages[0],
        required=True,
        format_func=plain,
        key="gal_stage",
        bind="query-params",
    )
    of_stage = [figure for figure in found if figure.stage == (stage or stages[0])]
    st.caption(WHAT.get(of_stage[0].stage, ""))
    names = list(dict.fromkeys(figure.name for figure in of_stage))
    chosen = st.pills(
        "Figures (all, where none is chosen)",
        names,
        selection_mode="multi",
        format_func=lambda name: plain(name.replace("_", " ")),
        key="gal_figures",
        bind="query-params",
    )
    _shown([figure for figure in of_stage if figure.name in (chosen or names)])


def _none_yet(run: Run) -> str:
    made = "They are made when it is tested; callbacks.figures.every_n_epochs=5 makes some during training too."
    return f"This run, which is {plain(run.state)}, has no figures. {made}"


def _shown(figures: Sequence[FigureFile]) -> None:
    epochs = sorted({figure.epoch for figure in figures if figure.epoch is not None})
    if len(epochs) > 1:
        _over_time(figures, epochs)
    else:
        _grid(figures)


def _over_time(figures: Sequence[FigureFile], epochs: list[int]) -> None:
    """The figures of one epoch, which a slider chooses and which can be played."""
    playing = st.toggle("Play", key="gal_play")
    st.fragment(_one_epoch, run_every=PACE if playing else None)(figures, epochs, playing)


def _one_epoch(figures: Sequence[FigureFile], epochs: list[int], playing: bool) -> None:
    key = "gal_epoch"
    if playing and st.session_state.get(key) in epochs:
        now = epochs.index(st.session_state[key])
        st.session_state[key] = epochs[(now + 1) % len(epochs)]
    epoch = st.select_slider("Epoch", epochs, value=epochs[-1], key=key, bind="query-params")
    _grid([figure for figure in figures if figure.epoch == epoch])


def _grid(figures: Sequence[FigureFile]) -> None:
    """Two pictures beside each other, on a phone one below the other; pages take the whole width."""
    pictures = [figure for figure in figures if not figure.is_page]
    for first in range(0, len(pictures), 2):
        columns = st.columns(2)
        for column, figure in zip(columns, pictures[first : first + 2], strict=False):
            with column.container(border=True):
                _one(figure)
    for figure in figures:
        if figure.is_page:
            with st.container(border=True):
                _one(figure)


def _one(figure: FigureFile) -> None:
    when = "" if figure.epoch is None else f", epoch {figure.epoch}"
    st.markdown(f"**{plain(figure.name.replace('_', ' '))}**{when}")
    with told():
        if figure.is_page:
            _page(figure)
        else:
            _picture(figure)


def _picture(figure: FigureFile) -> None:
    content = read_png(figure.path)
    st.image(content, width="stretch", alt=figure.name.replace("_", " "))
    _download(figure, content, "image/png")


def _page(figure: FigureFile) -> None:
    """A moving figure drawn anew from its numbers; a page with anything else in it can be downloaded only."""
    content = bytes_of(figure.path)
    try:
        st.plotly_chart(
            _plotly(read_page(figure.path)), config=CHART, theme=None, key=str(figure.path)
        )
    except UserError as error:
        st.info(
            f"{plain(error)}. Its scripts are not run here, where they could act in the app's name."
        )
    _download(figure, content, "text/html")


def _plotly(content: dict[str, Any]) -> Any:
    """A figure that plotly has checked.

    Raises:
        UserError: it is none.
    """
    from plotly.graph_objects import Figure

    try:
        return Figure(**content).update_layout(template="plotly_white")
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"plotly cannot draw it: {str(error).strip().splitlines()[0]}") from error


def _download(figure: FigureFile, content: bytes, kind: str) -> None:
    st.download_button(
        f"Download {figure.path.suffix.removeprefix('.').upper()}",
        content,
        figure.path.name,
        kind,
        key=f"gal_{figure.path}",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
    )
