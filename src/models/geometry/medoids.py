"""k-medoids on a matrix of distances."""

from dataclasses import dataclass

import numpy as np

# Candidates looked at together: as many as keep their gains, (chunk, N), in the cache.
CHUNK = 128


@dataclass(frozen=True)
class Medoids:
    """A clustering around K of N objects.

    Attributes:
        medoids: their indices, (K,).
        assignment: to which medoid each object belongs, (N,), 0…K−1.
        inertia: the sum of all objects' distances to their medoids.
    """

    medoids: np.ndarray
    assignment: np.ndarray
    inertia: float


def kmedoids(
    distances: np.ndarray,
    clusters: int,
    seed: int = 0,
    weights: np.ndarray | None = None,
    passes: int = 50,
) -> Medoids:
    """Medoids that make Σ_n w_n min_k d(n, medoid_k) as small as swaps of one medoid can make it.

    The start is that of k-medoids++; then every object is tried in the place of every medoid, and the best swap of
    each chunk of objects is made at once if it gains, until a whole pass finds none. The gain of all K swaps
    of an object takes O(N), since losing medoid k costs those that it served their second nearest.

    Args:
        distances: (N, N), symmetric, finite.
        weights: how often each object counts, (N,).
        passes: at most this many.

    References:
        Schubert & Rousseeuw 2021, Fast and Eager k-Medoids Clustering, arXiv:2008.05171.
    """
    weights = np.ones(len(distances)) if weights is None else weights
    medoids = _seeds(distances, clusters, weights, np.random.default_rng(seed))
    chunks = np.array_split(np.arange(len(distances)), -(-len(distances) // CHUNK))
    for _ in range(passes):
        swaps = [_swap(distances, medoids, weights, chunk) for chunk in chunks]
        if not any(swaps):
            break
    to_medoids = distances[:, medoids]
    assignment = to_medoids.argmin(1)
    return Medoids(medoids, assignment, float(weights @ to_medoids.min(1)))


def _seeds(
    distances: np.ndarray, clusters: int, weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """k-medoids++: each next one is drawn with a probability that grows with its squared distance to the others."""
    chosen = [int(rng.choice(len(distances), p=weights / weights.sum()))]
    near = distances[chosen[0]].copy()
    for _ in range(clusters - 1):
        chance = weights * np.square(near)
        chance[chosen] = 0
        if not chance.sum():  # the rest are all duplicates
            chance = np.ones(len(distances))
            chance[chosen] = 0
        chosen.append(int(rng.choice(len(distances), p=chance / chance.sum())))
        near = np.minimum(near, distances[chosen[-1]])
    return np.array(chosen)


def _swap(
    distances: np.ndarray, medoids: np.ndarray, weights: np.ndarray, chunk: np.ndarray
) -> bool:
    """Make the best swap of a medoid for one of the chunk, in place; whether there was one."""
    first, second, served = _nearest_two(distances, medoids)
    trial = distances[chunk]
    # What all gain by a further medoid, and what those of medoid k then lose with it (Σ over n served by k).
    gain = (weights * np.minimum(trial - first, 0)).sum(1)
    lost = weights * (np.minimum(trial, second) - np.minimum(trial, first))
    member = np.zeros((len(distances), len(medoids)))
    member[np.arange(len(distances)), served] = 1
    change = gain[:, None] + lost @ member
    change[np.isin(chunk, medoids)] = np.inf
    row, leaver = np.unravel_index(change.argmin(), change.shape)
    if not change[row, leaver] < -1e-9 * (weights @ first):
        return False
    medoids[leaver] = chunk[row]
    return True


def _nearest_two(
    distances: np.ndarray, medoids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each object's distance to its nearest and second nearest medoid, and which the nearest is."""
    to_medoids = distances[:, medoids]
    served = to_medoids.argmin(1)
    first = to_medoids[np.arange(len(distances)), served]
    to_medoids[np.arange(len(distances)), served] = np.inf
    return first, to_medoids.min(1), served
