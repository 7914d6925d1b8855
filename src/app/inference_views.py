"""One sample as a model sees it: what is shown of its reconstruction, its numbers and its code."""

from typing import TYPE_CHECKING

import streamlit as st

from src.app.common import plain
from src.utils.charts import CHART
from src.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from src.evaluation.inference.infer import Inference, Yardstick
    from src.evaluation.opened import OpenedRun

# Dimensions whose path is drawn.
PATHS = 8
NAMES = {
    "energy": "Energy",
    "kl": "KL(q ‖ p)",
    "recon_nll": "−log p(x | z)",
    "mse": "MSE",
    "psnr": "PSNR",
    "mpjre": "MPJRE",
}
HELP = {
    "kl": "Of the posterior from the prior; where there is no closed form, log q − log p at the posterior's mean.",
    "mpjre": "Mean per-joint rotation error: the angle between the rotations, averaged over the 30 joints.",
}
# The energy by how it is computed: as the run was calibrated, else at the posterior's mean.
ENERGY = {
    "mean": "−log p(x | z) + KL at the posterior's mean; lower is more plausible.",
    "elbo": "−log p(x | z), its mean over k = {k} draws of z, + KL; lower is more plausible.",
    "iwae": "Minus the importance-weighted bound of k = {k} draws of z; lower is more plausible.",
}


def show(
    run: "OpenedRun", x: "Tensor", name: str, c: int | None, yardstick: "Yardstick | None"
) -> None:
    """Everything about one sample.

    Args:
        x: (1, *shape).
        name: anybody's text.
        c: its class, −1 for an unknown one; None for a model that takes none.

    Raises:
        UserError: the model makes no numbers of it.
    """
    import torch

    from src.evaluation.inference.infer import infer

    condition = None if c is None else torch.tensor([c])
    found = infer(run, x, condition, None if yardstick is None else yardstick.calibrated)
    if not bool(found.y.isfinite().all()):
        raise UserError("what this model makes of the sample is NaN or infinite")
    st.subheader("Reconstruction")
    st.caption(plain(name))
    _reconstruction(run, found)
    _numbers(run, found, yardstick)
    _likelihood(run, x, condition)
    _posterior(found)


def _reconstruction(run: "OpenedRun", found: "Inference") -> None:
    if run.is_pose:
        _pose(found)
    elif found.x.dim() == 5:
        _frames(found)
    elif found.x.dim() == 4:
        _picture(found)
    else:
        _values(found)


def _picture(found: "Inference") -> None:
    from src.evaluation.inference.figures import error_map, picture, png

    x, y = found.x[0], found.y[0]
    left, middle, right = st.columns(3)
    for column, shown, caption in (
        (left, x, "sample x"),
        (middle, y, "reconstruction x̂"),
    ):
        column.image(
            picture(shown), caption=caption, width="stretch", alt=caption, output_format="PNG"
        )
    # As a picture, not by st.pyplot, which cuts its margins and so moves it out of line.
    over = ", mean over the channels" if len(x) > 1 else ""
    right.image(png(error_map(x, y)), caption=f"error map{over}", width="stretch", alt="error map")


def _frames(found: "Inference") -> None:
    from src.evaluation.inference.figures import film
    from src.evaluation.sequence_figures import sequence_reconstructions

    x, y = found.x, found.y.clamp(0, 1)
    st.pyplot(sequence_reconstructions(x, y), width="stretch")
    left, right = st.columns(2)
    with left:
        st.markdown("**Moving**")
        told = "sample x and reconstruction x̂"
        st.image(film(x[0], y[0]), caption=told, width="stretch", alt=told)
    errors = (found.x - found.y).square().flatten(2).mean(2)[0].tolist()
    with right:
        st.markdown("**Error over time**")
        rows = [{"frame": t, "MSE": value} for t, value in enumerate(errors)]
        st.line_chart(rows, x="frame", y="MSE", y_label="MSE (intensity²)", height=220)
        if found.states is not None:
            _trajectory(found.states[0])


def _trajectory(states: "Tensor") -> None:
    """The latent state of every frame, (T, D)."""
    order = states.var(0).argsort(descending=True)[:PATHS].tolist()
    st.markdown("**Latent trajectory**")
    if len(order) < states.shape[1]:
        st.caption(f"The {PATHS} of {states.shape[1]} dimensions that change most.")
    rows = [
        {"frame": t, "dimension": f"z[{d}]", "value": state[d]}
        for t, state in enumerate(states.tolist())
        for d in order
    ]
    st.line_chart(
        rows, x="frame", y="value", color="dimension", y_label="z of the frame", height=280
    )


