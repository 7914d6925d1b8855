"""Studies: what has been tried, what came out, and what was best. Everything is read from the studies' files."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import streamlit as st

from src.app.common import link, logs_root, plain, told
from src.utils.charts import CHART

if TYPE_CHECKING:
    from src.jobs.studies import Study, Trial

FIRST = "History"  # of the views
# Seconds between two looks at a study that goes on.
LIVE = 5.0
# Studies kept for all windows.
KEPT = 8


def page() -> None:
    """Choose a study; what of it is shown is chosen below and is part of the address."""
    from src.jobs.reading import find_studies

    st.title("Sweeps")
    root = logs_root()
    studies = {str(path.relative_to(root)): path for path in find_studies(root)}
    if not studies:
        st.info(f"There are no studies in {plain(root)} yet. This makes one of twelve trials:")
        st.code(
            "python run_experiment.py -m hparams_search=beta_vae data=digits hydra.sweeper.n_trials=12"
        )
        return
    asked = st.query_params.get("sw_study")
    if asked and asked not in studies:
        st.warning(f"The study of this address, {plain(asked)}, is not here; another one is shown.")
    name = st.selectbox("Study", list(studies), key="sw_study", bind="query-params")
    with told():
        live = _read(studies[name]).is_running
        st.fragment(_study, run_every=LIVE if live else None)(studies[name], live)


def _read(path: Path) -> "Study":
    from src.jobs.reading import changed

    files = changed(path)
    study = _kept(str(path.resolve()), files, 0, path)
    # Nothing is written where the processes that work on a study are killed.
    return (
        _kept(str(path.resolve()), files, int(time.time() / LIVE), path)
        if study.is_running
        else study
    )


@st.cache_data(max_entries=KEPT, show_spinner="Reading the study …")
def _kept(key: str, stamp: tuple[Any, ...], look: int, _path: Path) -> "Study":
    from src.jobs.reading import read_study

    return read_study(_path, [logs_root(), Path.cwd()])


def _study(path: Path, live: bool) -> None:
    """Everything of one study; looked at again and again while it is ``live``."""
    with told():
        study = _read(path)
        if live and not study.is_running:
            st.rerun()
        _state(study)
        views = {
            FIRST: _history,
            "Importances": _importances,
            "Parallel coordinates": _parallel,
            **({"Pareto front": _pareto} if len(study.metrics) == 2 else {}),
            "Trials": _trials,
            "Commands": _commands,
        }
        view = st.segmented_control(
            "View", list(views), default=FIRST, required=True, key="sw_view", bind="query-params"
        )
        views[view or FIRST](study)


def _state(study: "Study") -> None:
    if study.note:
        st.warning(plain(study.note))
    ended = sum(n for state, n in study.counts.items() if state in ("complete", "pruned", "failed"))
    wanted = max(study.wanted or 0, len(study.trials), 1)
    states = ", ".join(f"{count} {state}" for state, count in study.counts.items())
    st.progress(
        ended / wanted, f"{ended} of {wanted} trials have ended: {states or 'none has begun'}"
    )
    if "interrupted" in study.counts and not study.is_running:
        st.info(
            "Nobody works on this study any more; the same command, under Commands, goes on with it."
        )
    best = study.best()
    if not best:
        st.info("No trial has come to an end with a value yet.")
    elif len(study.metrics) == 1:
        _show_best(study, best[0])
    else:
        words = "; ".join(f"{name}: {way}" for name, way in study.metrics.items())
        st.write(plain(f"{len(best)} trials are on the Pareto front ({words}); see Trials."))


def _show_best(study: "Study", best: "Trial") -> None:
    from src.jobs.study_figures import with_unit

    ((metric, way),) = study.metrics.items()
    default = next((t for t in study.complete if t.number == study.default), None)
    first, second, third = st.columns([1.3, 1, 1.7], vertical_alignment="top")
    other = default is not None and default.number != best.number
    change = best.values[0] - default.values[0] if default and other else None
    first.metric(
        plain(f"best {with_unit(metric)}, {way}"),
        f"{best.values[0]:.5g}",
        None if change is None else f"{change:+.3g} from the default",
        delta_color="normal" if way == "maximize" else "inverse",
        help="The default is the trial of the config's own values.",
    )
    second.metric("its trial", f"{best.number}{' (default)' if best is default else ''}")
    with third:
        for name, value in best.params.items():
            st.text(f"{name} = {_short(value)}")
        _links(study, best)


def _links(study: "Study", trial: "Trial") -> None:
    run = study.path / str(trial.number)
    if run.is_dir():
        name = str(run.relative_to(logs_root()))
        with st.container(horizontal=True):
            link("experiments", f"Run of trial {trial.number}", run=name)
            link("explorer", "Explore its latents", run=name)


def _history(study: "Study") -> None:
    from src.jobs.study_charts import beyond, history

    for number, metric in enumerate(study.metrics):
        st.plotly_chart(history(study, metric), config=CHART, key=f"sw_history_{number}")
        if strays := beyond(study, metric):
            st.caption(
                f"Trials so far astray that they lie beyond the axis: {strays}. Zoom out to see them."
            )


def _importances(study: "Study") -> None:
    from src.jobs.study_charts import importance_bars

    complete = tuple((trial.number, trial.values) for trial in study.complete)
    found = _measured(str(study.path.resolve()), complete, study)
    if not found:
        st.info(
            "Importances take four complete trials that did not come out alike, and the study's storage."
        )
        return
    st.plotly_chart(importance_bars(found), config=CHART, key="sw_importances")
    st.caption(
        f"Which part of a metric's variance over the {len(study.complete)} complete trials a setting explains (fANOVA, "
        "Hutter et al. 2014): rough with few trials."
    )


@st.cache_data(max_entries=KEPT, show_spinner="Measuring importances …")
def _measured(key: str, complete: tuple[Any, ...], _study: "Study") -> dict[str, dict[str, float]]:
    from src.jobs.reading import read_importances

    return read_importances(_study, [logs_root(), Path.cwd()])


def _parallel(study: "Study") -> None:
    from src.jobs.study_charts import parallel

    if not study.complete:
        st.info("No trial has come to an end yet.")
        return
    st.plotly_chart(parallel(study), config=CHART, key="sw_parallel")
    st.caption(
        "A line is a complete trial; drag along an axis to pick some. Logarithmic axes where the search is."
    )


def _pareto(study: "Study") -> None:
    from src.jobs.study_charts import pareto

    st.plotly_chart(pareto(study), config=CHART, key="sw_pareto")
    st.caption(plain("; ".join(f"{name}: {way}" for name, way in study.metrics.items())))


def _trials(study: "Study") -> None:
    best = {trial.number for trial in study.best()}
    rows = [_row(study, trial, trial.number in best) for trial in study.trials]
    config: Any = {
        "run": st.column_config.LinkColumn(display_text="open"),
        "trial": st.column_config.NumberColumn(pinned=True),
    }
    st.dataframe(rows, hide_index=True, column_config=config, key="sw_trials")
    st.caption("Last: what a trial had reported before it was pruned, or has until now.")


def _row(study: "Study", trial: "Trial", best: bool) -> dict[str, Any]:
    from src.jobs.study_figures import with_unit

    mark = "best" if best else "default" if trial.number == study.default else ""
    values = dict(zip(study.metrics, trial.values, strict=False))
    run = study.path / str(trial.number)
    address = (
        f"experiments?run={quote(str(run.relative_to(logs_root())))}" if run.is_dir() else None
    )
    shown: dict[str, Any] = {"trial": trial.number, "state": trial.state, "": mark}
    shown |= {with_unit(metric): values.get(metric) for metric in study.metrics}
    shown |= {name: _cell(trial.params.get(name)) for name in study.settings}
    return shown | {"last": trial.last, "error": trial.error, "run": address}


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | None) else str(value)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commands(study: "Study") -> None:
    from src.jobs.reading import commands

    found = commands(study)
    for words, command in found.items():
        st.text(words)
        st.code(command, language="bash", wrap_lines=True)
    if not found:
        st.info("No run of this study says what command it was started with.")
