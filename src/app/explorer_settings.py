"""What the views of the latent explorer share: settings in the address, and codes that are computed once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import streamlit as st

from src.app.common import told, weights_of

if TYPE_CHECKING:  # torch is imported when a model is opened
    from torch import Tensor

    from src.evaluation.exploring.codes import Codes
    from src.evaluation.exploring.space import LatentSpace
    from src.evaluation.opened import OpenedRun

P = ParamSpec("P")
R = TypeVar("R")
# Held-out samples that dimensions are sorted by and maps show.
SAMPLES = 500
# Results of every kind kept for all windows; codes of 500 samples in 32 dimensions are 64 kB.
KEPT = 8
# By its name, as the class itself brings torch.
SPACE = "src.evaluation.exploring.space.LatentSpace"
PLACES = ("held-out sample", "prior mean", "prior draw", "typed z", "live board")
# Where the board leaves its z for the other views: the run's path and the numbers.
BOARD = "ex_board_z"


@dataclass(frozen=True)
class Place:
    """A point that was chosen.

    Attributes:
        z: (D,).
        label: of the sample that it is the code of; None of any other.
        name: what it is, in words.
    """

    z: "Tensor"
    label: int | None
    name: str


def view(show: Callable[["OpenedRun"], None]) -> Callable[["OpenedRun"], None]:
    """A view of its own: its settings make it run again and leave the rest of the page alone; errors are told."""

    @st.fragment
    @functools.wraps(show)
    def shown(opened: "OpenedRun") -> None:
        with told():
            show(opened)

    return shown


def settings() -> Any:
    """Where boxes stand side by side, as many as there is room for."""
    return st.container(horizontal=True, vertical_alignment="bottom")


def space_of(opened: "OpenedRun") -> "LatentSpace":
    """The run's latent space, of a frame that is chosen where samples are sequences; tells what is special of it."""
    from src.evaluation.exploring.space import LatentSpace

    space = LatentSpace(opened)
    if space.frames > 1:
        frame = st.slider("Frame t", 0, space.frames - 1, key="ex_frame", bind="query-params")
        space = LatentSpace(opened, frame)
    for note in space.notes:
        st.caption(note)
    return space


