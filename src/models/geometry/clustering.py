"""Clusters of a cloud of encodings, near each other in the sense of a metric."""

import numpy as np
from torch import Tensor

from src.models.geometry.graphs import graph_distances
from src.models.geometry.medoids import Medoids, kmedoids
from src.models.geometry.metric import CentroidMetric
from src.utils.errors import UserError


def riemannian_kmedoids(
    metric: CentroidMetric, z: Tensor, clusters: int, neighbours: int = 10, seed: int = 0
) -> Medoids:
    """k-medoids under the lengths of the shortest paths through the cloud.

    What others call Riemannian k-means: means need not exist on a curved space, medoids do.

    Args:
        z: (N, D); all pairs are compared, O(N²) numbers.
        clusters: K.
        neighbours: of each point in the graph that the paths run on.

    Raises:
        UserError: more clusters than points, or points that are not finite.

    References:
        Yang et al. 2018, Geodesic Clustering in Deep Generative Models, arXiv:1809.04747.
    """
    if not 1 <= clusters <= len(z):
        raise UserError(f"clusters={clusters} must be between 1 and the {len(z)} points")
    if not bool(z.isfinite().all()):
        raise UserError("the points to be clustered hold NaN or infinity")
    distances = graph_distances(metric, z, neighbours)
    return kmedoids(np.minimum(distances, distances.T), clusters, seed)
