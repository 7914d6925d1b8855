"""What all pages share, without any page."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from src.app.common import plain
from tests.app.conftest import at

CHOOSE = """
import streamlit as st
from src.app.common import all_runs, choose_run
run = choose_run(all_runs(), lambda run: "bad" not in run.path.name)
st.text(run.path.name if run else "none")
"""


def make_runs(logs: Path, *names: str) -> None:
    """Runs of which the first is the newest."""
    for age, name in enumerate(names):
        (logs / name).mkdir()
        (logs / name / "run.json").write_text(f'{{"state": "finished", "started": {100 - age}}}')


def choosing(**address: str) -> AppTest:
    return at(AppTest.from_string(CHOOSE), **address)


def test_the_newest_run_is_chosen_and_stands_in_the_address(logs: Path) -> None:
    make_runs(logs, "b", "a")
    page = choosing()
    assert page.text[0].value == "b" and not page.warning
    assert page.query_params["run"] == "b"
    make_runs(logs, "newer")
    assert page.run().text[0].value == "b"


def test_the_address_names_the_run(logs: Path) -> None:
    make_runs(logs, "b", "a")
    page = choosing(run="a")
    assert page.text[0].value == "a" and not page.warning
    page.selectbox("run").select("b").run()
    assert page.text[0].value == "b" and not page.warning


@pytest.mark.parametrize(
    ("asked", "why"), [("bad", "has nothing that could be shown here"), ("*gone*", "is not here")]
)
def test_a_run_that_cannot_be_shown_is_told_of(logs: Path, asked: str, why: str) -> None:
    make_runs(logs, "bad", "a")
    page = choosing(run=asked)
    assert page.text[0].value == "a"
    assert why in page.warning[0].value and plain(asked) in page.warning[0].value
    assert not page.run().warning


def test_a_run_that_vanishes_is_told_of(logs: Path) -> None:
    make_runs(logs, "b", "a")
    page = choosing(run="a")
    (logs / "a" / "run.json").unlink()
    page.run()
    assert not page.exception
    assert page.text[0].value == "b" and "is not here" in page.warning[0].value


def test_without_runs_it_says_how_to_get_one(logs: Path) -> None:
    page = choosing()
    assert page.text[0].value == "none" and "Experiments" in page.info[0].value


def test_text_of_anybody_s_is_shown_as_it_is() -> None:
    assert plain("a_b *c*\n[d](e)") == r"a\_b \*c\* \[d\]\(e\)"
    assert plain("<script>$x$ :red[y]") == r"\<script\>\$x\$ \:red\[y\]"
