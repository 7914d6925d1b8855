"""The page that compares runs, and the report of it, on two trained models."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from src.evaluation.comparing.chosen_runs import choose
from src.evaluation.comparing.document import as_html, as_markdown
from src.evaluation.comparing.entries import Interval
from src.evaluation.comparing.measured import measure
from src.evaluation.comparing.run_report import report
from src.evaluation.opened import open_run
from src.runs import read_run

NAMES = ["vae/1", "vae/2"]


def results(logs: Path, name: str) -> dict[str, Any]:
    return json.loads((logs / name / "results.json").read_text())


def value(logs: Path, name: str, metric: str) -> float:
    return results(logs, name)["metrics"][f"test/{metric}"]["value"]


def opened(open_page: Any, logs: Path, **address: Any) -> AppTest:
    return open_page("compare", logs, cmp_runs=NAMES, **address)


def test_the_numbers_are_the_tested_ones_and_differ_from_run_to_run(
    open_page: Any, digits_logs: Path
) -> None:
    page = opened(open_page, digits_logs)
    assert not page.error and not page.warning
    table, apart, who = (frame.value for frame in page.dataframe)
    row = table.set_index("metric").loc["mse"]
    first, second = (value(digits_logs, name, "mse") for name in NAMES)
    assert row["unit"] == "intensity²" and first != second
    assert [row[f"vae, seed {seed}"] for seed in (1, 2)] == [f"{first:.4g}", f"{second:.4g}"]
    told = apart.set_index("metric").loc["mse", "vae, seed 2"]
    assert told.endswith("better" if second < first else "worse")
    assert f"{abs(second - first):.4g}" in told and "%" in told
    assert who["run"].tolist() == [str(digits_logs / name) for name in NAMES]


def test_another_reference_turns_the_differences(open_page: Any, digits_logs: Path) -> None:
    page = opened(open_page, digits_logs)
    before = page.dataframe[1].value
    page.selectbox(key="cmp_reference").select("vae, seed 2").run()
    after = page.dataframe[1].value
    assert not page.exception
    one = before.set_index("metric").loc["mse", "vae, seed 2"]
    other = after.set_index("metric").loc["mse", "vae, seed 1"]
    assert {one.split()[-1], other.split()[-1]} == {"better", "worse"} and one[0] != other[0]


def test_seeds_are_told_together_where_asked_for(open_page: Any, digits_logs: Path) -> None:
    page = opened(open_page, digits_logs, cmp_grouped="true")
    row = page.dataframe[0].value.set_index("metric").loc["mse"]
    both = Interval.of([value(digits_logs, name, "mse") for name in NAMES])
    assert row["vae (n=2)"] == str(both) and " ± " in str(both)


@pytest.mark.parametrize(
    ("view", "charts"), [("Curves", 1), ("Trade-offs", 2), ("Settings", 0), ("Pictures", 0)]
)
def test_every_view_opens(open_page: Any, digits_logs: Path, view: str, charts: int) -> None:
    page = opened(open_page, digits_logs, cmp_view=view)
    assert not page.error and page.segmented_control(key="cmp_view").value == view
    assert len(page.get("plotly_chart")) == charts
    if view == "Settings":
        assert {"seed", "data.seed"} <= {*page.dataframe[0].value["key"]}
    if view == "Pictures":
        assert len(page.get("image")) == 2
    if view == "Curves":
        chart = json.loads(page.get("plotly_chart")[0].proto.spec)
        assert [line["name"] for line in chart["data"]] == ["vae, seed 1", "vae, seed 2"]
        assert chart["data"][0]["y"] != chart["data"][1]["y"]
        assert {line["mode"] for line in chart["data"]} == {"lines+markers"}  # two points each
        assert chart["layout"]["yaxis"]["title"]["text"] == "loss (nats)"


def test_what_is_measured_now_is_what_was_tested(open_page: Any, digits_logs: Path) -> None:
    page = opened(open_page, digits_logs, cmp_view="Measure now")
    k = results(digits_logs, NAMES[0])["importance_samples"]
    page.number_input(key="cmp_k").set_value(k)
    page.button[0].click().run()
    assert not page.exception and not page.error
    table = page.dataframe[0].value.set_index("metric")
    for seed, name in enumerate(NAMES, 1):
        assert float(table.loc["mse", f"vae, seed {seed}"]) == pytest.approx(
            value(digits_logs, name, "mse"), rel=1e-3
        )
    page.multiselect(key="cmp_runs").set_value(NAMES[:1]).run()
    assert not page.dataframe and "measure again" in page.info[0].value


def test_measured_as_a_test_measures_the_numbers_are_its_own(digits_logs: Path) -> None:
    run, told = open_run(digits_logs / "vae" / "1"), results(digits_logs, "vae/1")
    x, labels, _ = run.held_out(10_000)
    found = measure(run, x, labels, told["importance_samples"], run.data.eval_batch_size)
    for name in ("mse", "recon_nll", "kl", "nll", "energy_mean", "active_units", "num_samples"):
        assert found[name] == pytest.approx(value(digits_logs, "vae/1", name), rel=1e-5), name


def test_the_report_holds_the_numbers_of_the_tests(open_page: Any, digits_logs: Path) -> None:
    page = opened(open_page, digits_logs, cmp_view="Report")
    assert not page.error and len(page.get("download_button")) == 2
    chosen = choose({name: read_run(digits_logs / name) for name in NAMES})
    document = report(chosen, chosen.labels[0], {"samples": b"png"})
    html, markdown = as_html(document), as_markdown(document)
    for name in NAMES:
        for metric in ("mse", "kl", "nll"):
            number = f"{value(digits_logs, name, metric):.4g}"
            assert f">{number}<" in html and number in markdown
    assert "data:image/png;base64,cG5n" in html and html.count("Plotly.newPlot(") > 3


def test_damaged_missing_and_foreign_runs_are_one_sentence_each(
    open_page: Any, digits_logs: Path, tmp_path: Path
) -> None:
    source = digits_logs / "vae" / "1"
    for name, spoiled in {"good": "", "damaged": "results.json", "foreign": "config.yaml"}.items():
        (tmp_path / name).mkdir()
        for file in ("run.json", "config.yaml", "results.json"):
            text = "{<b>*" if file == spoiled else (source / file).read_text()
            (tmp_path / name / file).write_text(text)
    runs = ["good", "damaged", "foreign", "missing"]
    page = open_page("compare", tmp_path, cmp_runs=runs)
    missing, warning = (one.value for one in page.warning)
    assert "not here: missing" in missing and warning.count("left out") == 2
    assert "vae, seed 1, good" in page.dataframe[0].value.columns
    page.run()
    assert len(page.warning) == 1  # told once
    for view in ("Pictures", "Measure now", "Report", "Curves"):
        page.segmented_control(key="cmp_view").set_value(view).run()
        assert not page.exception, view
    shutil.rmtree(tmp_path / "good")
    page.run()
    assert not page.exception and "not here: good" in page.warning[0].value


def test_without_a_choice_it_offers_the_newest_two(open_page: Any, digits_logs: Path) -> None:
    page = open_page("compare", digits_logs)
    assert not page.dataframe
    page.button[0].click().run()
    assert {*page.multiselect(key="cmp_runs").value} == {*NAMES} and len(page.dataframe) == 3


def test_without_runs_it_says_so(open_page: Any, tmp_path: Path) -> None:
    assert "no runs" in open_page("compare", tmp_path).info[0].value
