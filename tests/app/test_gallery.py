"""The page of figures: what lies in a run's folders, and nothing that runs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from plotly.graph_objects import Figure, Scatter
from streamlit.testing.v1 import AppTest

from src.evaluation.animations import save_html
from tests.app.test_overview import make_run


def png(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), grey).save(path, "PNG")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """One run with figures of three epochs, a page, a sampler's figure, and one run without any."""
    run = make_run(tmp_path, "vae", "finished")
    for epoch in (2, 4, 6):
        for i, name in enumerate(("samples", "traversals")):
            png(run / "figures" / f"{name}_epoch_{epoch:04d}.png", 10 * epoch + i)
    png(run / "figures" / "samples.png", 99)
    save_html(Figure(Scatter(y=[1, 2])), run / "figures" / "paths.html")
    png(run / "samplers" / "gmm" / "figures" / "samples.png", 98)
    make_run(tmp_path, "new", "running", started=1.0)
    return tmp_path


def pictures(page: AppTest) -> list[str]:
    """The addresses of what is shown, which follow from its content."""
    return [image.proto.imgs[0].url for image in page.get("image")]


def run_of(logs: Path, name: str) -> str:
    return str(next((logs / name).iterdir()).relative_to(logs))


def test_figures_are_shown_by_stage(open_page: Callable[..., AppTest], logs: Path) -> None:
    page = open_page("gallery", logs, run=run_of(logs, "vae"))
    assert page.button_group(key="gal_stage").options == [
        "after the test",
        "during training",
        "sampler gmm",
    ]
    assert len(pictures(page)) == 1
    assert len(page.get("plotly_chart")) == 1
    assert not page.error
    page.button_group(key="gal_stage").set_value("sampler gmm").run()
    assert not page.exception
    assert len(pictures(page)) == 1
    assert not page.get("plotly_chart")


def test_a_slider_goes_through_the_epochs(open_page: Callable[..., AppTest], logs: Path) -> None:
    page = open_page("gallery", logs, run=run_of(logs, "vae"), gal_stage="during training")
    slider = page.select_slider(key="gal_epoch")
    assert list(slider.options) == ["2", "4", "6"]
    assert slider.value == 6
    last = pictures(page)
    assert len(last) == 2
    slider.set_value(2).run()
    assert not page.exception
    assert len(pictures(page)) == 2
    assert not set(pictures(page)) & set(last)


def test_an_address_names_the_epoch_and_the_figures(
    open_page: Callable[..., AppTest], logs: Path
) -> None:
    address = {"gal_stage": "during training", "gal_epoch": "4", "gal_figures": "samples"}
    page = open_page("gallery", logs, run=run_of(logs, "vae"), **address)
    assert page.select_slider(key="gal_epoch").value == 4
    assert len(pictures(page)) == 1
    assert "epoch 4" in page.markdown[-1].value


def test_playing_goes_on_to_the_next_epoch(open_page: Callable[..., AppTest], logs: Path) -> None:
    page = open_page("gallery", logs, run=run_of(logs, "vae"), gal_stage="during training")
    page.toggle(key="gal_play").set_value(True).run()
    assert not page.exception
    assert page.select_slider(key="gal_epoch").value == 2  # after the last comes the first


def test_a_run_without_figures_says_so(open_page: Callable[..., AppTest], logs: Path) -> None:
    page = open_page("gallery", logs, run=run_of(logs, "new"))
    assert "has no figures" in page.info[0].value
    assert not pictures(page)


def test_without_runs_there_is_one_sentence(
    open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    assert len(open_page("gallery", tmp_path).info) == 1


def test_a_damaged_picture_leaves_the_others(open_page: Callable[..., AppTest], logs: Path) -> None:
    run = run_of(logs, "vae")
    (logs / run / "figures" / "broken.png").write_bytes(b"half")
    page = open_page("gallery", logs, run=run)
    assert len(page.error) == 1
    assert len(pictures(page)) == 1


def test_a_strangers_page_is_not_run(open_page: Callable[..., AppTest], logs: Path) -> None:
    run = run_of(logs, "vae")
    (logs / run / "figures" / "paths.html").write_text("<script>alert(document.cookie)</script>")
    page = open_page("gallery", logs, run=run)
    assert "is no page with a figure of ours" in page.info[0].value
    assert not page.get("iframe") and not page.get("html") and not page.get("plotly_chart")


def test_a_name_is_text(open_page: Callable[..., AppTest], logs: Path) -> None:
    run = run_of(logs, "vae")
    png(logs / run / "figures" / "![x](http:evil)<b>.png", 3)
    png(logs / run / "samplers" / "*a*" / "figures" / "x.png", 3)
    page = open_page("gallery", logs, run=run)
    assert any(r"\!\[x\]\(http\:evil\)\<b\>" in text.value for text in page.markdown)
    assert page.button_group(key="gal_stage").options[-2:] == [r"sampler \*a\*", "sampler gmm"]


def test_two_runs_show_other_figures(
    open_page: Callable[..., AppTest], digits_logs: Path, tmp_path: Path
) -> None:
    """What is on the page comes from the run: two seeds differ in every figure, a copy in none."""
    shutil.copytree(digits_logs / "vae" / "1", tmp_path / "copy")
    shown = [pictures(open_page("gallery", digits_logs, run=f"vae/{seed}")) for seed in (1, 2)]
    assert len(shown[0]) == len(shown[1]) >= 4
    assert not set(shown[0]) & set(shown[1])
    assert pictures(open_page("gallery", tmp_path, run="copy")) == shown[0]
