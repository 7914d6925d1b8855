"""The figures of a run are found, and opening one runs nothing."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from plotly.graph_objects import Figure, Frame, Heatmap, Scatter

from src.evaluation.animations import save_html
from src.runs.figures import (
    COMPLETION,
    TESTED,
    TRAINING,
    figures,
    newest_pictures,
    read_page,
    read_png,
)
from src.utils.errors import UserError


def png(path: Path, size: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size, size), 9).save(path, "PNG")
    return path


def page(path: Path, *traces: Any, frames: Any = (), **layout: Any) -> Path:
    save_html(Figure(list(traces), layout=layout, frames=list(frames)), path)
    return path


def test_figures_are_listed_by_stage_name_and_epoch(tmp_path: Path) -> None:
    names = ["samples.png", "samples_epoch_0010.png", "samples_epoch_0002.png", "a_epoch_0002.png"]
    for name in names:
        png(tmp_path / "figures" / name)
    page(tmp_path / "figures" / "sequences.html", Scatter(y=[1, 2]))
    png(tmp_path / "samplers" / "gmm" / "figures" / "samples.png")
    png(tmp_path / "completion" / "thumb.png")
    (tmp_path / "figures" / "notes.txt").write_text("no figure")
    found = [(f.stage, f.name, f.epoch, f.is_page) for f in figures(tmp_path)]
    assert found == [
        (TESTED, "samples", None, False),
        (TESTED, "sequences", None, True),
        (TRAINING, "a", 2, False),
        (TRAINING, "samples", 2, False),
        (TRAINING, "samples", 10, False),
        (COMPLETION, "thumb", None, False),
        ("sampler gmm", "samples", None, False),
    ]
    assert figures(tmp_path / "nothing") == []


def test_what_leads_out_of_the_run_is_passed_over(tmp_path: Path) -> None:
    secret = png(tmp_path / "secret.png")
    folder = tmp_path / "run" / "figures"
    own = png(folder / "own.png")
    (folder / "link.png").symlink_to(secret)
    (folder / "same.png").symlink_to(own)
    assert [figure.name for figure in figures(tmp_path / "run")] == ["own", "same"]


def test_the_newest_pictures_come_first(tmp_path: Path) -> None:
    for age, name in enumerate(("a", "c", "b")):
        path = png(tmp_path / "figures" / f"{name}.png")
        os.utime(path, (100 - age, 100 - age))
    page(tmp_path / "figures" / "page.html", Scatter(y=[1]))
    assert [figure.name for figure in newest_pictures(tmp_path, 2)] == ["a", "c"]


def test_a_picture_that_vanishes_after_it_was_listed_is_told_of(tmp_path: Path) -> None:
    path = png(tmp_path / "figures" / "a.png")
    (listed,) = figures(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read as a picture"):
        read_png(listed.path)


def test_a_picture_is_read_as_it_is(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png")
    assert read_png(path) == path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"<svg/>", "cut"])
def test_a_damaged_picture_is_told(tmp_path: Path, content: bytes | str) -> None:
    path = png(tmp_path / "a.png", 300)
    path.write_bytes(path.read_bytes()[:60] if content == "cut" else content)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a.png cannot be read as a picture"):
        read_png(path)


def test_a_picture_too_large_to_be_shown_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.runs.figures.PIXELS", 100)
    assert read_png(png(tmp_path / "small.png", 10))
    with pytest.raises(UserError, match=r"large\.png has 11×11 pixels"):
        read_png(png(tmp_path / "large.png", 11))


def test_a_page_of_ours_gives_back_its_figure(tmp_path: Path) -> None:
    frames = [Frame(data=[Scatter(y=[3.0, 4.0])], name="1", layout={"title": {"text": "one"}})]
    path = page(
        tmp_path / "a.html", Heatmap(z=[[1, 2]]), frames=frames, title_text='a "title", [0]'
    )
    found = Figure(**read_page(path))
    assert found.layout.title.text == 'a "title", [0]'
    assert list(found.data[0].z[0]) == [1, 2]
    assert list(found.frames[0].data[0].y) == [3, 4]


def foreign(data: Any, layout: Any = None, frames: Any = None) -> str:
    """A page as plotly writes it, of any content."""
    told = f'Plotly.newPlot("id", {json.dumps(data)}, {json.dumps(layout or {})}, {{}})'
    added = "" if frames is None else f"Plotly.addFrames('id', {json.dumps(frames)})"
    return f"<script>{told}.then(() => {{ {added} }})</script>"


ELSEWHERE = {"type": "image", "source": "http://elsewhere.example/a.png"}
FOREIGN = {
    "no plotly": ("<script>alert(1)</script>", "is no page with a figure of ours"),
    "no JSON": ('Plotly.newPlot("id", [fetch("x")], {})', "is no page with a figure of ours"),
    "deep": ('Plotly.newPlot("id", ' + "[" * 100_000, "is no page with a figure of ours"),
    "no figure": (foreign({"a": 1}), "is no page with a figure of ours"),
    "map": (foreign([{"type": "scattergeo"}]), "parts that our figures do not have"),
    "map in the layout": (foreign([], {"mapbox": {}}), "parts that our figures do not have"),
    "picture from elsewhere": (foreign([ELSEWHERE]), "parts that our figures do not have"),
    "in a frame": (foreign([], {}, [{"data": [ELSEWHERE]}]), "parts that our figures do not have"),
    "in a frame's layout": (
        foreign([], {}, [{"layout": {"images": []}}]),
        "parts that our figures do not have",
    ),
    "behind a button": (
        foreign([], {"updatemenus": [{"buttons": [{"args": [{"images": "http://x"}]}]}]}),
        "parts that our figures do not have",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_page_of_another_kind_is_refused(tmp_path: Path, case: str) -> None:
    content, told = FOREIGN[case]
    path = tmp_path / "a.html"
    path.write_text(content)
    with pytest.raises(UserError, match=told):
        read_page(path)


def test_a_template_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(foreign([], {"template": {"layout": {"images": [{"source": "http://x"}]}}}))
    assert read_page(path)["layout"] == {}


def test_a_page_that_is_no_text_or_gone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    with pytest.raises(UserError, match=r"a\.html cannot be read"):
        read_page(path)
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"a\.html cannot be read"):
        read_page(path)


def test_a_page_nested_without_end_is_refused_or_read(tmp_path: Path) -> None:
    for deep in (*range(800, 1000, 10), 10**5):
        nested = "[" * deep + "]" * deep
        (tmp_path / "a.html").write_text(f'Plotly.newPlot("a", [{{"y": {nested}}}], {{}})')
        try:
            assert read_page(tmp_path / "a.html")["layout"] == {}
        except UserError as error:
            assert "is no page with a figure of ours" in str(error)
