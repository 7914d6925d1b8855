"""What a model makes of one sample, or of many: codes, reconstruction, error, energy."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from src.app.common import (
    OPEN_MODELS,
    all_runs,
    choose_run,
    has_weights,
    opened,
    plain,
    told,
    weights_of,
)
from src.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from src.evaluation.inference.fitting import Expected
    from src.evaluation.inference.infer import Yardstick
    from src.evaluation.inference.uploads import Samples
    from src.evaluation.opened import OpenedRun

DATA, UPLOAD, PRIOR = "data", "upload", "prior"
OWN, UNKNOWN = "own", "unknown"
MEGABYTES = 200


@dataclass(frozen=True)
class Asked:
    """What the model is asked about.

    Attributes:
        x: (1, *shape).
        name: of it, anybody's text.
        label: its class where the data tell one.
        many: all samples of an upload.
    """

    x: "Tensor"
    name: str
    label: int | None = None
    many: "Samples | None" = None


def page() -> None:
    """A run's model asked about a sample of its data, a file of the person's own, or a draw of its prior."""
    st.title("Inference")
    run = choose_run(all_runs(), has_weights)
    if run is not None:
        with told():
            _ask(opened(run))


def _ask(run: "OpenedRun") -> None:
    source = st.segmented_control(
        "Sample from",
        [DATA, UPLOAD, PRIOR],
        default=DATA,
        required=True,
        help="The run's own data, files of yours, or a draw of the model's prior.",
        key="inf_source",
        bind="query-params",
    )
    choice = _class(run)
    drawn = partial(_from_prior, number=_number(choice))
    readers: dict[str, Callable[[OpenedRun], Asked | None]]
    readers = {DATA: _from_data, UPLOAD: _from_upload, PRIOR: drawn}
    asked = readers[source or DATA](run)
    if asked is None:
        return
    from src.app.inference_batch import many
    from src.app.inference_views import show

    c = _number(choice, asked.label)
    if c == -1 and choice == OWN:
        st.caption("This sample has no class: to the model it is an unknown one.")
    yardstick = _yardstick(run, c != -1)
    show(run, asked.x, asked.name, c, yardstick)
    if asked.many is not None and len(asked.many) > 1:
        many(run, asked.many, c, yardstick)


def _class(run: "OpenedRun") -> str | None:
    """Which class the model is told; None for a model that takes none."""
    if run.classes is None:
        return None
    choices = [OWN, UNKNOWN, *map(str, range(run.classes))]
    helped = "This model is conditional. own: the label that the data give a sample, unknown where there is none."
    return st.selectbox("Class", choices, key="inf_class", bind="query-params", help=helped)


def _number(choice: str | None, label: int | None = None) -> int | None:
    """The class as models take it, −1 for an unknown one."""
    if choice is None:
        return None
    if choice == OWN:
        return -1 if label is None else label
    return -1 if choice == UNKNOWN else int(choice)


def _from_data(run: "OpenedRun") -> Asked:
    """A row of a split."""
    import torch

    left, right = st.columns(2)
    splits = [split for split in ("test", "val", "train") if split in run.data.splits]
    split = left.selectbox("Split", splits, key="inf_split", bind="query-params")
    size = len(run.data.splits[split]["x"])
    row = right.number_input(
        f"Number (0 to {size - 1:,})", 0, size - 1, 0, key="inf_row", bind="query-params"
    )
    rows = torch.tensor([int(row)])
    labels = run.data.labels(split)
    label = None if labels is None else int(labels[rows])
    if split == "train":
        st.caption("The model has learned from this split: its numbers are no test.")
    told_label = "" if label is None else f", label {label}"
    return Asked(
        run.data.rows(split, rows), f"sample {row} of the {split} split{told_label}", label
    )


def _from_upload(run: "OpenedRun") -> Asked | None:
    """One of the samples in files of the person's own."""
    from src.evaluation.inference.infer import expected

    wanted = expected(run)
    scaled = "; pictures of other sizes are scaled" if wanted.pictures else ""
    files = st.file_uploader(
        f"Files with samples of shape {list(wanted.shape)}{' in radians' if wanted.pose else scaled}",
        [ending.removeprefix(".") for ending in wanted.endings],
        accept_multiple_files=True,
        max_upload_size=MEGABYTES,
        key="inf_files",
    )
    if not files:
        st.info(_how_to_upload(wanted.pose, len(wanted.shape)))
        return None
    samples = _read(files, wanted)
    for change, count in samples.changes.items():
        st.caption(f"{count:,} of {len(samples):,}: {plain(change)}.")
    for sentence in samples.refused:
        st.warning(plain(sentence))
    number = 0
    if len(samples) > 1:
        number = st.number_input(
            f"Show sample (0 to {len(samples) - 1:,})", 0, len(samples) - 1, 0, key="inf_sample"
        )
    return Asked(samples.floats(slice(number, number + 1)), samples.names[number], many=samples)


