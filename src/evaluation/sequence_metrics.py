"""What a model of sequences is worth beyond its reconstructions: interpolations and samples.

Letters: N sequences, T frames, D latent dimensions, S steps of a path.
"""

import logging
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from src.models.geometry import CentroidMetric, fit_metric, geodesic
from src.utils.errors import UserError

log = logging.getLogger(__name__)

FEATURES = 64
PATH_POINTS = 9
# Of geodesics, held-out sequences and latent states; enough for a standard error well below the differences told.
SEQUENCES = 48
STATES = 4000
SAMPLES = 256


@torch.no_grad()
def latent_states(model: Any, x: Tensor, batch_size: int = 128) -> Tensor:
    """The latent trajectories of the posterior means of x (N, T, …): (N, T, D), on the CPU."""
    parts = x.split(batch_size)
    means = (model.encode(part.to(model.device)).mean for part in parts)
    return torch.cat([model.latent.trajectory(mean).cpu() for mean in means])


def state_metric(states: Tensor, centroids: int = 64) -> CentroidMetric:
    """A metric fitted to latent states (N, T, D) of the training data, alike for every kind of model."""
    flat = states.flatten(0, 1)
    chosen = torch.linspace(0, len(flat) - 1, min(STATES, len(flat))).round().long()
    return fit_metric(flat[chosen], centroids=centroids)


def sequence_values(
    model: Any, train: Tensor, test: Tensor
) -> tuple[dict[str, float], dict[str, float]]:
    """Everything below for one model, and the same for the baseline that averages the neighbouring frames' pixels.

    Args:
        model: of sequences.
        train, test: (N, T, *frame).
    """
    found: dict[str, float] = {}
    baseline: dict[str, float] = {}
    if model.latent.prior is not None and train.dim() == 5:
        found |= sample_quality(model, train, test)
    try:
        metric = state_metric(latent_states(model, train))
    except UserError as error:  # a collapsed model, of which there are other numbers to tell
        log.warning("no metric of the latent states, and no interpolations: %s", error)
        return found, baseline
    states = latent_states(model, test[:SEQUENCES])
    if states.shape[1] > 2:  # there is a frame between others
        found |= interpolation_errors(model, test, states, metric)
        pixels = found.pop("interpolation_mse_pixels")
        names = ("interpolation_mse_linear", "interpolation_mse_geodesic")
        baseline = dict.fromkeys(names, pixels)
    if len(test) > 1:
        found |= off_data_errors(model, train, test, metric)
    return found, baseline


