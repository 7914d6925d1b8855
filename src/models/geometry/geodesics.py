"""Curves in a latent space with a metric: lengths, energies, shortest curves, and curves that go straight on.

A curve is (N, B, D): N points of each of B curves.
"""

from typing import Literal

import torch
from torch import Tensor

from src.models.distributions import full_precision
from src.models.geometry.graphs import graph_path
from src.models.geometry.metric import CentroidMetric, MetricPoint
from src.utils.errors import UserError, nearest

Start = Literal["graph", "line"]
STARTS = ("graph", "line")
# A curve is solved on at least so many segments, however few of its points are asked for.
SEGMENTS = 32
# Steps that the quasi-Newton method remembers, and the part of the promised decrease that a step must bring.
MEMORY, SUFFICIENT = 6, 1e-4
# How often it is asked whether all curves are done, for which a GPU is waited for.
ASK_EVERY = 2


def energy(metric: CentroidMetric, curve: Tensor) -> Tensor:
    """(N − 1) Σ_i Δ_iᵀ G(m_i) Δ_i ≈ ∫₀¹ γ'ᵀ G γ' dt, (…), of a curve (N, …, D); Δ_i its segments, m_i their middles.

    At least length², and equal to it where all segments are equally long.
    """
    return (len(curve) - 1) * metric.squared_distance(curve[:-1], curve[1:]).sum(0)


def length(metric: CentroidMetric, curve: Tensor) -> Tensor:
    """Σ_i √(Δ_iᵀ G(m_i) Δ_i), (…), of a curve (N, …, D)."""
    return metric.squared_distance(curve[:-1], curve[1:]).sqrt().sum(0)


def log_magnification(metric: CentroidMetric, z: Tensor) -> Tensor:
    """log √det G(z) = −½ log det G⁻¹(z), (…), nats: by how much the metric enlarges volume."""
    return -metric.half_logdet_inverse(z)


def line(a: Tensor, b: Tensor, points: int) -> Tensor:
    """The straight line from a (…, D) to b, (points, …, D), its ends exactly a and b."""
    t = torch.linspace(0, 1, points, dtype=a.dtype, device=a.device)
    return torch.lerp(a, b, t.view(-1, *[1] * a.ndim))


