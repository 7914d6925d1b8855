"""The Riemannian metric of a latent space, spread over centroids.

Letters: K centroids c_k, D latent dimensions, "…" any batch shape (k, B, N × B). G is the metric, G⁻¹ what is modelled.
"""

from collections.abc import Callable
from functools import reduce, wraps
from typing import TypeVar

import torch
from torch import Tensor, nn

from src.models.distributions import full_precision
from src.utils.errors import UserError

# Below this temperature d² by GEMM, whose absolute error is 1e-5, would be felt in exp(−d²/τ²).
DIRECT_BELOW = 0.5

Answer = TypeVar("Answer")


def _in_full_precision(method: Callable[..., Answer]) -> Callable[..., Answer]:
    """Autocast is off inside, and points and metric have one dtype: fp32, or fp64 where either has it."""

    @wraps(method)
    def exact(self: "CentroidMetric", *points: Tensor) -> Answer:
        points = tuple(full_precision(point) for point in points)
        dtypes = [point.dtype for point in points]
        dtype = reduce(torch.promote_types, dtypes, self.centroids.dtype)
        with torch.autocast(points[0].device.type, enabled=False):
            return method(self.to(dtype), *(point.to(dtype) for point in points))

    return exact


class MetricPoint:
    """G and G⁻¹ at points z, all from one Cholesky factorisation G⁻¹ = L Lᵀ a point.

    Where G⁻¹ is not positive definite, because z is not finite or λ drowns in the rounding, the answers are NaN:
    looking at every factorisation would make the device wait.

    Attributes:
        inverse: G⁻¹(z), (…, D, D).
        scale_tril: L, (…, D, D), so that z + L ε has covariance G⁻¹(z).
    """

    inverse: Tensor
    scale_tril: Tensor

    def __init__(self, inverse: Tensor) -> None:
        self.inverse = inverse
        # The upper factor comes in the layout that LAPACK writes: a third faster than the lower one.
        self._upper = torch.linalg.cholesky_ex(inverse, upper=True).L
        self.scale_tril = self._upper.mT

    @property
    def metric(self) -> Tensor:
        """G(z), (…, D, D)."""
        return torch.cholesky_inverse(self._upper, upper=True)

    @property
    def half_logdet_inverse(self) -> Tensor:
        """½ log det G⁻¹(z), (…), nats: the log-volume of L."""
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def lower(self, v: Tensor) -> Tensor:
        """G v, (…, D): a tangent vector's momentum."""
        v = v.to(self.inverse.dtype)[..., None]
        return torch.cholesky_solve(v, self._upper, upper=True)[..., 0]

    def raise_(self, p: Tensor) -> Tensor:
        """G⁻¹ p, (…, D): a momentum's velocity."""
        with torch.autocast(p.device.type, enabled=False):
            return (self.inverse @ p.to(self.inverse.dtype)[..., None])[..., 0]

    def squared_norm(self, v: Tensor) -> Tensor:
        """vᵀ G v = ‖L⁻¹v‖², (…)."""
        v = v.to(self.inverse.dtype)[..., None]
        return (
            torch.linalg.solve_triangular(self.scale_tril, v, upper=False)[..., 0].square().sum(-1)
        )

    def added(self, dim: int = 0) -> "MetricPoint":
        """The point whose G⁻¹ is the sum of these along a batch axis."""
        return MetricPoint(self.inverse.sum(dim))

    def log10_condition(self) -> Tensor:
        """log₁₀ of the largest over the smallest eigenvalue, (…)."""
        eigenvalues = torch.linalg.eigvalsh(self.inverse)
        return (eigenvalues[..., -1] / eigenvalues[..., 0]).log10()


