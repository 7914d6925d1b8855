"""A model asked by hand: from the numbers of sliders to z, and from z to what the model decodes.

D is the number of dimensions of z: of all frames where every frame of a sequence has a z of its own, of all levels of
a hierarchy.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from src.evaluation.exploring.charts import chart_of
from src.evaluation.exploring.sliders import Mode, Sliders
from src.evaluation.exploring.space import LatentSpace, condition, draws
from src.evaluation.opened import OpenedRun
from src.models.distributions import Delta, UnitNormal
from src.utils.errors import UserError


def samples(opened: OpenedRun) -> int:
    """How many held-out samples there are to start from; 0 where the data are not to be had."""
    try:
        return LatentSpace(opened).held_out
    except UserError:
        return 0  # which ``dimensions`` tells


def modes(model: Any) -> list[Mode]:
    """What z can come from; ``prior`` where there is one, or a density fitted in its place, that is not N(0, I)."""
    own: list[Mode] = ["prior"] if model.can_sample and not _has_standard_prior(model) else []
    return ["normal", "standard", *own, "exact"]


def _has_standard_prior(model: Any) -> bool:
    p: Any = model.latent.prior_over_z() if model.sampler is None else None
    while isinstance(p, Independent):
        p = p.base_dist
    return isinstance(p, UnitNormal)


def draw(model: Any, sliders: Sliders, shape: tuple[int, ...]) -> Tensor:
    """z of the model's own space, of ``shape``; the same sliders always give the same.

    Mode ``normal`` is z = μ + σ ε with the noise ε of the seed, ``standard`` z = ε; in a space that is not R^D these
    are coordinates, see ``charts``.

    Raises:
        UserError: the prior cannot be drawn from, or is not there.
    """
    posterior = model.latent.posterior
    chart = chart_of(posterior)
    if sliders.mode == "prior":
        return draws(model, 1, sliders.seed, sliders.label)[0]
    if sliders.mode == "exact":
        return chart.nearest(posterior, torch.tensor(sliders.z).view(shape))
    noise = torch.from_numpy(sliders.noise()).float()
    if sliders.mode == "normal":
        noise = torch.tensor(sliders.mu) + torch.tensor(sliders.sigma) * noise
    return chart.place(posterior, noise.view(shape))


@torch.no_grad()
def decode(model: Any, z: Tensor, label: int = -1) -> Tensor:
    """What the model makes of one z: the likelihood's mean, (*shape), on the CPU.

    Raises:
        UserError: there is no such class, or what is decoded is not finite.
    """
    x = model.decode(z[None], condition(model, label, 1)).mean[0].float()
    if not bool(x.isfinite().all()):
        raise UserError("the model decodes this z to numbers that are not finite")
    return x


@dataclass(frozen=True)
class Sample:
    """A held-out sample, and the sliders at its code.

    Attributes:
        x: (*shape).
        label: its own, or None.
        sliders: μ and σ at its posterior's, z at its posterior's mean.
        told: what of the posterior the sliders do not say, in a sentence; empty where they say it all.
    """

    x: Tensor
    label: int | None
    sliders: Sliders
    told: str


@torch.no_grad()
def of_sample(opened: OpenedRun, row: int, sliders: Sliders) -> Sample:
    """The sliders at the code of a row of the test split.

    Raises:
        UserError: there is no such row, or no data.
    """
    x, label = LatentSpace(opened).whole_sample(row)
    if opened.classes is not None and label is not None:
        sliders = replace(sliders, label=label)
    posterior = opened.model.latent.posterior
    q = opened.model.encode(x[None], condition(opened.model, sliders.label, 1))
    chart = chart_of(posterior)
    sigma, told = _spread(q)
    at = replace(
        sliders,
        mode="exact" if sliders.mode == "exact" else "normal",
        mu=_flat(chart.coordinates(posterior, q.mean[0])),
        sigma=_flat(sigma),
        z=_flat(chart.nearest(posterior, q.mean[0])),
    )
    return Sample(x, label, at, told)


def _flat(values: Tensor) -> tuple[float, ...]:
    return tuple(values.flatten().tolist())


def _spread(q: Distribution) -> tuple[Tensor, str]:
    """A σ for every dimension of one posterior, and what that leaves out."""
    if isinstance(q, Independent | Delta):
        return q.stddev[0], ""
    if isinstance(q, MultivariateNormal):
        told = "σ is the posterior's in each dimension by itself; its correlations are left out."
        return q.stddev[0], told
    return torch.zeros_like(q.mean[0]), (
        "This posterior has no σ in each dimension: μ is where its centre lies, and σ is set to 0."
    )


@dataclass(frozen=True)
class Answer:
    """What the sliders give.

    Attributes:
        sliders: as they stand now: an action may have moved them.
        z: of the model's own space, ``Dimensions.shape``.
        x: what is decoded, (*shape).
        sample: the held-out sample that an action has gone to, or None.
    """

    sliders: Sliders
    z: Tensor
    x: Tensor
    sample: Sample | None = None


def answer(
    opened: OpenedRun,
    shape: tuple[int, ...],
    sliders: Sliders,
    action: str = "",
    row: int | None = None,
) -> Answer:
    """z and its picture, after what a button asks for.

    Args:
        shape: of z.
        sliders: as a person has set them.
        action: ``randomise`` μ, go to the code of ``sample`` ``row``, or nothing.
        row: of the test split.

    Raises:
        UserError: as ``draw``, ``decode`` and ``of_sample``.
    """
    sample = None
    if action == "randomise":
        sliders = sliders.randomised()
    if action == "sample":
        if not isinstance(row, int) or isinstance(row, bool):
            raise UserError("the number of a held-out sample must be a whole one")
        sample = of_sample(opened, row, sliders)
        sliders = sample.sliders
    z = draw(opened.model, sliders, shape)
    return Answer(sliders, z, decode(opened.model, z, sliders.label), sample)