@torch.no_grad()
def geodesic(
    metric: CentroidMetric,
    a: Tensor,
    b: Tensor,
    points: int = 33,
    start: Start = "graph",
    nodes: Tensor | None = None,
    neighbours: int = 10,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> Tensor:
    """Curves of locally least energy from every a to its b, all at once.

    The energy is minimised over the inner points by L-BFGS. Its starting Hessian is the energy's own with the metric
    held still, 2 (N − 1) × the segments' G in a discrete Laplacian: it is inverted with a sum along the curve, and
    makes the number of steps independent of N. Each curve has its own step length and takes a step only where
    that lowers its energy, so that no curve ends above its start. With a flat metric it is the straight line.

    Args:
        a, b: (B, D), which the curves keep exactly.
        points: of each curve, with both ends; curves are solved on 32 segments at least.
        start: line, or graph: for each pair whichever has the lower energy, the line or the shortest path over a
            neighbour graph of ``nodes``, which finds its way around empty regions.
        nodes: (N, D), such as encodings; by default the metric's centroids.
        neighbours: of each node in the graph.
        iterations: steps at most.
        tolerance: a curve is done when a step promises to lower its energy by less than this share.

    Returns:
        (points, B, D), at nearly equal distances under the metric.

    Raises:
        UserError: fewer than two points, or an unknown start.

    References:
        Shao, Kumar & Fletcher 2018, The Riemannian Geometry of Deep Generative Models, arXiv:1711.08014.
        Nocedal 1980, Updating Quasi-Newton Matrices with Limited Storage.
    """
    if points < 2:
        raise UserError(f"points={points} must be at least 2: a geodesic has two ends")
    if start not in STARTS:
        raise UserError(f"start='{start}' is unknown{nearest(start, STARTS)}")
    dtype = torch.promote_types(full_precision(a).dtype, metric.centroids.dtype)
    metric, a, b = metric.to(dtype), a.to(dtype), b.to(dtype)
    refine = -(-SEGMENTS // (points - 1))
    curve = line(a, b, refine * (points - 1) + 1)
    if start == "graph":
        nodes = metric.centroids if nodes is None else nodes.to(a)
        path = graph_path(metric, nodes, a, b, len(curve), neighbours)
        shorter = energy(metric, path) < energy(metric, curve)
        curve = torch.where(shorter[:, None], path, curve)
    return _shortened(metric, curve, iterations, tolerance)[::refine]


def exponential_map(metric: CentroidMetric, z: Tensor, v: Tensor, steps: int = 64) -> Tensor:
    """The geodesics that leave z with velocity v, over unit time, (steps + 1, …, D).

    Hamilton's equations of H(z, p) = ½ pᵀ G⁻¹(z) p with p = G v,
    dz/dt = G⁻¹ p and dp/dt = −½ ∇_z pᵀ G⁻¹ p = 1/τ² Σ_k w_k (pᵀ M_k p) (z − c_k),
    by the classical Runge-Kutta method of fourth order. H is constant; the length is √(2H).

    Args:
        z, v: (…, D).
        steps: of equal length.
    """

    def slope(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        place, p = state
        return metric.at(place).raise_(p), -0.5 * metric.form_gradient(place, p)

    def ahead(
        state: tuple[Tensor, Tensor], by: float, k: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        return state[0] + by * k[0], state[1] + by * k[1]

    h = 1.0 / steps
    p = metric.at(z).lower(v)
    state = (z.to(p.dtype), p)
    places = [state[0]]
    for _ in range(steps):
        k1 = slope(state)
        k2 = slope(ahead(state, h / 2, k1))
        k3 = slope(ahead(state, h / 2, k2))
        k4 = slope(ahead(state, h, k3))
        for k, by in ((k1, h / 6), (k2, h / 3), (k3, h / 3), (k4, h / 6)):
            state = ahead(state, by, k)
        places.append(state[0])
    return torch.stack(places)


class _Search:
    """Where L-BFGS is with each of B curves, and where it goes next.

    A curve that took no step has ρ = 0 in the memory of past steps s and changes of the gradient y.

    Attributes:
        curve: (N, B, D), the best so far.
        energy: (B,).
        gradient, direction: of the inner points, (N − 2, B, D).
        promised: −gᵀd, by how much a full step would lower the energy at first order, (B,).
        size: of the next step, (B,).
    """

    def __init__(self, metric: CentroidMetric, curve: Tensor) -> None:
        self.metric, self.curve = metric, curve
        self.memory: list[tuple[Tensor, Tensor, Tensor]] = []
        self.energy, self.gradient, middles = _look(metric, curve)
        self.size = torch.ones_like(self.energy)
        self.direction = self._direction(middles)
        self.promised = -_dot(self.gradient, self.direction)

    def step(self) -> None:
        """Try the next step of every curve and take it where it lowers the energy enough."""
        trial = self.curve.clone()
        trial[1:-1] += self.size[:, None] * self.direction
        energy, gradient, middles = _look(self.metric, trial)
        better = energy <= self.energy - SUFFICIENT * self.size * self.promised
        chosen = better[:, None]
        s = torch.where(chosen, trial[1:-1] - self.curve[1:-1], 0)
        y = torch.where(chosen, gradient - self.gradient, 0)
        self._remember(s, y)
        self.curve = torch.where(chosen, trial, self.curve)
        self.energy = torch.where(better, energy, self.energy)
        self.gradient = self.gradient + y
        # Where the step was refused the same direction is tried again, shorter.
        self.direction = torch.where(chosen, self._direction(middles), self.direction)
        self.promised = -_dot(self.gradient, self.direction)
        self.size = torch.where(better, 1.0, 0.3 * self.size)

    def done(self, tolerance: float) -> Tensor:
        """Which curves have nothing more to gain, (B,)."""
        return (0.5 * self.promised <= tolerance * self.energy) | (self.size < 1e-4)

    def keep(self, curves: Tensor) -> None:
        """Go on with these only."""
        self.curve, self.gradient = self.curve[:, curves], self.gradient[:, curves]
        self.energy, self.size = self.energy[curves], self.size[curves]
        self.direction, self.promised = self.direction[:, curves], self.promised[curves]
        self.memory = [(s[:, curves], y[:, curves], rho[curves]) for s, y, rho in self.memory]

    def _remember(self, s: Tensor, y: Tensor) -> None:
        curvature = _dot(s, y)
        enough = curvature > 1e-10 * (_dot(s, s) * _dot(y, y)).sqrt()
        rho = torch.where(enough, 1 / curvature, 0)
        self.memory = [*self.memory[1 - MEMORY :], (s, y, rho)]

    def _direction(self, middles: MetricPoint) -> Tensor:
        """−H⁻¹ g by the two-loop recursion."""
        q, shares = self.gradient, []
        for s, y, rho in reversed(self.memory):
            shares.append(rho * _dot(s, q))
            q = q - shares[-1][:, None] * y
        r = _precondition(middles, q)
        for (s, y, rho), share in zip(self.memory, reversed(shares), strict=True):
            r = r + (share - rho * _dot(y, r))[:, None] * s
        return -r


def _shortened(metric: CentroidMetric, curve: Tensor, iterations: int, tolerance: float) -> Tensor:
    """Curves (N, B, D) of locally least energy, never more than at the start."""
    search, index = _Search(metric, curve), torch.arange(curve.shape[1], device=curve.device)
    best = curve.clone()
    for iteration in range(iterations):
        if iteration % ASK_EVERY == 0:
            done = search.done(tolerance)
            if done.any():
                best[:, index] = search.curve
                index = index[~done]
                search.keep(~done)
            if not len(index):
                break
        search.step()
    best[:, index] = search.curve
    return best


def _look(metric: CentroidMetric, curve: Tensor) -> tuple[Tensor, Tensor, MetricPoint]:
    """Energies (B,) of curves, their gradients at the inner points (N − 2, B, D), and the metric at the middles."""
    delta = curve[1:] - curve[:-1]
    middles, p, slope = metric.momentum((curve[1:] + curve[:-1]) / 2, delta)
    gradient = 2 * (p[:-1] - p[1:]) + 0.5 * (slope[:-1] + slope[1:])
    return len(delta) * _dot(p, delta), len(delta) * gradient, middles


def _precondition(middles: MetricPoint, gradient: Tensor) -> Tensor:
    """H₀⁻¹ g for H₀ = the Hessian of (N − 1) Σ Δ_iᵀ G_i Δ_i with the G_i held still, ends fixed.

    With the step's segments s_i and q_i = 2 (N − 1) G_i s_i, stationarity is q_{j−1} − q_j = g_j, so that
    q_i = q_0 − Σ_{j ≤ i} g_j; and Σ s_i = 0, as both ends stay, gives q_0 = (Σ G_i⁻¹)⁻¹ Σ G_i⁻¹ Σ_{j ≤ i} g_j.
    """
    inner = len(gradient)
    # Sums along the curve as GEMMs: cumsum over the first axis is several times slower.
    summed = torch.tensordot(gradient.new_ones(inner + 1, inner).tril(-1), gradient, 1)
    q_0 = middles.added().lower(middles.raise_(summed).sum(0))
    segments = middles.raise_(q_0 - summed) / (2 * (inner + 1))
    return torch.tensordot(gradient.new_ones(inner, inner + 1).tril(), segments, 1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((0, -1))
