"""Configuring a training. The arguments of the command line are all there is; boxes and table write into them."""

from collections.abc import Callable, Sequence
from functools import partial
from textwrap import shorten
from typing import Any

import streamlit as st

from src.app.common import all_runs, logs_root, plain, told
from src.jobs.commands import Composed, Setting, composed
from src.runs.actions import arguments_of
from src.runs.queue import check_places, command, enqueue
from src.utils.arguments import (
    is_multirun,
    joined,
    key_of,
    split,
    value_text,
    with_multirun,
    with_value,
)
from src.utils.choices import Option, options_of, stamp
from src.utils.errors import UserError

ARGUMENTS = "ex_arguments"
# In the order in which one thinks of them; every other group is a part of the model.
WHOLE = (
    "experiment",
    "model",
    "data",
    "trainer",
    "callbacks",
    "logger",
    "features",
    "hparams_search",
    "cluster",
    "debug",
)
HIDDEN = ("local", "paths")
SEVERAL = "hydra/"
ROWS_SHOWN = 12  # of the table of settings; more are scrolled to
LONGEST_ABOUT = 200


def clone(name: str) -> None:
    """Fill the form with the arguments of the run called ``name``.

    Raises:
        UserError: there is none, or it does not say how it was started.
    """
    runs = all_runs()
    if name not in runs:
        raise UserError(f"there is no run {name} below {logs_root()}")
    st.session_state[ARGUMENTS] = joined(arguments_of(runs[name]))


def configure() -> None:
    """The form: arguments, what they come to, groups, and every setting."""
    st.text_area(
        "Arguments",
        key=ARGUMENTS,
        bind="query-params",
        height="content",
        placeholder="model=beta_vae trainer.max_epochs=20",
        help="What follows python run_experiment.py. The boxes and the table below write into it, and so can you: "
        "group=option, key=value, and -m before several values such as seed=1,2,3.",
    )
    arguments: list[str] = []
    found: Composed | None = None
    with told():
        arguments = split(st.session_state[ARGUMENTS] or "")
        check_places(logs_root(), arguments)
        found = _composed(tuple(arguments), stamp())
    _command(arguments, found)
    with told():
        _groups(arguments, found.choices if found else _asked_choices(arguments))
    st.subheader("Settings")
    if found:
        _settings(arguments, found.settings)
    else:
        st.info("The settings are shown when the arguments compose.")


@st.cache_data(max_entries=64, show_spinner="Composing …")
def _composed(arguments: tuple[str, ...], when: int) -> Composed:
    return composed(arguments)


def _command(arguments: Sequence[str], found: Composed | None) -> None:
    """The command, what it starts, and the button that starts it."""
    if found:
        st.code(joined(command(logs_root(), arguments)), language="bash", wrap_lines=True)
        st.caption(_meaning(arguments, found))
        if found.error:
            st.error(plain(found.error))
    left, right = st.columns([1, 3], vertical_alignment="center")
    several = f"ex_multirun_{is_multirun(arguments)}"
    right.toggle(
        "Several runs (-m)",
        is_multirun(arguments),
        key=several,
        on_change=_rewrite,
        args=(partial(with_multirun, wanted=not is_multirun(arguments)),),
        help="One run for each of several values, as in seed=1,2,3, and what hparams_search takes.",
    )
    ready = found is not None and found.error is None
    if left.button("Start", type="primary", key="ex_start", disabled=not ready, width="stretch"):
        with told():
            job = enqueue(logs_root(), arguments)
            st.success(f"In the queue: {plain(job.id)}. The tab Queue shows it.")


def _meaning(arguments: Sequence[str], found: Composed) -> str:
    if found.runs is None:
        return "A search: it decides from trial to trial what comes next."
    if not is_multirun(arguments) and found.choices.get("hparams_search", "none") != "none":
        return "One run with the settings of this search; with -m it searches."
    return "One run." if found.runs == 1 else f"{found.runs} runs, one after another."


def _rewrite(change: Callable[[list[str]], list[str]]) -> None:
    with told():
        st.session_state[ARGUMENTS] = joined(change(split(st.session_state[ARGUMENTS] or "")))


