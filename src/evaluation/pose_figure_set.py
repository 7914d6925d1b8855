"""Which figures a model of hand poses gets."""

from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.evaluation import figures, pose_drawings, pose_figures
from src.evaluation.codes import encoded, informative, of_codes
from src.evaluation.pose_negatives import LARGEST, detection, negatives
from src.evaluation.pose_report import BETAS, COMPARED, energies, posterior_terms, reconstructed
from src.evaluation.pose_samples import draw_poses, spread
from src.evaluation.poses import PoseGaussian, joint_errors
from src.models.latents.identity import IdentityLatent

Named = tuple[str, Figure]

# Poses that figures are computed from, drawn samples, and drawn reconstructions.
POSES, SAMPLES, SHOWN = 2000, 24, 8
TRAVERSED, BATCH = 8, 2000


def pose_figure_set(model: Any, data: Any, split: str, level: str) -> Iterator[Named]:
    """All figures of a level, by name.

    ``minimal`` is reconstructions and samples; ``standard`` adds the latent space and the energies. What is made of
    negatives, and of several β, is for the test data only.
    """
    x = data.rows(split, data.spread(split, POSES))
    density = isinstance(model.latent, IdentityLatent)
    if model.can_sample:
        drawn = draw_poses(model, SAMPLES)
        title = "Samples of the density" if density else "Samples z ~ p(z), likelihood mean"
        yield "samples", pose_drawings.sheet(drawn, title)
    if not density:
        few = data.rows(split, data.spread(split, SHOWN))
        rebuilt = reconstructed(model, few)
        errors = joint_errors(few, rebuilt).mean(1)
        yield "reconstructions", pose_drawings.reconstructions(few, rebuilt, errors)
    if level == "minimal":
        return
    if density:
        yield "energies", pose_figures.density_energies(energies(model, x))
    else:
        yield "joint_errors", pose_figures.joint_errors(joint_errors(x, reconstructed(model, x)))
        yield from _of_codes(model, x, split)
    if split == "test" and model.latent.has_bound:
        yield from _of_negatives(model, data)


def _of_codes(model: Any, x: Tensor, split: str) -> Iterator[Named]:
    """What the latent space of poses x looks like, and the energies there."""
    z, sigma, kl = encoded(model, x, BATCH)
    yield from of_codes(z, sigma, kl)
    yield "traversals", _traversals(model, x, *informative(z, kl))
    if not model.latent.has_bound:
        return
    terms = {name: value.numpy() for name, value in posterior_terms(model, x).items()}
    total = terms["recon_nll"] + terms["kl"]
    if sigma is None:  # the posterior has no variances of its dimensions
        yield "energies", pose_figures.density_energies(total)
    else:
        yield "energies", pose_figures.energies(total, terms, z, sigma.square())
    if split == "test":
        yield "energy_beta", pose_figures.energy_beta(terms["recon_nll"], terms["kl"], z, BETAS)


def _traversals(model: Any, x: Tensor, information: Tensor, unit: str) -> Figure:
    dimensions = information.argsort(descending=True)[:TRAVERSED].tolist()
    values = torch.linspace(-3, 3, 7)
    first = x[0].to(model.device)
    grid = figures.traversal_grid(model, first, dimensions, values).cpu()
    return pose_drawings.traversals(grid, values, dimensions, information, unit)


def _of_negatives(model: Any, data: Any) -> Iterator[Named]:
    """Of the same poses as the report's numbers."""
    train, test = (data.rows(split, data.spread(split, n)) for split, n in COMPARED.items())
    x = spread(test, LARGEST)
    if len(x) < 2:
        return
    gaussian = PoseGaussian.fit(train)
    made = negatives(x) | {"gaussian_samples": gaussian.sample(len(x))}
    own, energy = energies(model, x), {n: energies(model, poses) for n, poses in made.items()}
    aurocs = {name: detection(own, value)["auroc"] for name, value in energy.items()}
    yield "energy_negatives", pose_figures.energy_negatives(own, energy, aurocs)
    yield "roc", pose_figures.roc(own, energy, aurocs)
