"""Several runs on the same held-out data: numbers, differences, curves, pictures, settings, and a report of it all."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from src.app.common import all_runs, plain, told
from src.app.compare_models import measured_parts, now, pictures, shown_pictures
from src.app.document_parts import show
from src.runs import Run
from src.runs.reading import ALIVE, file_stamp
from src.runs.record import CONFIG_FILE, RESULTS_FILE, RUN_FILE
from src.utils.charts import CHART

if TYPE_CHECKING:
    from src.evaluation.comparing.chosen_runs import Chosen

FIRST = "Numbers"  # of the views
KEPT = 8  # comparisons, for all windows
# Seconds between two looks at the curves of runs that go on.
LIVE = 5.0


def page() -> None:
    """Choose runs; what they are compared by is chosen below and is part of the address."""
    st.title("Compare")
    runs = all_runs()
    if not runs:
        st.info(
            "There are no runs to compare yet. The page Experiments trains one in less than a minute."
        )
        return
    _tell_missing(runs)
    names = st.multiselect(
        "Runs", list(runs), key="cmp_runs", bind="query-params", placeholder="Choose two or more"
    )
    if not names:
        _suggest(runs)
        return
    together = st.toggle(
        "Seeds of one experiment together",
        key="cmp_grouped",
        bind="query-params",
        help="Runs that differ in nothing but their seed are told as a mean ± half of its 95 % confidence interval.",
    )
    with told():
        _compare({name: runs[name] for name in names}, together)


def _tell_missing(runs: Mapping[str, Run]) -> None:
    asked = st.session_state.get("cmp_runs", st.query_params.get_all("cmp_runs"))
    if missing := [name for name in asked if name not in runs]:
        st.warning(f"Runs that were chosen and are not here: {plain(', '.join(missing))}.")


def _suggest(runs: Mapping[str, Run]) -> None:
    tested = [name for name, run in runs.items() if (run.path / RESULTS_FILE).exists()][:2]
    st.info(
        "Choose the runs to compare. Numbers come from their tests, on data that none has been trained on."
    )
    if len(tested) == 2:
        st.button("Compare the two newest that were tested", on_click=_set_runs, args=(tested,))


def _set_runs(names: list[str]) -> None:
    st.session_state["cmp_runs"] = names


def _compare(runs: Mapping[str, Run], together: bool) -> None:
    key = tuple((str(run.path), run.state, _stamps(run)) for run in runs.values())
    chosen = _chosen(key, together, runs)
    if chosen.remarks:
        point = "- " if len(chosen.remarks) > 1 else ""
        words = "\n".join(point + plain(remark) for remark in chosen.remarks)
        st.warning(words, icon=":material/info:")
    if not chosen.readable:
        return
    views: dict[str, Callable[[Chosen], None]] = {
        FIRST: _numbers,
        "Curves": _curves,
        "Trade-offs": _trade_offs,
        "Pictures": pictures,
        "Measure now": now,
        "Settings": _settings,
        "Report": _report,
    }
    view = st.segmented_control(
        "View", list(views), default=FIRST, required=True, key="cmp_view", bind="query-params"
    )
    with told():
        views[view or FIRST](chosen)


def _stamps(run: Run) -> list[tuple[int, int] | None]:
    return [file_stamp(run.path / file) for file in (RUN_FILE, CONFIG_FILE, RESULTS_FILE)]


@st.cache_data(max_entries=KEPT, show_spinner=False)
def _chosen(key: tuple[Any, ...], together: bool, _runs: Mapping[str, Run]) -> "Chosen":
    """Kept until a file changes: reading a run's config takes some 40 ms, which every click would wait for."""
    from src.evaluation.comparing.chosen_runs import choose

    return choose(_runs, together)


def _tested(chosen: "Chosen") -> bool:
    """Whether there are any numbers; a sentence where there are none."""
    if not chosen.entries:
        st.info(
            "None of these runs has been tested, so there are no numbers; Measure now makes some."
        )
    return bool(chosen.entries)


def _reference(chosen: "Chosen") -> str:
    return st.selectbox(
        "Reference: differences are from this one",
        chosen.labels,
        key="cmp_reference",
        bind="query-params",
    )


def _numbers(chosen: "Chosen") -> None:
    from src.evaluation.comparing.run_report import difference_parts, numbers_parts, who

    if not _tested(chosen):
        return
    show(numbers_parts(chosen), "cmp_numbers")
    if len(chosen.labels) > 1:
        st.subheader("Differences")
        show(difference_parts(chosen, _reference(chosen)), "cmp_differences")
    else:
        st.info("There is nothing to take differences from: choose another run.")
    st.subheader("Which runs these are")
    show([who(chosen.entries)], "cmp_who")


def _trade_offs(chosen: "Chosen") -> None:
    if not _tested(chosen):
        return
    st.subheader("Rate against distortion")
    _rates(chosen)
    st.subheader("Which is best at what")
    _radar(chosen)


