"""Which parts cannot be combined, and why: one table, read before anything is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from src.models.geometry import LearnedMetric
from src.models.latents import FramesLatent, HamiltonianLatent, Latent, LongitudinalLatent
from src.models.likelihoods import BernoulliLikelihood
from src.models.objectives import ELBO, Objective, Reconstruction
from src.models.posteriors import DeltaPosterior, RiemannianGaussian
from src.models.priors import GaussianProcessPrior, RiemannianPrior
from src.utils.build import locate
from src.utils.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A combination that is refused: ``clashes(latent, objective)`` recognises it, ``reason`` is told."""

    clashes: Callable[[Latent, Objective], bool]
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
    Rule(
        lambda latent, objective: (
            isinstance(objective, ELBO)
            and (objective.free_bits > 0 or objective.has_capacity)
            and isinstance(latent, HamiltonianLatent | LongitudinalLatent)
        ),
        "free bits and capacity rewrite the KL of q(z|x), and latents hamiltonian and longitudinal move z on from it",
    ),
    Rule(
        lambda latent, objective: (
            latent.metric is None
            and (
                isinstance(latent.posterior, RiemannianGaussian)
                or isinstance(latent.prior, RiemannianPrior)
            )
        ),
        "a riemannian posterior or prior needs a latent metric, and this model has none; choose model/metric=fitted",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(latent.metric, LearnedMetric) and not isinstance(latent, HamiltonianLatent)
        ),
        "metric learned is trained by Hamiltonian dynamics; choose model/latent=hamiltonian or model/metric=fitted",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(latent.prior, GaussianProcessPrior) and not isinstance(latent, FramesLatent)
        ),
        "prior gaussian_process ties the codes of frames together, and only model/latent=frames has one a frame",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(latent, HamiltonianLatent | LongitudinalLatent)
            and (isinstance(latent.posterior, DeltaPosterior) or latent.prior is None)
        ),
        "latents hamiltonian and longitudinal need a prior and a posterior with a density; use model/latent=flat or "
        "sequence",
    ),
)


def check_parts(latent: nn.Module, objective: nn.Module) -> None:
    """Refuse a combination of parts that has no meaning.

    Raises:
        UserError: with the reason.
    """
    for rule in RULES:
        if (
            isinstance(latent, Latent)
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
    latent, kind = locate(model["latent"]["_target_"]), data["kind"]
    needed: tuple[str, ...] | None = getattr(latent, "kinds", None)
    if needed and kind not in needed:
        raise UserError(
            f"model.latent {latent.__name__} takes {' or '.join(needed)} data, not '{kind}'; data "
            f"that fits: {', '.join(fitting(needed))}"
        )
    if needed == ("sequence",):  # its networks see one frame at a time
        kind = "image" if len(data["shape"]) == 4 else "vector"
    for part in ("encoder", "decoder"):
        network = locate(model[part]["_target_"])
        kinds: tuple[str, ...] = getattr(network, "kinds", (kind,))
        if kind not in kinds:
            frames = " of frames" if needed == ("sequence",) else ""
            raise UserError(
                f"model.{part} {network.__name__} takes {' or '.join(kinds)} data, not "
                f"'{kind}'{frames}; data that fits: {', '.join(fitting(kinds))}"
            )
    if (
        locate(model["likelihood"]["_target_"]) is BernoulliLikelihood
        and data.get("value_range") != "unit"
    ):
        raise UserError(
            f"model.likelihood bernoulli needs data in [0, 1]; data that fits: {', '.join(fitting(('image',)))}"
        )