def _how_to_upload(pose: bool, axes: int) -> str:
    if pose:
        what = "An NPY, NPZ or CSV of poses, 30×3 or 90 numbers each, or hand data as they come"
    elif axes == 4:
        what = "An animated GIF, or an NPY or NPZ of sequences (frames, channels, height, width)"
    elif axes == 3:
        what = "Pictures, or an NPY or NPZ of many"
    else:
        what = "An NPY, NPZ or CSV with one sample a row"
    return f"{what}. Several files, or an array of several samples, become a table."


def _read(files: list[Any], wanted: "Expected") -> "Samples":
    """The samples of uploaded files, read once: moving a widget runs the page again."""
    from src.evaluation.inference.uploads import read_uploads

    key = (wanted, tuple(file.file_id for file in files))
    kept = st.session_state.get("_inf_read")
    if kept is None or kept[0] != key:
        found = read_uploads([(file.name, file.getvalue()) for file in files], wanted)
        kept = st.session_state["_inf_read"] = (key, found)
    return kept[1]


def _from_prior(run: "OpenedRun", number: int | None) -> Asked | None:
    """A draw of the prior given the class ``number``, or of the sampler in its place."""
    import torch

    from src.evaluation.inference.infer import drawn

    if not run.model.can_sample:
        st.info(
            "This model has no prior to draw from, and no sampler has been fitted in its place."
        )
        return None
    seed = int(st.number_input("Seed", 0, 2**31 - 1, 0, key="inf_seed", bind="query-params"))
    c = None if number is None else torch.tensor([number])
    source = (
        "from the prior" if run.model.sampler is None else "by the sampler in the prior's place"
    )
    return Asked(drawn(run, seed, c), f"drawn {source} with seed {seed}")


def _yardstick(run: "OpenedRun", known: bool) -> "Yardstick | None":
    """What percentiles are of: the run's calibration, else held-out data; None, with a sentence, without either."""
    from src.evaluation.inference.infer import has_energy
    from src.runs.loading import CALIBRATION

    if not has_energy(run):
        st.info(
            "This model has no prior and no density, so that there is no energy, no KL and no percentile."
        )
        return None
    file, written = run.weights.with_name(CALIBRATION), 0
    with suppress(FileNotFoundError):
        written = file.stat().st_mtime_ns
    try:
        found = _calibrated(weights_of(run), written, run)
    except UserError as error:
        st.warning(f"{plain(error)}. Percentiles are among held-out data instead.")
        found = None
    try:
        return found or _held_out(weights_of(run), known, run)
    except UserError as error:
        st.warning(f"There are no percentiles: {plain(error)}")
        return None


# As few as models: a calibrated energy holds its own.
@st.cache_resource(max_entries=OPEN_MODELS)
def _calibrated(weights: tuple[Any, ...], written: int, _run: "OpenedRun") -> "Yardstick | None":
    from src.evaluation.inference.infer import calibrated

    return calibrated(_run)


@st.cache_resource(max_entries=8, show_spinner="Computing the energies of held-out data …")
def _held_out(weights: tuple[Any, ...], known: bool, _run: "OpenedRun") -> "Yardstick":
    from src.evaluation.inference.infer import held_out

    return held_out(_run, known)