def _asked_choices(arguments: Sequence[str]) -> dict[str, str]:
    """What the boxes show of arguments that do not compose, so that a wrong choice can be replaced by any."""
    usual = _composed((), stamp()).choices
    asked = _given(arguments)
    return {group: asked.get(group) or option for group, option in usual.items()}


def _given(arguments: Sequence[str]) -> dict[str, str]:
    """What the arguments set → to what."""
    return {key_of(one): one.partition("=")[2] for one in arguments}


def _groups(arguments: Sequence[str], choices: dict[str, str]) -> None:
    st.subheader("Groups")
    offered = [group for group in choices if group not in HIDDEN]
    several = [group for group in offered if group.startswith(SEVERAL)]
    parts = [group for group in offered if group not in WHOLE and group not in several]
    _boxes([group for group in WHOLE if group in offered], choices)
    with st.expander("Parts of the model"):
        _boxes(sorted(parts), choices)
    if several and is_multirun(arguments):
        with st.expander("How several runs are drawn and started"):
            _boxes(several, choices)


def _boxes(groups: Sequence[str], choices: dict[str, str]) -> None:
    for start in range(0, len(groups), 3):
        for place, group in zip(st.columns(3), groups[start : start + 3], strict=False):
            with place:
                _box(group, choices[group])


def _box(group: str, chosen: str) -> None:
    offered = {option.name: option for option in options_of(group.partition("@")[0])}
    names = [*offered] if chosen in offered else [chosen, *offered]
    key = f"ex_group_{group}"
    st.session_state[key] = chosen
    st.selectbox(
        group.partition("@")[0],
        names,
        key=key,
        on_change=lambda: _rewrite(partial(with_value, key=group, value=st.session_state[key])),
    )
    about = offered.get(chosen, Option(chosen, "")).about
    st.caption(plain(shorten(about, LONGEST_ABOUT, placeholder=" …")))


def _settings(arguments: Sequence[str], settings: Sequence[Setting]) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    sought = left.text_input(
        "Name or explanation contains", key="ex_search", bind="query-params", type="search"
    )
    changed = right.toggle("Only those given above", key="ex_changed", bind="query-params")
    given = _given(arguments)
    rows = [
        one
        for one in settings
        if (sought or "").lower() in f"{one.key} {one.about}".lower()
        and (not changed or one.key in given)
    ]
    if rows:
        _table(rows, given)
        st.caption(f"{len(rows)} of {len(settings)} settings.")
    else:
        st.info("No setting is like that.")


def _table(settings: Sequence[Setting], given: dict[str, str]) -> None:
    key = f"ex_table_{st.session_state.get('ex_edits', 0)}"
    st.data_editor(
        [
            {"setting": one.key, "value": given.get(one.key, one.value)}
            | {"default": one.default, "what it is": one.about}
            for one in settings
        ],
        key=key,
        hide_index=True,
        disabled=["setting", "default", "what it is"],
        height=36 * (min(len(settings), ROWS_SHOWN) + 1),
        column_config=_columns(),
        on_change=_edited,
        args=(key, [(one.key, one.default) for one in settings]),
        alt="Every setting with its value, its default and what it is",
    )


def _columns() -> dict[str, Any]:
    column = st.column_config.TextColumn
    return {
        "setting": column(pinned=True, width="medium"),
        "value": column(help="A double click changes it; an emptied one is the default again."),
        "default": column(help="${…} is taken from that other setting."),
        "what it is": column(width="large"),
    }


def _edited(table: str, rows: Sequence[tuple[str, str]]) -> None:
    """Write what was typed into the table into the arguments, and let the table begin anew from them."""
    typed = {rows[n]: row["value"] for n, row in st.session_state[table]["edited_rows"].items()}
    for (key, default), value in typed.items():
        text = None if value in (None, "", default) else value_text(value)
        _rewrite(partial(with_value, key=key, value=text))
    st.session_state["ex_edits"] = st.session_state.get("ex_edits", 0) + 1