class DiagonalMetricPoint(MetricPoint):
    """The same for diagonal matrices, from their diagonals alone.

    Args:
        diagonal: of G⁻¹(z), (…, D).
    """

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal

    @property
    def inverse(self) -> Tensor:  # type: ignore[override]
        return self.diagonal.diag_embed()

    @property
    def scale_tril(self) -> Tensor:  # type: ignore[override]
        return self.diagonal.sqrt().diag_embed()

    @property
    def metric(self) -> Tensor:
        return self.diagonal.reciprocal().diag_embed()

    @property
    def half_logdet_inverse(self) -> Tensor:
        return 0.5 * self.diagonal.log().sum(-1)

    def lower(self, v: Tensor) -> Tensor:
        return v.to(self.diagonal.dtype) / self.diagonal

    def raise_(self, p: Tensor) -> Tensor:
        return p.to(self.diagonal.dtype) * self.diagonal

    def squared_norm(self, v: Tensor) -> Tensor:
        return (v.to(self.diagonal.dtype).square() / self.diagonal).sum(-1)

    def added(self, dim: int = 0) -> MetricPoint:
        return DiagonalMetricPoint(self.diagonal.sum(dim))

    def log10_condition(self) -> Tensor:
        return (self.diagonal.amax(-1) / self.diagonal.amin(-1)).log10()