def _pose(found: "Inference") -> None:
    from src.evaluation.inference.figures import hands, joint_chart, png

    assert found.angles is not None
    left, right = st.columns([2, 3])
    left.image(png(hands(found.x[0], found.y[0])), width="stretch", alt="both hands")
    with right:
        st.markdown("**Error by joint**")
        st.plotly_chart(
            joint_chart(found.angles[0], "rotation error (degrees)"), config=CHART, key="inf_angles"
        )
        if found.joints is not None:
            st.markdown("**Energy by joint**: the terms of −log p(x | z)")
            st.plotly_chart(
                joint_chart(found.joints[0], "energy (nats)"), config=CHART, key="inf_joints"
            )


def _values(found: "Inference") -> None:
    pairs = {"sample x": found.x[0].flatten(), "reconstruction x̂": found.y[0].flatten()}
    rows = [
        {"element": i, "of": name, "value": value}
        for name, values in pairs.items()
        for i, value in enumerate(values.tolist())
    ]
    st.line_chart(rows, x="element", y="value", color="of")


def _numbers(run: "OpenedRun", found: "Inference", yardstick: "Yardstick | None") -> None:
    """One number a box, with its unit, and what the energy's percentile is of."""
    from src.evaluation.inference.infer import unit

    helps = HELP | {"energy": _of_energy(yardstick)}
    with st.container(horizontal=True):
        for name, label in NAMES.items():
            if name in found.numbers:
                value = float(found.numbers[name][0])
                told = f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"
                _box(f"{label} ({unit(name, run.is_pose)})", told, helps.get(name))
            if name == "energy" and yardstick is not None:
                _box("Percentile of the energy (%)", _share(found, yardstick), None)
    if yardstick is not None:
        st.caption(_verdict(found, yardstick))


def _share(found: "Inference", yardstick: "Yardstick") -> str:
    return f"{float(yardstick.percentile(found.numbers['energy'])[0]):.1f}"


def _of_energy(yardstick: "Yardstick | None") -> str:
    known = None if yardstick is None else yardstick.calibrated
    return ENERGY["mean"] if known is None else ENERGY[known.mode].format(k=known.k)


def _box(label: str, value: str, helped: str | None) -> None:
    st.metric(label, value, help=helped, border=True, width="content")


def _verdict(found: "Inference", yardstick: "Yardstick") -> str:
    told = f"{_share(found, yardstick)} % of {plain(yardstick.told)} have a lower energy."
    rejected = yardstick.rejects(found.numbers["energy"])
    if rejected is None or yardstick.calibrated is None:
        return f"{told} The run has no calibrated threshold, so that nothing is rejected."
    limit = f"the threshold of {yardstick.calibrated.threshold:,.2f} nats"
    return f"{told} It is {'rejected: above' if bool(rejected[0]) else 'not rejected: not above'} {limit}."


@st.fragment
def _likelihood(run: "OpenedRun", x: "Tensor", c: "Tensor | None") -> None:
    """A tighter bound, when it is asked for: it decodes many codes."""
    from src.evaluation.inference.infer import has_energy, nll

    if not has_energy(run):
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        k = st.number_input("Samples k of z", 1, 1000, 100, key="inf_k", width=160)
        asked = st.button("Estimate −log p(x)", key="inf_nll")
    if not asked:
        return
    try:
        with st.spinner("Decoding …"):
            value = float(nll(run, x, int(k), c)[0])
    except NotImplementedError as error:
        st.info(plain(error))
        return
    st.metric(
        f"−log p(x) ≤ (nats), importance-weighted with k = {int(k)}",
        f"{value:,.2f}",
        border=True,
        help="Burda et al. 2016, arXiv:1509.00519; the larger k, the tighter.",
    )


def _posterior(found: "Inference") -> None:
    from src.evaluation.inference.figures import by_information, posterior
    from src.evaluation.inference.infer import dimensions

    st.subheader("Posterior q(z | x)")
    if found.sigma is None:
        st.caption(
            "This posterior has no standard deviation of single dimensions; its mean is shown."
        )
    st.plotly_chart(posterior(found), config=CHART, key="inf_posterior")
    names = dimensions(found.mean)
    columns = {"μ": found.mean, "σ": found.sigma, "KL (nats)": found.kl}
    values = {
        name: part.flatten(1)[0].tolist() for name, part in columns.items() if part is not None
    }
    rows = [
        {"dimension": f"z[{names[i]}]"} | {name: part[i] for name, part in values.items()}
        for i in by_information(found)
    ]
    with st.expander("Numbers of the posterior"):
        st.dataframe(rows, hide_index=True)
