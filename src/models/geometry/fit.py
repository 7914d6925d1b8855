"""A metric from a cloud of encodings: centroids, the covariance around each, and a temperature."""

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from src.models.distributions import full_precision
from src.models.geometry.medoids import kmedoids
from src.models.geometry.metric import CentroidMetric
from src.utils.errors import UserError, nearest

METHODS = ("kmeans", "kmedoids")
# k-medoids looks at all pairs; of a larger cloud it sees this many points.
MOST_CANDIDATES = 2000
# The least eigenvalue of a covariance in units of their mean: a collapsed direction is short, not absent.
EIGENVALUE_FLOOR = 1e-6


def fit_metric(
    means: Tensor,
    centroids: int = 64,
    method: str = "kmeans",
    neighbours: int = 32,
    temperature_factor: float = 1.0,
    regularization: float = 0.01,
    normalise: bool = True,
    diagonal: bool = False,
    seed: int = 0,
) -> CentroidMetric:
    """Centroids c_k of the encodings, and around each M_k = Σ_n g_n (μ_n − c_k)(μ_n − c_k)ᵀ / Σ_n g_n with
    g_n = exp(−½ ‖μ_n − c_k‖²/h_k²), where h_k is the distance from c_k to its ``neighbours``-th nearest encoding.

    τ = ``temperature_factor`` × the median distance from a centroid to the nearest other one. Encodings that occur
    more than once count as often in the covariances, and once among the neighbours, so that h_k > 0. Where
    there are fewer different encodings than centroids asked for, each of them becomes one.

    Args:
        means: (N, D).
        method: kmeans or kmedoids.
        normalise: scale every M_k to a mean diagonal of 1.
        diagonal: variances only.

    Returns:
        The metric, with tensors of the dtype and on the device of the encodings.

    Raises:
        UserError: the encodings are not finite, not (N, D), or all the same, or the method is unknown.
    """
    check_method(method)
    points, counts = _distinct(means)
    centres = _centres(points, counts, min(centroids, len(points)), method, seed)
    matrices = _covariances(points, counts, centres, neighbours)
    matrices = _lifted(matrices)
    if normalise:
        matrices /= np.trace(matrices, axis1=1, axis2=2)[:, None, None] / points.shape[1]
    if diagonal:
        matrices = np.diagonal(matrices, axis1=1, axis2=2)
    like = full_precision(means.detach())
    return CentroidMetric(
        torch.tensor(centres).to(like),
        torch.tensor(matrices.copy()).to(like),
        torch.tensor(temperature_factor * _spacing(points, counts, centres)).to(like),
        torch.tensor(float(regularization)).to(like),
    )


def check_method(method: str) -> None:
    """Refuse an unknown way of finding centroids."""
    if method not in METHODS:
        raise UserError(f"model.metric.method='{method}' is unknown{nearest(method, METHODS)}")


def _distinct(means: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The different encodings in fp64, and how often each occurs."""
    if means.ndim != 2 or not means.numel():
        raise UserError(
            f"a metric is fitted to encodings of shape (N, D), not {tuple(means.shape)}"
        )
    values = means.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        broken = int((~np.isfinite(values)).any(1).sum())
        raise UserError(
            f"no metric can be fitted: {broken} of {len(values)} encodings are not finite"
        )
    points, counts = np.unique(values, axis=0, return_counts=True)
    if len(points) == 1:
        raise UserError(
            f"no metric can be fitted: all {len(values)} encodings are the same point "
            "(has the posterior collapsed?)"
        )
    return points, counts.astype(float)


def _centres(
    points: np.ndarray, counts: np.ndarray, count: int, method: str, seed: int
) -> np.ndarray:
    """(K, D) fp64."""
    if count == len(points):
        return points
    if method == "kmeans":
        from sklearn.cluster import KMeans

        # Threads would add up in an order of their own, and a resumed training could not repeat it.
        with threadpool_limits(1):
            model = KMeans(count, n_init=4, random_state=seed).fit(points, sample_weight=counts)
        return np.asarray(model.cluster_centers_)
    candidates = points
    if len(points) > MOST_CANDIDATES:
        chosen = np.random.default_rng(seed).choice(
            len(points), MOST_CANDIDATES, replace=False, p=counts / counts.sum()
        )
        candidates, counts = points[chosen], np.ones(MOST_CANDIDATES)
        count = min(count, MOST_CANDIDATES)
    found = kmedoids(_distances(candidates, candidates), count, seed, weights=counts)
    return candidates[found.medoids]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist  # type: ignore[import-untyped]

    return np.asarray(cdist(a, b))


def _covariances(
    points: np.ndarray, counts: np.ndarray, centres: np.ndarray, neighbours: int
) -> np.ndarray:
    """(K, D, D) fp64, one centroid at a time: (K, N, D) numbers might not fit."""
    matrices = np.empty((len(centres), points.shape[1], points.shape[1]))
    for row, centre in enumerate(centres):
        difference = points - centre
        squared = np.square(difference).sum(1)
        bandwidth = _bandwidth(squared, neighbours)
        weight = counts * np.exp(-0.5 * squared / bandwidth)
        matrices[row] = (weight[:, None] * difference).T @ difference / weight.sum()
    return matrices


def _bandwidth(squared: np.ndarray, neighbours: int) -> float:
    """h², never 0: a centroid that is an encoding itself is no neighbour of its own."""
    others = squared[squared > 0]
    return float(np.partition(others, min(neighbours, len(others)) - 1)[:neighbours].max())


def _lifted(matrices: np.ndarray) -> np.ndarray:
    """Symmetric, with eigenvalues of at least ``EIGENVALUE_FLOOR`` times their mean."""
    values, vectors = np.linalg.eigh((matrices + matrices.transpose(0, 2, 1)) / 2)
    floor = EIGENVALUE_FLOOR * values.mean(1, keepdims=True)
    values = np.maximum(values, floor)
    return np.asarray((vectors * values[:, None]) @ vectors.transpose(0, 2, 1))


def _spacing(points: np.ndarray, counts: np.ndarray, centres: np.ndarray) -> float:
    """The median distance from a centroid to the nearest other one; of a single one, the encodings' RMS distance."""
    if len(centres) == 1:
        squared = np.square(points - centres).sum(1)
        return float(np.sqrt(np.average(squared, weights=counts)))
    distances = _distances(centres, centres)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(1)))