class CentroidMetric:
    """G⁻¹(z) = Σ_k exp(−‖z − c_k‖²/τ²) M_k + λ I.

    At an isolated centroid G⁻¹ ≈ M_k + λI; far from all of them G⁻¹ → λI, so that distances become large
    and volume elements small where no data were.

    Everything is differentiable in z and in the tensors given here, and computed in fp32 (fp64 where z or the
    tensors are fp64), under autocast too. G⁻¹ takes two GEMMs, O(BK + BD²) numbers, never O(BKD²).

    Args:
        centroids: (K, D).
        matrices: (K, D, D) symmetric positive semidefinite, or (K, D) for diagonal ones.
        temperature: τ, in units of the latent space; sensible values are near the distance between centroids.
        regularization: λ > 0.
        direct: take d² from differences, (B, K, D) numbers, instead of a GEMM, whose absolute error of 1e-5 would be
            felt in exp(−d²/τ²) for small τ. By default where τ < 0.5; to find out, τ is read once, here, for which
            a GPU is waited for: a caller that makes a metric at every step decides for itself.

    Raises:
        UserError: the shapes do not belong together.

    References:
        Chadebec et al. 2021, Data Augmentation in High Dimensional Low Sample Size Setting Using a Geometry-Based
        Variational Autoencoder, arXiv:2105.00026.
    """

    def __init__(
        self,
        centroids: Tensor,
        matrices: Tensor,
        temperature: Tensor | float,
        regularization: Tensor | float,
        direct: bool | None = None,
    ) -> None:
        if centroids.ndim != 2 or not len(centroids):
            raise UserError(f"centroids must be (K, D), not {tuple(centroids.shape)}")
        count, dim = centroids.shape
        if matrices.shape not in ((count, dim, dim), (count, dim)):
            raise UserError(
                f"matrices must be {(count, dim, dim)}, or {(count, dim)} for diagonal ones, "
                f"as there are {count} centroids in {dim} dimensions, not {tuple(matrices.shape)}"
            )
        self.centroids, self.matrices = centroids, matrices.to(centroids)
        self.temperature, self.regularization = temperature, regularization
        self.direct = float(temperature) < DIRECT_BELOW if direct is None else direct

    @property
    def dim(self) -> int:
        """D."""
        return self.centroids.shape[1]

    @property
    def diagonal(self) -> bool:
        """Whether G is diagonal everywhere."""
        return self.matrices.ndim == 2

    def to(self, target: torch.device | torch.dtype) -> "CentroidMetric":
        """The metric in another dtype or on another device; itself where nothing changes."""
        centroids = self.centroids.to(target)
        if centroids is self.centroids:
            return self
        temperature, regularization = (
            value.to(target) if isinstance(value, Tensor) else value
            for value in (self.temperature, self.regularization)
        )
        matrices = self.matrices.to(target)
        return CentroidMetric(centroids, matrices, temperature, regularization, direct=self.direct)

    @_in_full_precision
    def weights(self, z: Tensor) -> Tensor:
        """w_k(z) = exp(−‖z − c_k‖²/τ²), (…, K)."""
        return self._weights(z)

    @_in_full_precision
    def inverse(self, z: Tensor) -> Tensor:
        """G⁻¹(z), (…, D, D)."""
        return self._diagonal(z).diag_embed() if self.diagonal else self._inverse(self._weights(z))

    @_in_full_precision
    def at(self, z: Tensor) -> MetricPoint:
        """G and G⁻¹ at z (…, D), factorised once."""
        return self._point(self._weights(z))

    @_in_full_precision
    def half_logdet_inverse(self, z: Tensor) -> Tensor:
        """½ log det G⁻¹(z), (…), nats."""
        return self._point(self._weights(z)).half_logdet_inverse

    @_in_full_precision
    def half_logdet_inverse_gradient(self, z: Tensor) -> Tensor:
        """∇_z ½ log det G⁻¹ = 1/τ² Σ_k w_k tr(G M_k) (c_k − z), (…, D); exact, without autograd."""
        weights = self._weights(z)
        point = self._point(weights)
        if isinstance(point, DiagonalMetricPoint):
            traces = point.diagonal.reciprocal() @ self.matrices.T
        else:
            traces = point.metric.flatten(-2) @ self.matrices.flatten(1).T
        return self._pull(z, weights * traces)

    @_in_full_precision
    def form_gradient(self, z: Tensor, p: Tensor) -> Tensor:
        """∇_z pᵀ G⁻¹(z) p = 2/τ² Σ_k w_k (pᵀ M_k p) (c_k − z), (…, D), for a p that is held fixed."""
        return 2 * self._pull(z, self._weights(z) * self._forms(p))

    @_in_full_precision
    def momentum(self, z: Tensor, v: Tensor) -> tuple[MetricPoint, Tensor, Tensor]:
        """The point z, the momentum p = G(z) v of a tangent vector there, and ∇_z vᵀG(z)v = −∇_z pᵀG⁻¹(z)p."""
        weights = self._weights(z)
        point = self._point(weights)
        p = point.lower(v)
        return point, p, -2 * self._pull(z, weights * self._forms(p))

    @_in_full_precision
    def squared_distance(self, a: Tensor, b: Tensor) -> Tensor:
        """(a − b)ᵀ G((a + b)/2) (a − b), (…): the squared distance of points that are near each other."""
        return self._point(self._weights((a + b) / 2)).squared_norm(a - b)

    def _weights(self, z: Tensor) -> Tensor:
        if self.direct:
            squared = (z[..., None, :] - self.centroids).square().sum(-1)
        else:
            norms = self.centroids.square().sum(-1) + z.square().sum(-1, keepdim=True)
            squared = (norms - 2 * (z @ self.centroids.T)).clamp_min(0)
        return (squared / -(self.temperature**2)).exp()

    def _inverse(self, weights: Tensor) -> Tensor:
        ridge = self.regularization * torch.eye(
            self.dim, dtype=weights.dtype, device=weights.device
        )
        flat = nn.functional.linear(weights, self.matrices.flatten(1).T, ridge.flatten())
        return flat.unflatten(-1, (self.dim, self.dim))

    def _diagonal(self, z: Tensor) -> Tensor:
        return self._weights(z) @ self.matrices + self.regularization

    def _point(self, weights: Tensor) -> MetricPoint:
        if self.diagonal:
            return DiagonalMetricPoint(weights @ self.matrices + self.regularization)
        return MetricPoint(self._inverse(weights))

    def _forms(self, p: Tensor) -> Tensor:
        """pᵀ M_k p, (…, K)."""
        if self.diagonal:
            return p.square() @ self.matrices.T
        return (p[..., :, None] * p[..., None, :]).flatten(-2) @ self.matrices.flatten(1).T

    def _pull(self, z: Tensor, strengths: Tensor) -> Tensor:
        """1/τ² Σ_k s_k (c_k − z), (…, D)."""
        total = strengths.sum(-1, keepdim=True)
        return (strengths @ self.centroids - total * z) / self.temperature**2
