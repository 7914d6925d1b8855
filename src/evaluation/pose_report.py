"""The test of a model of hand poses: errors in degrees, densities, energies of negatives, and the worth of samples."""

from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from src.evaluation import metrics
from src.evaluation.pose_negatives import LARGEST, TELLING, Energies, detections, negatives
from src.evaluation.pose_samples import (
    NEAREST,
    SAMPLES,
    add_ratios,
    draw_poses,
    in_limits,
    nearest,
    sample_values,
    spread,
)
from src.evaluation.poses import (
    PoseGaussian,
    error_values,
    joint_errors,
    joint_table,
    linear_reconstructions,
    mean_pose,
    reconstruction_values,
)
from src.evaluation.results import Compared, Report
from src.evaluation.units import POSE_UNITS
from src.models.energy import energy_terms
from src.models.latents.identity import IdentityLatent
from src.utils.errors import UserError

BETAS = (0.1, 0.5, 1.0, 2.0)
DIAGONAL, FULL, DATA = "Gaussian diagonal", "Gaussian full", "the data"
# What the Gaussians are called in a table of their own numbers.
KEYS = {DIAGONAL: "gaussian_diagonal", FULL: "gaussian_full"}
# Of the linear code that a model without a smaller code of its own is compared with.
COMPONENTS = 24
# Poses that a model sees at once.
BATCH = 4096
# Poses that are compared at most: they are small, and a Gaussian of them has 4000 numbers to be fitted.
COMPARED = {"train": 50_000, "test": 20_000}
# Of a density of the pose itself there is no code to tell of, and nothing that gets lost.
OF_CODES = ("recon_nll", "kl", "mse", "active_units")


def summarise_poses(model: Any, values: dict[str, float], compared: Compared) -> Report:
    """Complete the values of a test of poses with baselines, negatives, samples and warnings.

    The unit of every density is nats w.r.t. canonical rotation vectors in radians.

    Args:
        model: the tested model.
        values: metric → mean over the whole test split.
        compared: poses of train and test.
    """
    train, test = compared.train, compared.test
    gaussians = {DIAGONAL: PoseGaussian.fit(train, diagonal=True), FULL: PoseGaussian.fit(train)}
    report = Report(values, units=POSE_UNITS)
    dim = None  # where the code is the pose itself
    if not isinstance(model.latent, IdentityLatent):
        dim = model.encode(test[:1].to(model.device)).mean[0].numel()
        _add_reconstructions(report, model, test, dim)
    else:
        report.values = {name: v for name, v in values.items() if name not in OF_CODES}
    report.baselines = _baselines(compared, gaussians, dim)
    if model.latent.has_bound:
        _add_energies(report, model, compared, gaussians)
    if model.can_sample:
        _add_samples(report, model, compared, gaussians)
    report.sort()
    return report


def _baselines(
    compared: Compared, gaussians: dict[str, PoseGaussian], dim: int | None
) -> dict[str, dict[str, float]]:
    train, test = compared.train, compared.test
    mean = mean_pose(train).expand_as(test)
    found = {"mean pose": reconstruction_values(test, mean)}
    sizes = sorted({*compared.components, dim or COMPONENTS})
    largest = metrics.fit_pca(train, sizes[-1])
    for size in sizes:
        pca = metrics.leading(largest, size)
        found[f"PCA-{pca.n_components_}"] = _linear(pca, train, test)
    return found | {name: {"nll": float(g.nll(test).mean())} for name, g in gaussians.items()}


def _linear(pca: PCA, train: Tensor, test: Tensor) -> dict[str, float]:
    found = reconstruction_values(test, linear_reconstructions(pca, test))
    rows = (x.flatten(1).double().numpy() for x in (train, test))
    return found | {"nll": metrics.ppca_nll(pca, *rows)}


def _add_reconstructions(report: Report, model: Any, test: Tensor, dim: int) -> None:
    errors = joint_errors(test, reconstructed(model, test))
    # The model's own mean over the whole split, where it has one, is of more poses than these.
    report.values = error_values(errors) | report.values
    report.details["joints"] = joint_table(errors)
    if "kl" in report.values:
        warning = metrics.collapse_warning(report.values["active_units"], dim, report.values["kl"])
        report.warnings += [warning] if warning else []