def kept(spinner: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compute a function of a latent space and of settings once for all windows, as long as the weights are the same.

    Args:
        spinner: what is said meanwhile.
    """
    return st.cache_resource(
        max_entries=KEPT,
        show_spinner=spinner,
        hash_funcs={SPACE: lambda space: (weights_of(space.opened), space.frame)},
    )


def codes_of(space: "LatentSpace", count: int = SAMPLES) -> "Codes":
    """Codes of held-out samples, the same for all windows.

    Raises:
        UserError: the data are not on this machine.
    """
    return _codes(space, count)  # to Streamlit, an argument left out is not the same as its default


@kept("Encoding held-out data …")
def _codes(space: "LatentSpace", count: int) -> "Codes":
    return space.codes(count)


def choose_place(
    space: "LatentSpace", name: str, key: str, row: int = 0, first: str = PLACES[0]
) -> Place:
    """A latent point by where it comes from, as a part of the address.

    Args:
        name: of the box.
        key: of it; its parts have it as their beginning.
        row: held-out sample at the start.
        first: of ``PLACES``, at the start.

    Raises:
        UserError: there is no such point.
    """
    kind = st.selectbox(name, PLACES, PLACES.index(first), key=key, bind="query-params")
    if kind == "held-out sample":
        return _held_out(space, name, f"{key}_row", row)
    if kind == "prior mean":
        return Place(space.prior_mean(), None, "the prior mean")
    if kind == "prior draw":
        seed = st.number_input(
            f"{name}: seed", 0, 2**31 - 1, row, key=f"{key}_seed", bind="query-params"
        )
        return Place(space.draws(1, int(seed))[0], None, f"a draw from {space.source}, seed {seed}")
    if kind == "typed z":
        return _typed(space, name, f"{key}_z")
    return _of_board(space)


def choose_ends(space: "LatentSpace") -> tuple[Place, Place]:
    """Two points that paths lead between."""
    a = choose_place(space, "From", "ex_a")
    return a, choose_place(space, "To", "ex_b", row=space.held_out // 2)


def _held_out(space: "LatentSpace", name: str, key: str, row: int) -> Place:
    last = space.held_out - 1
    chosen = int(
        st.number_input(
            f"{name}: row, 0 to {last}", 0, last, min(row, last), key=key, bind="query-params"
        )
    )
    label = space.sample(chosen)[1]
    known = "" if label is None else f", label {label}"
    return Place(space.code_of(chosen), label, f"held-out sample {chosen}{known}")


def _typed(space: "LatentSpace", name: str, key: str) -> Place:
    from src.evaluation.exploring.codes import parsed

    text = st.text_input(
        f"{name}: z, {space.dim} numbers",
        " ".join(["0"] * space.dim),
        key=key,
        bind="query-params",
    )
    return Place(space.project(parsed(text, space.dim)), None, "a typed z")


def _of_board(space: "LatentSpace") -> Place:
    import torch

    from src.utils.errors import UserError

    path, numbers = st.session_state.get(BOARD, ("", []))
    if path != str(space.opened.path) or len(numbers) != space.dim:
        raise UserError("the live board has no z of this run yet; open the view Live first")
    return Place(torch.tensor(numbers), None, "the live board's z")


def choose_class(space: "LatentSpace", label: int | None) -> int | None:
    """The class that a conditional decoder is given; None for every other model, and where it is unknown.

    Args:
        label: of the point that is shown.
    """
    if space.classes is None:
        return None
    options = ["as labelled", "unknown", *map(str, range(space.classes))]
    chosen = st.selectbox(
        "Class given to the decoder",
        options,
        key="ex_class",
        bind="query-params",
        help="as labelled: that of the held-out sample, and unknown for every other point.",
    )
    if chosen == "as labelled":
        return label
    return None if chosen == "unknown" else int(chosen)


def dimension_names(codes: "Codes") -> list[str]:
    """``z 7`` and so on, the most informative first."""
    return [f"z {d}" for d in codes.order]


def axes_of(pair: tuple[int, int]) -> tuple[str, str]:
    """What stands at the axes of a plane of two dimensions."""
    first, second = pair
    return f"z {first} (latent units)", f"z {second} (latent units)"


def number_of(name: str) -> int:
    """The inverse of ``dimension_names``."""
    return int(name.removeprefix("z "))


def choose_pair(codes: "Codes") -> tuple[int, int]:
    """Two dimensions, the two most informative at the start.

    Raises:
        UserError: there is only one.
    """
    from src.utils.errors import UserError

    names = dimension_names(codes)
    if len(names) < 2:
        raise UserError("this model has one latent dimension, and a plane takes two")
    first = st.selectbox("Across", names, 0, key="ex_x", bind="query-params")
    second = st.selectbox("Up", names, 1, key="ex_y", bind="query-params")
    if first == second:
        raise UserError(f"{first} is chosen twice, and a plane takes two different dimensions")
    return number_of(first), number_of(second)


def choose_reach(space: "LatentSpace", codes: "Codes") -> float:
    """How far from 0 dimensions go."""
    from src.evaluation.exploring.space import reach

    usual = reach(space, codes)
    step, most = usual / 30, 2 * usual
    if not step <= st.session_state.get("ex_reach", usual) <= most:
        del st.session_state["ex_reach"]  # it was of another run, whose dimensions go farther
    return st.slider(
        "Range ± (latent units)",
        step,
        most,
        usual,
        step,
        format="%.2f",
        key="ex_reach",
        bind="query-params",
        help="At first what holds nearly all of the prior, or of the codes where there is none in R^D.",
    )
