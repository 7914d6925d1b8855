"""The figures of a run: which there are, and what is in them. Nothing in them is executed, whoever made them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.runs.reading import file_stamp, is_text
from src.utils.errors import UserError
from src.utils.pictures import opened_picture

# Where figures lie below a run, and what they were made by.
TESTED, TRAINING, COMPLETION = "after the test", "during training", "completion of poses"
SAMPLER = "sampler {}"
EPOCH = re.compile(r"(.+)_epoch_(\d+)")
FOLLOWING = re.compile(r"[\s,]*")  # what lies between two arguments
ENDINGS = (".png", ".html")
# Bytes of a page that is looked into, and pixels of a picture that is shown.
LARGEST_PAGE, PIXELS = 32_000_000, 50_000_000
# What our own pages have, axes aside. Others, such as maps and pictures behind a plot, load from a network.
TRACES = ("heatmap", "image", "scatter")
LAYOUT = (
    "annotations font height legend margin showlegend sliders title title.text updatemenus width"
)
EMBEDDED = "data:image/png;base64,"


@dataclass(frozen=True)
class FigureFile:
    """One figure.

    Attributes:
        path: a PNG picture or an HTML page.
        stage: what it was made by, to be shown.
        name: of what it shows.
        epoch: after which it was made, counted from 1; None where that is the end.
    """

    path: Path
    stage: str
    name: str
    epoch: int | None = None

    @property
    def is_page(self) -> bool:
        """Whether it is a page that moves."""
        return self.path.suffix == ".html"


def figures(run: Path) -> list[FigureFile]:
    """The figures of a run, by stage, name and epoch; what leads out of the run is passed over."""
    found = [_named(path) for path in _files(run, run / "figures")]
    for folder in sorted(f for f in (run / "samplers").glob("*/figures") if is_text(str(f))):
        stage = SAMPLER.format(folder.parent.name)
        found += [FigureFile(path, stage, path.stem) for path in _files(run, folder)]
    found += [FigureFile(p, COMPLETION, p.stem) for p in _files(run, run / "completion")]
    order = {TESTED: 0, TRAINING: 1}
    return sorted(found, key=lambda f: (order.get(f.stage, 2), f.stage, f.name, f.epoch or 0))


def newest_pictures(run: Path, number: int) -> list[FigureFile]:
    """Those of a run's pictures that were written last, at most ``number``, the newest first."""
    made = [figure for figure in figures(run) if not figure.is_page]
    # What is gone since it was listed comes last.
    made.sort(key=lambda figure: file_stamp(figure.path) or (0, 0), reverse=True)
    return made[:number]


def _files(run: Path, folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError:  # there is none, or it is no folder that may be read
        return []
    inside = run.resolve()
    return [
        path
        for path in found
        if path.suffix in ENDINGS
        and is_text(path.name)
        and path.is_file()
        and path.resolve().is_relative_to(inside)
    ]


def _named(path: Path) -> FigureFile:
    match = EPOCH.fullmatch(path.stem)
    if match is None:
        return FigureFile(path, TESTED, path.stem)
    return FigureFile(path, TRAINING, match[1], int(match[2]))


def read_png(path: Path) -> bytes:
    """The content of a picture that can be shown.

    Raises:
        UserError: it is gone, damaged, half-written or too large.
    """
    with opened_picture(path, ("PNG",), PIXELS) as picture:
        picture.load()
        return path.read_bytes()


def read_page(path: Path) -> dict[str, Any]:
    """The plotly figure in a page of ours: ``data``, ``layout`` and ``frames``, which are plain values.

    The page's own scripts are not run: they could do in the app's name whatever the person at it can do.

    Raises:
        UserError: it is no such page, is too large, or would load something from a network.
    """
    try:
        if path.stat().st_size > LARGEST_PAGE:
            raise UserError(f"{path} is larger than {LARGEST_PAGE // 10**6} MB and is not shown")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    try:
        data, layout = _arguments(text, "newPlot", 2)
        frames = _arguments(text, "addFrames", 1)[0] if "Plotly.addFrames(" in text else []
        if isinstance(layout, dict):
            layout.pop("template", None)  # plotly's own, which is known here
        ours = _has_only_our_parts(data, layout, frames)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no page with a figure of ours") from error
    if not ours:
        raise UserError(f"{path} has parts that our figures do not have, and is not shown")
    return {"data": data, "layout": layout, "frames": frames}


def _arguments(text: str, call: str, count: int) -> list[Any]:
    """What one of plotly's functions is given in a page after the name of its place, which are JSON.

    Raises:
        ValueError: it is not called, or with something else.
    """
    decoder, found = json.JSONDecoder(), []
    start = re.search(rf"Plotly\.{call}\(\s*(\"[^\"]*\"|'[^']*')", text)
    if start is None:
        raise ValueError(f"there is no {call}")
    at = start.end()
    for _ in range(count):
        at = FOLLOWING.match(text, at).end()  # type: ignore[union-attr]
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


def _has_only_our_parts(data: Any, layout: Any, frames: Any) -> bool:
    """Whether a figure is drawn of what ours are, and loads nothing from elsewhere.

    Raises:
        ValueError: it is no figure.
    """
    if not isinstance(data, list) or not isinstance(layout, dict) or not isinstance(frames, list):
        raise ValueError("a figure has data and frames, which are lists, and a layout")
    drawn = [frame for frame in frames if isinstance(frame, dict)]
    traces = [*data, *(trace for frame in drawn for trace in _list(frame.get("data")))]
    laid = [layout, *(frame.get("layout") or {} for frame in drawn)]
    good = all(isinstance(one, dict) and one.get("type", "scatter") in TRACES for one in traces)
    good &= all(isinstance(one, dict) and all(map(_is_ours, one)) for one in laid)
    return good and not any(map(_leads_out, _texts([data, layout, frames])))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_ours(key: str) -> bool:
    return key in LAYOUT.split() or re.fullmatch(r"[xy]axis\d*", key) is not None


def _leads_out(text: str) -> bool:
    return "//" in text and not text.startswith(EMBEDDED)


def _texts(value: Any) -> Iterator[str]:
    """All texts in plain values, but not those of numbers in base64."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict) and "bdata" not in value:
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