def _add_energies(
    report: Report, model: Any, compared: Compared, gaussians: dict[str, PoseGaussian]
) -> None:
    """The energy at several β, and how well it tells the negatives from data, beside the Gaussians' −log density."""
    test, train = (spread(x, LARGEST) for x in (compared.test, compared.train))
    if not isinstance(model.latent, IdentityLatent):
        terms = posterior_terms(model, test)
        for beta in BETAS:
            mean = float((terms["recon_nll"] + beta * terms["kl"]).mean())
            report.values[f"energy_mean_beta_{beta:g}"] = mean
    try:
        made = negatives(test) | {"gaussian_samples": gaussians[FULL].sample(len(test))}
        own = {name: energies(model, poses) for name, poses in made.items()}
        others = {
            KEYS[name]: Energies(
                g.nll(test).numpy(),
                {n: g.nll(x).numpy() for n, x in made.items()},
                float(g.nll(train).mean()) if name == FULL else None,
            )
            for name, g in gaussians.items()
        }
        data, plain = energies(model, test), others[KEYS[FULL]]
        # What all likelihoods make of the noise in a pose says nothing about it: Ren et al. 2019, arXiv:1906.02845.
        ratios = {name: own[name] - plain.made[name] for name in made}
        others["likelihood_ratio"] = Energies(data - plain.data, ratios)
        found = detections(Energies(data, own, float(energies(model, train).mean())), others)
    except UserError as error:
        report.warnings.append(f"there are no negatives: {error}")
        return
    report.details["negatives"] = found
    for name in TELLING:
        report.values[f"auroc_{name}"] = found[name]["auroc"]
        for baseline in gaussians:
            row = report.baselines[baseline]
            row[f"auroc_{name}"] = found[name][f"auroc_{KEYS[baseline]}"]


def _add_samples(
    report: Report, model: Any, compared: Compared, gaussians: dict[str, PoseGaussian]
) -> None:
    """What samples are worth: means of a VAE's likelihood, and how plausible they are with its noise.

    Samples of a density of the pose itself, as the Gaussians are, have all of their noise in them.
    """
    train, test = compared.train, compared.test
    drawn = {name: g.sample(SAMPLES) for name, g in gaussians.items()}
    try:
        found = {name: sample_values(x, test, train) for name, x in drawn.items()}
        found[DATA] = sample_values(spread(train, SAMPLES), test)
        own = sample_values(draw_poses(model, SAMPLES), test, train)
    except UserError as error:
        report.warnings.append(f"there are no metrics of the samples: {error}")
        return
    found[DATA]["sample_nearest"] = float(nearest(spread(test, NEAREST), train).mean())
    for row in (own, *found.values()):
        add_ratios(row, found[DATA])
        row["sample_limits_noisy"] = row["sample_limits"]
    if not isinstance(model.latent, IdentityLatent):
        own["sample_limits_noisy"] = in_limits(draw_poses(model, SAMPLES, noisy=True))
    report.values |= own
    for name, row in found.items():
        report.baselines.setdefault(name, {}).update(row)


@torch.no_grad()
def reconstructed(model: Any, poses: Tensor) -> Tensor:
    """Reconstructions of poses (N, 30, 3), on the CPU."""
    parts = [model.reconstruct(part.to(model.device)).cpu() for part in poses.split(BATCH)]
    return torch.cat(parts)


@torch.no_grad()
def energies(model: Any, poses: Tensor) -> np.ndarray:
    """The deterministic energy of poses (N, 30, 3), (N,) float64 nats."""
    parts = [model.energy(part.to(model.device)).double().cpu() for part in poses.split(BATCH)]
    return torch.cat(parts).numpy()


@torch.no_grad()
def posterior_terms(model: Any, poses: Tensor) -> dict[str, Tensor]:
    """``recon_nll`` and ``kl`` at the posterior's mean, (N,) float64 nats each, on the CPU."""
    parts = [energy_terms(model, part.to(model.device)) for part in poses.split(BATCH)]
    return {
        name: torch.cat([part[name].double().cpu() for part in parts])
        for name in ("recon_nll", "kl")
    }