def _rates(chosen: "Chosen") -> None:
    from src.evaluation.comparing.entries import intervals
    from src.evaluation.comparing.run_report import DISTORTIONS, trade_parts

    table = intervals(chosen.entries)
    given = [name for name in DISTORTIONS if name in table and name not in chosen.hidden]
    if "kl" in table and given:
        name = st.selectbox("Distortion", given, key="cmp_distortion", bind="query-params")
        show(
            trade_parts(chosen, [name]), "cmp_trade", "It takes two models that have both numbers."
        )
    else:
        st.info("None of these runs has both a KL and an error of its reconstructions.")


def _radar(chosen: "Chosen") -> None:
    from src.evaluation.comparing.run_report import axes, radar_parts, telling

    known = axes(chosen)
    if known:
        names = st.multiselect(
            "Metrics", known, default=telling(chosen), key="cmp_radar", bind="query-params"
        )
        show(radar_parts(chosen, names), "cmp_radar_chart")
    else:
        show(radar_parts(chosen), "cmp_radar_chart")


def _curves(chosen: "Chosen") -> None:
    alive = any(entry.run.state in ALIVE for entry in chosen.readable)
    st.fragment(_live_curves, run_every=LIVE if alive else None)(chosen)


def _live_curves(chosen: "Chosen") -> None:
    from src.evaluation.comparing.charts import curve_chart
    from src.evaluation.comparing.tables import unit_of_term
    from src.runs.curves import curves

    logged = [(entry.group, curves(entry.run)) for entry in chosen.readable]
    terms = _usual_first({term for _, found in logged for term in found})
    if not terms:
        st.info("Nothing has been logged by these runs yet.")
        return
    term, stages, log = _curve_settings(terms)
    lines = [(group, found[term]) for group, found in logged if term in found]
    unit = unit_of_term(chosen.readable, term)
    chart = curve_chart(lines, term, unit, stages, "log" if log else "linear")
    st.plotly_chart(chart, config=CHART, key="cmp_curve")
    drawn = [p for _, points in lines for p in points if p["stage"] in stages]
    if log and any(point["value"] <= 0 for point in drawn):
        st.caption("A logarithmic axis has no place for values of 0 and below: these are left out.")
    if missing := [group for group, found in logged if term not in found]:
        st.caption(f"Without this term: {plain(', '.join(dict.fromkeys(missing)))}.")


def _curve_settings(terms: list[str]) -> tuple[str, list[str], bool]:
    """Which term is drawn, of which stages, and whether on a logarithmic axis."""
    first, second, third = st.columns([2, 2, 1], vertical_alignment="bottom")
    term = first.selectbox("Term", terms, key="cmp_term", bind="query-params")
    stage = second.segmented_control(
        "Of",
        ["validation", "training", "both"],
        default="validation",
        required=True,
        key="cmp_stage",
        bind="query-params",
    )
    log = third.toggle("Logarithmic", key="cmp_log", bind="query-params")
    stages = {"validation": ["val"], "training": ["train"]}.get(str(stage), ["train", "val"])
    return term, stages, log


def _usual_first(terms: Iterable[str]) -> list[str]:
    from src.evaluation.comparing.run_report import TERMS

    known = sorted(terms)
    return [term for term in TERMS if term in known] + [t for t in known if t not in TERMS]


def _settings(chosen: "Chosen") -> None:
    from src.evaluation.comparing.tables import configs

    everything = st.toggle("Settings that do not differ too", key="cmp_all", bind="query-params")
    table = configs(chosen.configs, everything)
    show([table], "cmp_settings", "These runs do not differ in any setting.")
    st.caption(
        "Where a run writes, and what it shows while it trains, is left out. —: not set there."
    )


def _report(chosen: "Chosen") -> None:
    from src.evaluation.comparing.document import as_html, as_markdown
    from src.evaluation.comparing.run_report import report

    if not _tested(chosen):
        return
    st.write(
        "All of this page in one file: the numbers, the differences, the curves, the settings that differ."
    )
    reference = _reference(chosen)
    with_pictures = st.toggle(
        "With reconstructions and samples", value=True, key="cmp_with_pictures", bind="query-params"
    )
    with st.spinner("Writing the report …"):
        found = shown_pictures(chosen) if with_pictures else {}
        document = report(chosen, reference, found, measured_parts(chosen))
        html, markdown = as_html(document), as_markdown(document)
    first, second = st.columns(2)
    first.download_button("Download as HTML", html, "comparison.html", "text/html", width="stretch")
    second.download_button(
        "Download as Markdown", markdown, "comparison.md", "text/markdown", width="stretch"
    )
    st.caption(
        f"HTML: {len(html) / 1e6:.1f} MB, opens without a network, with pictures and charts that move. "
        f"Markdown: {len(markdown) / 1e3:.0f} kB, words and tables."
    )
