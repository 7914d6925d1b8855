"""The views of the latent explorer without a browser: every one shows what its own run's weights say."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from src.app.explorer import VIEWS

PAGE = """
from src.app.common import all_runs, choose_run, opened
from src.app.explorer import VIEWS

VIEWS["{view}"](opened(choose_run(all_runs())))
"""


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """``show(view, logs, run, ex_row="3")`` → the view, run once, without an exception."""

    def shown(view: str, logs: Path, run: str, **address: str) -> AppTest:
        monkeypatch.setenv("LATENT_LAB_LOGS", str(logs))
        page = AppTest.from_string(PAGE.format(view=view), default_timeout=120)
        for key, value in ({"run": run} | address).items():
            page.query_params[key] = value
        return checked(page.run())

    return shown


def checked(page: AppTest) -> AppTest:
    assert not page.exception, page.exception
    return page


def charts(page: AppTest) -> list[str]:
    """The plotly figures, as they are sent to the browser."""
    return [element.proto.spec for element in page.get("plotly_chart")]


def numbers(page: AppTest) -> list[Any]:
    """All tables and metrics."""
    return [table.value.to_dict() for table in page.dataframe] + [m.value for m in page.metric]


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "Geometry"])
def test_two_runs_show_other_pictures_and_other_numbers(show, digits_logs, view):
    one, two = (show(view, digits_logs, f"vae/{seed}") for seed in (1, 2))
    assert charts(one) and not one.error
    for ours, theirs in zip(charts(one), charts(two), strict=True):
        assert ours != theirs
    if view in ("Slices", "Interpolation", "Prior and posterior"):
        assert numbers(one) and numbers(one) != numbers(two)


def test_a_model_without_a_metric_says_so_and_shows_no_map(show, digits_logs):
    page = show("Geometry", digits_logs, "vae/1")
    assert "no latent metric" in page.info[0].value and not charts(page)
    page = show("Interpolation", digits_logs, "vae/1")
    assert "not defined for this model" in page.info[0].value
    assert [*page.dataframe[0].value["path"]] == ["linear", "spherical"]


def test_a_riemannian_model_has_maps_and_geodesics_that_are_no_longer_than_lines(
    show, sequence_logs
):
    page = show("Geometry", sequence_logs, "flow")
    table = page.dataframe[0].value
    assert len(table) == 4
    assert (table["geodesic / line"] <= 1 + 1e-6).all() and len(charts(page)) == 1
    page = show("Interpolation", sequence_logs, "flow")
    lengths = page.dataframe[0].value.set_index("path")["Riemannian length"]
    assert lengths["geodesic"] <= lengths["linear"] * (1 + 1e-6)


@pytest.mark.parametrize("view", ["Traversals", "Embeddings"])
def test_of_a_sequence_the_chosen_frame_is_shown(show, sequence_logs, view):
    first, later = (show(view, sequence_logs, "flow", ex_frame=t) for t in ("0", "3"))
    assert charts(first) != charts(later)


@pytest.mark.parametrize("view", ["Traversals", "Slices", "Interpolation"])
def test_hands_are_drawn_as_lines(show, hand_logs, view):
    page = show(view, hand_logs, "hand")
    assert not page.error
    assert '"thumb"' in charts(page)[0] and "data:image" not in charts(page)[0]


def test_settings_are_the_addresss_and_change_what_is_decoded(show, digits_logs):
    usual = show("Traversals", digits_logs, "vae/1")
    asked = show("Traversals", digits_logs, "vae/1", ex_at_row="5", ex_steps="3")
    assert "held-out sample 5" in asked.caption[0].value
    assert charts(asked) != charts(usual)
    usual.number_input(key="ex_at_row").set_value(5)
    usual.slider(key="ex_steps").set_value(3)
    assert charts(checked(usual.run())) == charts(asked)
    usual.multiselect(key="ex_dims").set_value([])
    assert "at least one dimension" in checked(usual.run()).info[0].value


@pytest.mark.parametrize("kind", ["prior mean", "prior draw", "typed z"])
def test_a_centre_can_come_from_elsewhere(show, digits_logs, kind):
    page = show("Slices", digits_logs, "vae/1", ex_at=kind, ex_px="0.5", ex_py="-1.5")
    assert not page.error
    z = page.dataframe[-1].value.set_index("dimension")["value (latent units)"]
    pair = [page.selectbox(key=key).value for key in ("ex_x", "ex_y")]
    assert z[pair].tolist() == pytest.approx([0.5, -1.5])
    others = z.drop(pair)
    assert (others == 0).all() == (kind != "prior draw")


def test_the_live_boards_z_can_be_the_centre(show, digits_logs):
    page = show("Slices", digits_logs, "vae/1", ex_at="live board")
    assert "no z of this run yet" in page.error[0].value
    page.session_state["ex_board_z"] = (str(digits_logs / "vae/1"), [1.0, 2.0, 3.0, 4.0])
    z = checked(page.run()).dataframe[-1].value.set_index("dimension")["value (latent units)"]
    pair = [page.selectbox(key=key).value for key in ("ex_x", "ex_y")]
    assert not page.error and set(z.drop(pair)) < {1.0, 2.0, 3.0, 4.0}
    page.session_state["ex_board_z"] = ("another run", [1.0, 2.0, 3.0, 4.0])
    assert "no z of this run yet" in checked(page.run()).error[0].value


def test_what_cannot_be_is_told_in_a_sentence(show, digits_logs):
    page = show("Interpolation", digits_logs, "vae/1", ex_a="typed z", ex_a_z="1 2")
    assert "4 finite numbers, and 2 were given" in page.error[0].value.replace("\\", "")
    page = show("Slices", digits_logs, "vae/1", ex_x="z 1", ex_y="z 1")
    assert "chosen twice" in page.error[0].value


def test_an_embedding_is_coloured_and_a_row_is_shown_with_its_reconstruction(show, digits_logs):
    page = show("Embeddings", digits_logs, "vae/1", ex_count="100", ex_row="7")
    assert "Row 7: label" in page.caption[-1].value
    labelled = charts(page)[0]
    page.selectbox(key="ex_colour").set_value("nothing")
    assert charts(checked(page.run()))[0] != labelled
    page.segmented_control(key="ex_method").set_value("t-SNE")
    first = charts(checked(page.run()))[0]
    page.slider(key="ex_perplexity").set_value(5)
    assert "t-SNE 1 (no unit)" in first and charts(checked(page.run()))[0] != first


def test_a_click_sets_what_the_chosen_point_says(monkeypatch):
    from src.app import explorer_charts

    state: dict[str, Any] = {
        "map": SimpleNamespace(selection=SimpleNamespace(points=[{"x": 1.5, "y": -2.0}]))
    }
    monkeypatch.setattr(explorer_charts.st, "session_state", state)
    explorer_charts.clicked("map", lambda point: [("ex_px", point["x"]), ("ex_py", point["y"])])
    assert state["ex_px"] == 1.5 and state["ex_py"] == -2.0
    state["map"].selection.points = []
    explorer_charts.clicked("map", lambda point: [("ex_px", 9.0)])
    assert state["ex_px"] == 1.5


def test_choosing_another_run_keeps_the_view_working(show, digits_logs):
    page = show("Slices", digits_logs, "vae/1", ex_x="z 3", ex_y="z 0")
    page.selectbox(key="run").set_value("vae/2")
    page.session_state["ex_reach"] = 9.0  # of a space that goes farther than this one's
    assert not checked(page.run()).error
    assert page.selectbox(key="ex_x").value == "z 3" and page.slider(key="ex_reach").value == 3