@torch.no_grad()
def interpolation_errors(
    model: Any, x: Tensor, states: Tensor, metric: CentroidMetric
) -> dict[str, float]:
    """A frame that is left out, found again half-way between the latent states before and after it.

    Args:
        model: of sequences.
        x: held-out sequences (N, T, *frame).
        states: their latent trajectories (N, T, D).
        metric: of the latent space.

    Returns:
        Mean squared errors against the true frame: of the middle of the straight line and of the geodesic, of the
        model's own state of that frame, and of the pixel mean of the two neighbours, which needs no model.
    """
    x, states = x[:SEQUENCES], states[:SEQUENCES]
    truth = x[:, 1:-1].flatten(0, 1)
    before, after = states[:, :-2].flatten(0, 1), states[:, 2:].flatten(0, 1)
    curves = geodesic(metric, before, after, points=PATH_POINTS)
    found = {
        "interpolation_mse_linear": (before + after) / 2,
        "interpolation_mse_geodesic": curves[PATH_POINTS // 2],
        "interpolation_mse_own_state": states[:, 1:-1].flatten(0, 1),
    }
    errors = {name: _mse(_frames(model, z), truth) for name, z in found.items()}
    pixels = (x[:, :-2] + x[:, 2:]).flatten(0, 1) / 2
    return errors | {"interpolation_mse_pixels": _mse(pixels, truth)}


@torch.no_grad()
def off_data_errors(
    model: Any, train: Tensor, x: Tensor, metric: CentroidMetric, seed: int = 0
) -> dict[str, float]:
    """How far the sequences half-way between two held-out ones lie from the nearest real one.

    Args:
        model: of sequences.
        train: real sequences (N, T, *frame).
        x: held-out sequences, paired at random.
        metric: of the latent space.

    Returns:
        Mean squared distances to the nearest training sequence: of the middle of the straight line, of the middle of
        the geodesic, and of the reconstructions of the ends, which no path can be expected to undercut.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randperm(len(x), generator=generator)[: 2 * SEQUENCES]
    pairs = pairs[: len(pairs) // 2 * 2]
    mean = model.encode(x[pairs].to(model.device)).mean.cpu()
    a, b = mean[::2], mean[1::2]
    flat = geodesic(metric, a.flatten(0, -2), b.flatten(0, -2), points=PATH_POINTS)
    middle = flat[PATH_POINTS // 2].view_as(a)
    decoded = {"off_data_mse_linear": (a + b) / 2, "off_data_mse_geodesic": middle}
    decoded["off_data_mse_ends"] = mean
    return {
        name: float(nearest_mse(model.decode(z.to(model.device)).mean.cpu(), train).mean())
        for name, z in decoded.items()
    }


@torch.no_grad()
def sample_quality(model: Any, train: Tensor, test: Tensor) -> dict[str, float]:
    """Sequences drawn from the prior beside real ones, all (N, T, *frame).

    ``sample_frechet`` is the Fréchet distance between Gaussians of the frames' first 64 principal components (those
    of the training frames), ``sample_nearest_mse`` how far a sample is from the nearest training sequence (is it
    real?), and ``coverage_mse`` how far a held-out sequence is from the nearest sample (is everything there?).
    """
    drawn = torch.cat([model.sample(64).cpu().clamp(0, 1) for _ in range(SAMPLES // 64)])
    frames = [part.flatten(0, 1).flatten(1).numpy() for part in (train, test, drawn)]
    spread = np.linspace(0, len(frames[0]) - 1, min(STATES, len(frames[0]))).astype(int)
    kept = min(FEATURES, len(spread) - 1, frames[0].shape[1])
    features = PCA(kept, svd_solver="randomized", random_state=0).fit(frames[0][spread])
    return {
        "sample_frechet": frechet_distance(
            features.transform(frames[1]), features.transform(frames[2])
        ),
        "sample_nearest_mse": float(nearest_mse(drawn, train).mean()),
        "coverage_mse": float(nearest_mse(test, drawn).mean()),
    }


def nearest_mse(x: Tensor, others: Tensor, batch_size: int = 64) -> Tensor:
    """Mean squared difference of every x (N, *shape) from the nearest of ``others`` (M, *shape), (N,)."""
    rows, candidates = x.flatten(1), others.flatten(1)
    norms = candidates.square().sum(1)
    squares = [
        (part.square().sum(1, keepdim=True) - 2 * part @ candidates.T + norms).amin(1)
        for part in rows.split(batch_size)
    ]
    return torch.cat(squares).clamp_min(0) / rows.shape[1]


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2(Σ_a Σ_b)^½) of features (N, F) (Dowson & Landau 1982)."""
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    cov_a, cov_b = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (a, b))
    # tr (Σ_a Σ_b)^½ from the symmetric Σ_a^½ Σ_b Σ_a^½, whose eigenvalues are real.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ cov_b @ root).clip(0)
    return float(mean + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(inner).sum())


def _frames(model: Any, z: Tensor, batch_size: int = 512) -> Tensor:
    parts = [
        model.latent.decode_frames(part.to(model.device)).cpu() for part in z.split(batch_size)
    ]
    return torch.cat(parts)


def _mse(x: Tensor, y: Tensor) -> float:
    return float((x - y).square().mean())
