"""What the latent metric costs, against the plain way of writing the same: ratios measured in one process.

``ROWS`` is for scripts/benchmark.py; by itself ``python scripts/geometry_benchmark.py`` prints the rows.

Times are medians of runs that take turns, in fp32 and without autograd. Memory is the highest sum of what torch's
allocator held at once beyond the inputs, the result included, from the profiler's record of every
allocation and release, those inside an operation too.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from src.models.geometry import CentroidMetric, MetricPoint, geodesic
from src.models.networks import FlowChain
from src.models.networks.flows import AutoregressiveBlock
from src.utils.build import build
from src.utils.main import CONF, register_resolvers

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


def dimension_by_dimension(block: AutoregressiveBlock, y: Tensor) -> tuple[Tensor, Tensor]:
    """A block's inverse as it is commonly written: one column after another is found and filled in."""
    x, log_det = torch.zeros_like(y), y.new_zeros(len(y))
    for i in block.order.tolist():
        shift, log_scale = block._shift_and_log_scale(x.clone(), None)
        x[:, i] = (y[:, i] - shift[:, i]) * (-log_scale[:, i]).exp()
        log_det = log_det - log_scale[:, i]
    return x, log_det


class SlowChain(FlowChain):
    """The chain in the direction that takes D passes a block, as the reference system propagates time."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        states, log_dets = [z], []
        for step in range(self.length - 1):
            total = z.new_zeros(z.shape[:-1])
            flat = z.reshape(-1, z.shape[-1])
            for block in reversed(self._flow(step).blocks):
                flat, log_det = dimension_by_dimension(block, flat)
                total = total + log_det.view(total.shape)
            z = flat.view(z.shape)
            states.append(z)
            log_dets.append(total)
        return torch.stack(states, -2), torch.stack(log_dets, -1)


class PlainMetric(CentroidMetric):
    """The metric as the formula is written: (B, K, D, D) in memory, and inverted where its inverse is at hand."""

    def at(self, z: Tensor) -> MetricPoint:
        inverse = plain_inverse(self, z.reshape(-1, self.dim))
        return MetricPoint(torch.linalg.inv(torch.linalg.inv(inverse)).view(*z.shape, self.dim))

    def half_logdet_inverse(self, z: Tensor) -> Tensor:
        return 0.5 * torch.logdet(self.at(z).inverse)


class PlainFittedMetric(nn.Module):
    """Gives a model ``PlainMetric`` in the place of its own."""

    def __init__(self, metric: CentroidMetric) -> None:
        super().__init__()
        tensors = metric.centroids, metric.matrices, metric.temperature, metric.regularization
        self.metric = PlainMetric(*tensors)

    def forward(self) -> CentroidMetric:
        return self.metric


def chain_directions() -> Measurement:
    """Seven flows of two blocks with three hidden layers of 256, as the reference system has them."""
    fast, slow = (kind(DIM, 8, width=256, depth=3) for kind in (FlowChain, SlowChain))
    z = points_of(8)
    return compare_times(lambda: slow(z), lambda: fast(z))


def whole_step() -> Measurement:
    """Forward, backward and Adam of ``model=riemannian_flow`` on sequences of 8 × 3 × 64 × 64, batch 8, K 200.

    Both sides have the same networks. The plain one has the chain in the slow direction, the plain metric, and torch's
    Adam as it comes, which is how the reference system trains; ours has what our configs say.
    """
    register_resolvers()
    with initialize_config_dir(str(CONF)):
        chain = ["model.latent.chain.width=256", "model.latent.chain.depth=3"]
        overrides = ["model=riemannian_flow", "model.metric.centroids=200", *chain]
        config = compose("config", overrides=overrides).model
    x, steps = torch.rand(8, *config.shape), []
    for plain in (True, False):
        model = build(config)
        model.latent.metric.set(metric_of(200))
        if plain:
            model.latent.chain.__class__ = SlowChain
            own = PlainFittedMetric(model.latent.metric())
            model.latent.posterior.borrow_metric(own)
            model.latent.prior.borrow_metric(own)
        settings = {} if plain else {"fused": config.optimizer.fused}
        optimizer = torch.optim.Adam(model.parameters(), **settings)
        steps.append(partial(train_step, model, optimizer, x))
    return compare_times(*steps)


@torch.enable_grad()
def train_step(model: Any, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    model.step(x)[1].loss.backward()
    optimizer.step()


# (name, least ratio, what measures it)
ROWS: list[tuple[str, float, Callable[[], Measurement]]] = [
    ("G⁻¹, K 200, B 512, D 16: two GEMMs, time", 10, lambda: inverse_time(512)),
    ("G⁻¹, K 200, B 2048, D 16: two GEMMs, time", 10, lambda: inverse_time(2048)),
    ("G⁻¹, K 200, B 2048, D 16: two GEMMs, peak memory", 20, lambda: inverse_memory(2048)),
    ("log det, G v and a sampling factor, B 2048, D 16: one Cholesky", 4, factorisations),
    ("64 geodesics at once, diagonal matrices, K 50, D 16", 10, lambda: geodesics(True)),
    ("64 geodesics at once, full matrices, K 50, D 16", 10, lambda: geodesics(False)),
    ("flow chain, 7 flows of 2 blocks, width 256, batch 8: fast direction", 10, chain_directions),
    ("training step of riemannian_flow, batch 8", 5, whole_step),
]


def table() -> tuple[list[str], list[list[str]]]:
    """Latent geometry, flow chain and training step, over the plain way of writing them."""
    header = ["geometry", "plain", "ours", "ratio", "target"]
    rows = []
    for name, target, measure in ROWS:
        ratio, details = measure()
        unit = "ms" if "plain_ms" in details else "MB"
        found = [f"{details[f'{side}_{unit}']:.3g} {unit}" for side in ("plain", "ours")]
        rows.append(
            [name, *found, f"{ratio:.1f}", f"≥ {target:g}{'' if ratio >= target else ', missed'}"]
        )
    return header, rows


if __name__ == "__main__":
    for row in table()[1]:
        print(" | ".join(row))
