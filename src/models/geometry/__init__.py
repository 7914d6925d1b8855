"""The geometry of latent spaces: a Riemannian metric around centroids, its density and its shortest paths."""

from src.models.geometry.clustering import riemannian_kmedoids
from src.models.geometry.density import (
    Normaliser,
    RiemannianDensity,
    draw_resampled,
    log_normaliser,
)
from src.models.geometry.files import metric_report, read_metric, write_metric
from src.models.geometry.fit import fit_metric
from src.models.geometry.fitted import FittedMetric
from src.models.geometry.geodesics import (
    energy,
    exponential_map,
    geodesic,
    length,
    line,
    log_magnification,
)
from src.models.geometry.graphs import graph_distances, graph_path
from src.models.geometry.hmc import HMCResult, hmc, leapfrog, riemannian_target
from src.models.geometry.learned import LearnedMetric
from src.models.geometry.medoids import Medoids, kmedoids
from src.models.geometry.metric import CentroidMetric, MetricPoint

__all__ = [
    "CentroidMetric",
    "FittedMetric",
    "HMCResult",
    "LearnedMetric",
    "Medoids",
    "MetricPoint",
    "Normaliser",
    "RiemannianDensity",
    "draw_resampled",
    "energy",
    "exponential_map",
    "fit_metric",
    "geodesic",
    "graph_distances",
    "graph_path",
    "hmc",
    "kmedoids",
    "leapfrog",
    "length",
    "line",
    "log_magnification",
    "log_normaliser",
    "metric_report",
    "read_metric",
    "riemannian_kmedoids",
    "riemannian_target",
    "write_metric",
]
