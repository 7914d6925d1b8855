"""The live board of the latent explorer: the page's side of ``board.js``, which has the sliders and the picture."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from src.app.common import OPEN_MODELS, opened, plain, told, weights_of
from src.app.explorer_settings import BOARD
from src.runs import Run
from src.utils.errors import UserError

if TYPE_CHECKING:
    from src.evaluation.exploring.dimensions import Dimensions
    from src.evaluation.exploring.exploration import Answer
    from src.evaluation.exploring.sliders import Sliders
    from src.evaluation.opened import OpenedRun

# What the address says of the sliders, each behind this.
PREFIX = "live_"
SAID = ("mode", "seed", "fixed", "label", "mu", "sigma", "z")
# What a button asks the server for; the others only move sliders.
ACTIONS = ("randomise", "sample")
# A question that asks for nothing but z and its picture.
EMPTY = {"action": "", "row": None, "number": 0, "again": False}
# The answer to what cannot be answered.
NOTHING: dict[str, Any] = {"adopt": False, "row": None, "address": {}}
NOTHING |= dict.fromkeys(("z", "picture", "original"))
# Whether a window has looked at its address: later runs start from the middle.
READ = "ex_board_address_read"

_files = Path(__file__).parent
_mount = st.components.v2.component(
    "latent_lab_board",
    html=(_files / "board.html").read_text(encoding="utf-8"),
    css=(_files / "board.css").read_text(encoding="utf-8"),
    # One module, whose parts are files.
    js="".join(
        (_files / name).read_text(encoding="utf-8") for name in ("board.js", "board_parts.js")
    ),
)


@st.fragment
def board(run: Run, name: str) -> None:
    """Sliders for every dimension of a run's z, and what its model decodes.

    The browser sends what its sliders say as the state ``asked``, and is sent z and the picture; this is all that runs
    when one moves.

    Args:
        run: with weights.
        name: as the address has it.
    """
    from src.evaluation.exploring.exploration import samples

    with told():
        explored = opened(run)
        key = _key(explored)
        held_out = samples(explored)
        dims = _dimensions(key, held_out, explored)
        question = _question(key, explored, dims)
        data = _board(key, explored, dims, held_out) | _answered(explored, dims, question, name)
        _mount(key=key, data=data, on_asked_change=lambda: None)


@st.cache_data(max_entries=4 * OPEN_MODELS, show_spinner="Encoding held-out data …")
def _dimensions(key: str, samples: int, _explored: "OpenedRun") -> "Dimensions":
    """Of the weights that are behind ``key``; sorted as soon as there are held-out ``samples``."""
    from src.evaluation.exploring.dimensions import dimensions

    return dimensions(_explored)


def _key(explored: "OpenedRun") -> str:
    """Of the board of a run as it is now: other weights may have other dimensions."""
    return f"ex_board_{hashlib.sha1(str(weights_of(explored)).encode()).hexdigest()[:12]}"


def _kept(explored: "OpenedRun", dims: "Dimensions") -> str:
    """Where a window keeps a run's last question: sliders stay where they are when a training writes new weights."""
    return f"ex_board_kept_{dims.count}_{explored.path}"


def _question(key: str, explored: "OpenedRun", dims: "Dimensions") -> dict[str, Any]:
    """What is asked now: what the board has sent last, or what was answered last, or what the address says."""
    kept = st.session_state.get(_kept(explored, dims))
    asked = st.session_state.get(key, {}).get("asked")
    if isinstance(asked, Mapping) and (kept is None or asked.get("number") != kept["number"]):
        return {**EMPTY, **asked}
    if kept is not None:
        return {**kept, "again": True}
    return {**EMPTY, **_at_first(dims.count).as_json()}


def _at_first(count: int) -> "Sliders":
    from src.evaluation.exploring.sliders import Sliders

    said = {
        name: st.query_params[PREFIX + name] for name in SAID if PREFIX + name in st.query_params
    }
    if said and not st.session_state.get(READ):
        try:
            return Sliders.of_address(said, count)
        except UserError as error:
            st.warning(f"The sliders of this address cannot be set: {plain(error)}.")
    return Sliders.start(count)


def _answered(
    explored: "OpenedRun", dims: "Dimensions", question: dict[str, Any], name: str
) -> dict[str, Any]:
    """What changes with every question; an error is a part of it, and there is no picture then."""
    from src.evaluation.exploring.exploration import answer
    from src.evaluation.exploring.sliders import Sliders

    st.session_state[READ] = True
    kept = _kept(explored, dims)
    st.session_state[kept] = question
    try:
        sliders = Sliders.read(question, dims.count)
        found = answer(explored, dims.shape, sliders, question["action"], question["row"])
        shown = _shown(explored, found, question)
    except UserError as error:
        return NOTHING | {"answer": question["number"], "sliders": question, "error": str(error)}
    said = found.sliders.as_json()
    st.session_state[kept] = {**question, **said, "action": ""}
    st.session_state[BOARD] = (str(explored.path), shown["z"])
    return {
        **{"answer": question["number"], "adopt": question["action"] in ACTIONS, "error": ""},
        **{"sliders": said, "row": question["row"], "address": _address(found.sliders, name)},
        **shown,
    }


def _address(sliders: "Sliders", name: str) -> dict[str, str | None]:
    """What has to stand in the address, and what not, None."""
    said = {PREFIX + key: text for key, text in sliders.address().items()}
    return {"run": name} | {PREFIX + key: None for key in SAID} | said


def _shown(explored: "OpenedRun", found: "Answer", question: dict[str, Any]) -> dict[str, Any]:
    from src.evaluation.exploring.inline_pictures import inline

    z = [round(value, 5) for value in found.z.flatten().tolist()]
    original = None
    # It stays where it is while sliders move, and is sent when the board comes back from another view.
    if found.sample is not None or question["again"]:
        original = _original(explored, question["row"], found)
    return {"z": z, "picture": asdict(inline(explored, found.x)), "original": original}


def _original(explored: "OpenedRun", row: int | None, found: "Answer") -> dict[str, Any] | None:
    """The held-out sample whose code the sliders have been set to."""
    from src.evaluation.exploring.exploration import of_sample
    from src.evaluation.exploring.inline_pictures import inline

    if row is None:
        return None
    sample = found.sample or of_sample(explored, row, found.sliders)
    caption = f"Held-out sample {row}" + ("" if sample.label is None else f", label {sample.label}")
    return asdict(inline(explored, sample.x)) | {"caption": caption, "note": sample.told}


def _board(key: str, explored: "OpenedRun", dims: "Dimensions", held_out: int) -> dict[str, Any]:
    """What stays the same while sliders move."""
    from src.evaluation.exploring.exploration import modes
    from src.models.meters import ACTIVE_VARIANCE

    rows = [
        {
            "index": i,
            "name": dims.names[i],
            "told": dims.information[i] if dims.information else None,
            "active": dims.active[i],
        }
        for i in dims.order
    ]
    return {
        "run": key,
        "dimensions": rows,
        "information": f"{'KL' if dims.unit == 'nats' else 'variance'} ({dims.unit})",
        "unit": dims.unit,
        "threshold": ACTIVE_VARIANCE,
        "notes": list(dims.told),
        "reach": list(dims.reach),
        "modes": modes(explored.model),
        "classes": explored.classes or 0,
        "samples": held_out,
    }
