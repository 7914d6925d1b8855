"""Which parts cannot be combined, and why: one table, read before anything is trained."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from src.models.geometry import LearnedMetric
from src.models.latents import (
    ConditionalLatent,
    FramesLatent,
    HamiltonianLatent,
    IdentityLatent,
    LadderLatent,
    Latent,
    LongitudinalLatent,
)
from src.models.likelihoods import ExactLikelihood, GaussianLikelihood
from src.models.likelihoods.base import ScaledLikelihood
from src.models.networks import BackgroundDecoder, StandardiseDecoder, StandardiseEncoder
from src.models.objectives import (
    ELBO,
    AdversarialAutoencoder,
    FactorVAE,
    ForegroundELBO,
    Objective,
)
from src.models.posteriors import PointPosterior, RiemannianGaussian
from src.models.priors import (
    ConditionalNormal,
    GaussianProcessPrior,
    RiemannianPrior,
    StandardNormal,
    VampPrior,
)
from src.utils.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A combination that is refused: ``clashes(latent, objective)`` recognises it, ``reason`` is told."""

    clashes: Callable[[Latent, Objective], bool]
    reason: str


def _posterior(latent: Latent, flag: str, default: bool = True) -> bool:
    return bool(getattr(latent.posterior, flag, default))


def _support(part: object) -> str | None:
    """Where z lies; None for a prior that takes the posterior's place, whatever it is."""
    return getattr(part, "support", "euclidean")


def _of_exact_density(latent: Latent) -> list[bool]:
    """Of the parts that make up the density of x itself, and only together, which ones there are."""
    return [
        isinstance(latent, IdentityLatent),
        isinstance(latent.encoder, StandardiseEncoder),
        isinstance(latent.decoder, StandardiseDecoder),
        isinstance(latent.posterior, PointPosterior),
        isinstance(latent.likelihood, ExactLikelihood),
    ]


