"""The dimensions of a model's z, sorted by what they say of the data.

D is the number of dimensions of z: of all frames where every frame of a sequence has a z of its own, of all levels of
a hierarchy.
"""

from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor

from src.evaluation.codes import encoded, informative
from src.evaluation.exploring.charts import chart_of
from src.evaluation.exploring.space import PRIOR_REACH, hierarchy_notes, latent_shape
from src.evaluation.opened import OpenedRun
from src.models.latents import LadderLatent
from src.models.meters import ACTIVE_VARIANCE
from src.utils.errors import UserError

# Held-out samples that say how much a dimension tells; a sequence is many pictures.
SAMPLES, SEQUENCES = 500, 100


@dataclass(frozen=True)
class Dimensions:
    """The dimensions of a model's z, and what each of them says of the data.

    Attributes:
        shape: of z, (D,) or (T, D).
        names: of each dimension.
        order: all of them, the most informative first.
        information: how much each says, in ``unit``; empty where that is not known.
        unit: ``nats`` of KL, or ``latent²`` of variance.
        active: whether the codes' variance in it is above ``ACTIVE_VARIANCE``, latent².
        reach: how far sliders of μ go, and those of z.
        told: how they are sorted, and what has to be known of z before it is moved, in sentences.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    order: tuple[int, ...]
    information: tuple[float, ...]
    unit: str
    active: tuple[bool, ...]
    reach: tuple[float, float]
    told: tuple[str, ...]

    @property
    def count(self) -> int:
        """D."""
        return len(self.names)


@torch.no_grad()
def dimensions(opened: OpenedRun) -> Dimensions:
    """What the held-out data say of the dimensions of z; without data they are as they are, and that is told."""
    shape = latent_shape(opened.model)
    count = prod(shape)
    try:
        z, information, unit, told = _of_data(opened)
    except UserError as error:
        z, information, unit = torch.zeros(0, count), torch.zeros(0), "nats"
        told = (
            f"Dimensions are in the model's own order, as held-out data cannot sort them: {error}."
        )
    order = information.argsort(descending=True, stable=True) if len(z) else torch.arange(count)
    # A variance takes two.
    active = z.var(0) > ACTIVE_VARIANCE if len(z) > 1 else torch.ones(count, dtype=torch.bool)
    return Dimensions(
        shape,
        tuple(_names(opened.model.latent, shape)),
        tuple(order.tolist()),
        tuple(information.tolist()),
        unit,
        tuple(active.tolist()),
        _reach(opened.model.latent, z),
        (told, *_notes(opened.model.latent)),
    )


def _of_data(opened: OpenedRun) -> tuple[Tensor, Tensor, str, str]:
    """Codes of held-out data (N, D), how much every dimension says (D,), its unit, and a sentence about that."""
    x, labels, _ = opened.held_out(SEQUENCES if opened.is_sequence else SAMPLES)
    given = labels if opened.classes is not None else None
    z, _, kl = encoded(opened.model, x, c=given)
    z = z.flatten(1)
    information = informative(z, kl)[0]
    if not bool(information.isfinite().all()):
        raise UserError("codes of this model are NaN or infinite: its training has diverged")
    if kl is not None:
        return z, information, "nats", f"Sorted by KL, the mean of {len(x)} held-out samples."
    told = (
        f"Sorted by the variance of the codes of {len(x)} held-out samples: this model's posterior and prior give no "
        "KL of a single dimension."
    )
    return z, information, "latent²", told


def _names(latent: Any, shape: tuple[int, ...]) -> list[str]:
    if len(shape) == 2:
        return [f"z {i}, frame {t}" for t in range(shape[0]) for i in range(shape[1])]
    if not isinstance(latent, LadderLatent):
        return [f"z {i}" for i in range(shape[0])]
    lower: Any = latent.levels
    below = [level.dim for level in lower]
    sizes = [shape[0] - sum(below), *below]
    level_of = [len(sizes) - above for above, size in enumerate(sizes) for _ in range(size)]
    return [f"z {i}, level {level}" for i, level in enumerate(level_of)]


def _reach(latent: Any, z: Tensor) -> tuple[float, float]:
    chart = chart_of(latent.posterior)
    # Codes that no prior holds together can lie anywhere.
    free = ceil(float(z.abs().max())) if latent.prior is None and len(z) else PRIOR_REACH
    return free, chart.reach(latent.posterior) if chart.reach else free


def _notes(latent: Any) -> list[str]:
    """What has to be known of z before it is moved, in sentences."""
    told = chart_of(latent.posterior).told
    found = [told] if told else []
    found += hierarchy_notes(latent)
    if latent.prior is None:
        found.append(
            "This autoencoder has no prior: nothing has taught it to decode draws of N(0, I)."
        )
    return found
