"""Which parts cannot be combined, and why: one table, read before anything is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from src.models.latents import FlatLatent
from src.models.likelihoods import BernoulliLikelihood
from src.models.objectives import ELBO, Objective, Reconstruction
from src.models.posteriors import DeltaPosterior
from src.utils.build import locate
from src.utils.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A combination that is refused: ``clashes(latent, objective)`` recognises it, ``reason`` is told."""

    clashes: Callable[[FlatLatent, Objective], bool]
    reason: str


RULES = (
    Rule(
        lambda latent, objective: (
            isinstance(objective, ELBO) and isinstance(latent.posterior, DeltaPosterior)
        ),
        "objective elbo needs a posterior with a density, and delta is a point mass; use "
        "model/objective=reconstruction",
    ),
    Rule(
        lambda latent, objective: isinstance(objective, ELBO) and latent.prior is None,
        "objective elbo needs a prior, and this model has none; choose model/prior=standard_normal",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(objective, Reconstruction)
            and isinstance(latent.posterior, DeltaPosterior)
            and latent.prior is not None
        ),
        "objective reconstruction never looks at the prior, and against a point mass nothing else "
        "can; choose model/prior=none",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(objective, ELBO)
            and objective.free_bits > 0
            and not (
                getattr(latent.posterior, "factorised", False)
                and getattr(latent.prior, "factorised", False)
            )
        ),
        "free bits clamp the KL of each dimension, which a posterior or prior that is not factorised does not have",
    ),
)


def check_parts(latent: nn.Module, objective: nn.Module) -> None:
    """Refuse a combination of parts that has no meaning.

    Raises:
        UserError: with the reason.
    """
    for rule in RULES:
        if (
            isinstance(latent, FlatLatent)
            and isinstance(objective, Objective)
            and rule.clashes(latent, objective)
        ):
            raise UserError(rule.reason)


def check_data(
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    fitting: Callable[[tuple[str, ...]], list[str]],
) -> None:
    """Refuse a model and data that cannot meet, before any data is read.

    Args:
        model: the model's config; data: the data's, with ``kind`` and ``value_range``.
        fitting: the names of the data configs whose kind is one of those given.

    Raises:
        UserError: with the data configs that fit.
    """
    for part in ("encoder", "decoder"):
        network = locate(model[part]["_target_"])
        kinds: tuple[str, ...] = getattr(network, "kinds", (data["kind"],))
        if data["kind"] not in kinds:
            fits = ", ".join(fitting(kinds))
            raise UserError(
                f"model.{part} {network.__name__} takes {' or '.join(kinds)} data, not "
                f"'{data['kind']}'; data that fits: {fits}"
            )
    if (
        locate(model["likelihood"]["_target_"]) is BernoulliLikelihood
        and data.get("value_range") != "unit"
    ):
        raise UserError(
            f"model.likelihood bernoulli needs data in [0, 1]; data that fits: {', '.join(fitting(('image',)))}"
        )