RULES = (
    Rule(
        lambda latent, objective: (
            any(_of_exact_density(latent))
            and not (
                all(_of_exact_density(latent))
                and latent.metric is None
                and isinstance(objective, ELBO)
            )
        ),
        "latent identity, encoder and decoder standardise, posterior point and likelihood exact are one density of x "
        "itself, and go with no other part but a prior and objective elbo; choose model=gaussian_pose",
    ),
    Rule(
        lambda latent, objective: objective.needs_density and not _posterior(latent, "density"),
        "this objective needs a posterior with a density, and delta is a point mass; use "
        "model/objective=reconstruction",
    ),
    Rule(
        lambda latent, objective: objective.needs_prior and latent.prior is None,
        "this objective needs a prior, and the model has none; choose model/prior=standard_normal",
    ),
    Rule(
        lambda latent, objective: (
            not objective.needs_prior
            and not _posterior(latent, "density")
            and latent.prior is not None
        ),
        "an objective such as reconstruction never looks at the prior, and against a point mass nothing else "
        "can; choose model/prior=none",
    ),
    Rule(
        lambda latent, objective: (
            latent.prior is not None
            and _support(latent.prior) not in (None, _support(latent.posterior))
        ),
        "posterior and prior lie in different spaces; power_spherical goes with hyperspherical_uniform, poincare with "
        "poincare, product with product, quantised codes with uniform_codes, gumbel with uniform_categorical, the "
        "others with standard_normal, mixture, vamp, flow, ar1 or riemannian",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(objective, ELBO)
            and objective.free_bits > 0
            and not (
                _posterior(latent, "factorised", False)
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
            (objective.needs_density_elsewhere or isinstance(latent.prior, VampPrior))
            and not _posterior(latent, "density_elsewhere")
        ),
        "this objective or prior evaluates q(z|x) away from its own samples, where a flow without an inverse, such as "
        "planar or radial, has no density; choose model/posterior=nsf or iaf",
    ),
    Rule(
        lambda latent, objective: (
            objective.needs_factorised and not _posterior(latent, "factorised", False)
        ),
        "this objective looks at every dimension of q(z|x) by itself; choose model/posterior=diagonal_gaussian",
    ),
    Rule(
        lambda latent, objective: objective.needs_freezable and not _posterior(latent, "freezable"),
        "this objective holds q(z|x) fixed while z moves, which neither discrete codes nor densities that run through "
        "a network allow; choose model/posterior=diagonal_gaussian",
    ),
    Rule(
        lambda latent, objective: objective.needs_log_q and _posterior(latent, "relaxed", False),
        "this objective weighs samples by log q(z|x), which relaxed one-hot samples do not have; choose "
        "model/objective=elbo",
    ),
    Rule(
        lambda latent, objective: (
            objective.needs_standard_normal
            and not (isinstance(latent.prior, StandardNormal) and latent.one_vector)
        ),
        "this objective pulls the moments of the codes to those of N(0, I); choose model/prior=standard_normal and "
        "model/latent=flat",
    ),
    Rule(
        lambda latent, objective: (
            not objective.teaches_prior
            and latent.prior is not None
            and any(True for _ in latent.prior.parameters())
        ),
        "this objective only draws from the prior, which would learn nothing; choose one without parameters, such as "
        "model/prior=standard_normal",
    ),
    Rule(
        lambda latent, objective: (
            objective.needs_plain_samples
            and isinstance(latent, HamiltonianLatent | LongitudinalLatent)
        ),
        "this objective takes z for a sample of q(z|x), and latents hamiltonian and longitudinal move z on from it; "
        "choose model/latent=flat or sequence",
    ),
    Rule(
        lambda latent, objective: objective.needs_probability and bool(latent.likelihood.pseudo),
        "this objective weighs samples by their likelihood, and msssim is a score that is none; choose "
        "model/likelihood=gaussian",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(latent, HamiltonianLatent | LongitudinalLatent)
            and _support(latent.posterior) != "euclidean"
        ),
        "latents hamiltonian and longitudinal move z about freely, off any sphere, ball or grid of codes; choose "
        "model/latent=flat",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(latent, LadderLatent)
            and (
                latent.prior is None
                or not (_posterior(latent, "density") and _posterior(latent, "density_elsewhere"))
                or _support(latent.posterior) != "euclidean"
                or latent.metric is not None
            )
        ),
        "latent ladder needs a Euclidean prior and a posterior with a density everywhere on its top level, and no "
        "metric; use "
        "model/latent=flat",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(latent, LadderLatent)
            and (
                objective.needs_factorised
                or objective.needs_freezable
                or isinstance(objective, FactorVAE | AdversarialAutoencoder)
                or (isinstance(objective, ELBO) and objective.free_bits > 0)
            )
        ),
        "latent ladder ties its levels together, and this objective looks at single dimensions, at a density held "
        "fixed or through a critic of one level; use model/objective=elbo, iwae, mmd or vae_gan",
    ),
    Rule(
        lambda latent, objective: isinstance(latent, FramesLatent) and objective.needs_vector,
        "latent frames has a code for every frame, and this objective compares single vectors; choose "
        "model/latent=sequence",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(latent.prior, ConditionalNormal)
            and not isinstance(latent, ConditionalLatent)
        ),
        "prior conditional_normal asks for a label, which only model/latent=conditional hands on; choose "
        "model=conditional_vae",
    ),
    Rule(
        lambda latent, objective: (
            latent.metric is not None and _support(latent.posterior) != "euclidean"
        ),
        "a latent metric is one of R^D, and this posterior lives on a manifold or a grid of codes; choose "
        "model/metric=none",
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
            and (not _posterior(latent, "density") or latent.prior is None)
        ),
        "latents hamiltonian and longitudinal need a prior and a posterior with a density; use model/latent=flat or "
        "sequence",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(latent.decoder, BackgroundDecoder)
            and not isinstance(latent.likelihood, ScaledLikelihood)
        ),
        "decoder background starts at a picture, and this likelihood wants logits or scores; choose "
        "model/likelihood=gaussian, laplace, student_t or discretised_logistic",
    ),
    Rule(
        lambda latent, objective: (
            isinstance(objective, ForegroundELBO)
            and not (
                isinstance(latent.likelihood, GaussianLikelihood)
                and latent.likelihood.scale == "optimal"
            )
        ),
        "objective foreground is the Gaussian likelihood at its optimal σ with weights; choose "
        "model/likelihood=gaussian with model.likelihood.scale=optimal",
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
