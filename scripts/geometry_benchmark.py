"""What the latent metric costs, against the plain way of writing the same: ratios measured in one process.

``ROWS`` is for scripts/benchmark.py; by itself ``python scripts/geometry_benchmark.py`` prints the rows.

Times are medians of runs that take turns, in fp32 and without autograd. Memory is the highest sum of what torch's
allocator held at once beyond the inputs, the result included, from the profiler's record of every
allocation and release, those inside an operation too.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from src.models.geometry import CentroidMetric, MetricPoint, geodesic

Measurement = tuple[float, dict[str, Any]]
DIM, LAMBDA = 16, 0.01


def metric_of(count: int, diagonal: bool = False) -> CentroidMetric:
    """K centroids as a 16-D VAE has them: some 4 from the origin, as far apart as τ, matrices of mean diagonal 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        directions = torch.nn.functional.normalize(torch.randn(count, DIM), dim=1)
        factors = torch.randn(count, DIM, 2 * DIM)
        matrices = factors @ factors.mT / (2 * DIM)
        if diagonal:
            matrices = matrices.diagonal(dim1=1, dim2=2).contiguous()
        return CentroidMetric(4 * directions, matrices, 3.0, LAMBDA)


def points_of(batch: int) -> Tensor:
    """(B, D) of a standard normal."""
    return torch.randn(batch, DIM, generator=torch.Generator().manual_seed(1))


def plain_inverse(metric: CentroidMetric, z: Tensor) -> Tensor:
    """G⁻¹ as the formula is written: a product of shape (B, K, D, D), summed over K."""
    squared = (z[:, None] - metric.centroids).square().sum(-1)
    weights = (-squared / metric.temperature**2).exp()
    summed = (weights[..., None, None] * metric.matrices).sum(1)
    return summed + metric.regularization * torch.eye(DIM)


def plain_quantities(inverse: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log det G⁻¹, G v and a sampling factor of G⁻¹, each by its own factorisation, and G itself inverted."""
    metric = torch.linalg.inv(inverse)
    momentum = (metric @ v[..., None])[..., 0]
    return 0.5 * torch.logdet(inverse), momentum, torch.linalg.cholesky(inverse)


def one_factor(inverse: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same from one Cholesky factor."""
    point = MetricPoint(inverse)
    return point.half_logdet_inverse, point.lower(v), point.scale_tril


@torch.no_grad()
def compare_times(
    plain: Callable[[], Any], ours: Callable[[], Any], rounds: int = 15
) -> Measurement:
    """The plain way's time over ours, and both in ms."""
    spent: dict[Callable[[], Any], list[float]] = {plain: [], ours: []}
    plain(), ours()
    for _ in range(rounds):
        for run, times in spent.items():
            begin = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - begin))
    slow, fast = median(spent[plain]), median(spent[ours])
    return slow / fast, {"plain_ms": slow, "ours_ms": fast, "rounds": rounds}


@torch.no_grad()
def peak_memory(run: Callable[[], Any]) -> int:
    """The most bytes that were allocated at once while ``run`` ran, without what was there before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        result = run()
    events: Any = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    del result
    return peak


def inverse_time(batch: int) -> Measurement:
    metric, z = metric_of(200), points_of(batch)
    return compare_times(lambda: plain_inverse(metric, z), lambda: metric.inverse(z))


def inverse_memory(batch: int) -> Measurement:
    metric, z = metric_of(200), points_of(batch)
    plain, ours = (
        peak_memory(lambda: plain_inverse(metric, z)),
        peak_memory(lambda: metric.inverse(z)),
    )
    return plain / ours, {"plain_MB": plain / 1e6, "ours_MB": ours / 1e6}


def factorisations() -> Measurement:
    inverse, v = metric_of(50).inverse(points_of(2048)), points_of(2048)
    return compare_times(lambda: plain_quantities(inverse, v), lambda: one_factor(inverse, v))


def geodesics(diagonal: bool) -> Measurement:
    metric, pairs = metric_of(50, diagonal), 64
    a, b = points_of(2 * pairs).mul(1.5).chunk(2)

    def alone() -> list[Tensor]:
        ends = zip(a.split(1), b.split(1), strict=True)
        return [geodesic(metric, start, end) for start, end in ends]

    return compare_times(alone, lambda: geodesic(metric, a, b), rounds=5)


# (name, least ratio, what measures it)
ROWS: list[tuple[str, float, Callable[[], Measurement]]] = [
    ("G⁻¹, K 200, B 512, D 16: two GEMMs, time", 10, lambda: inverse_time(512)),
    ("G⁻¹, K 200, B 2048, D 16: two GEMMs, time", 10, lambda: inverse_time(2048)),
    ("G⁻¹, K 200, B 2048, D 16: two GEMMs, peak memory", 20, lambda: inverse_memory(2048)),
    ("log det, G v and a sampling factor, B 2048, D 16: one Cholesky", 4, factorisations),
    ("64 geodesics at once, diagonal matrices, K 50, D 16", 10, lambda: geodesics(True)),
    ("64 geodesics at once, full matrices, K 50, D 16", 5, lambda: geodesics(False)),
]

if __name__ == "__main__":
    for name, target, measure in ROWS:
        ratio, details = measure()
        found = ", ".join(f"{key} {value:.3g}" for key, value in details.items())
        print(f"{name}: {ratio:.1f} (target {target:g}; {found})")
