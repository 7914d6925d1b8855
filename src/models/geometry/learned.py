"""A metric that a network learns together with the model."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from src.models.distributions import bounded, full_precision
from src.models.geometry.metric import DIRECT_BELOW, CentroidMetric
from src.utils.errors import UserError


class LearnedMetric(nn.Module):
    """G⁻¹(z) = Σ_k exp(−‖z − μ(x_k)‖²/τ²) L(x_k) L(x_k)ᵀ + λI with a network L (Chadebec et al. 2020).

    In training the batch is the set of centroids, so that the network gets a gradient; evaluation and sampling use up
    to ``centroids`` training points, taken anew before every validation, where the authors (arXiv:2010.11518) keep
    those of 100 batches. Before the first time the metric is Euclidean.

    Args:
        shape: of what the encoder sees.
        dim: latent dimensions D.
        width: of the hidden layer.
        centroids: how many training points are kept.
        temperature: τ, in latent units.
        regularization: λ.
    """

    # Refreshed before every validation, whatever the schedule of the others.
    learned = True
    kept_centroids: Tensor
    kept_matrices: Tensor
    kept_regularization: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        dim: int,
        width: int = 400,
        centroids: int = 500,
        temperature: float = 1.5,
        regularization: float = 0.01,
    ) -> None:
        super().__init__()
        if not temperature > 0 or not regularization > 0 or centroids < 1:
            raise UserError(
                f"model.metric: temperature={temperature} and regularization={regularization} must be positive, "
                f"centroids={centroids} at least 1"
            )
        self.dim, self.temperature, self.regularization = dim, temperature, regularization
        self._fitted = False
        self._direct = temperature < DIRECT_BELOW
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), width), nn.ReLU())
        self.head = nn.Linear(width, dim + dim * (dim - 1) // 2)
        self.register_buffer("kept_centroids", torch.zeros(centroids, dim))
        self.register_buffer("kept_matrices", torch.zeros(centroids, dim, dim))
        self.register_buffer("kept_regularization", torch.ones(()))

    @property
    def is_fitted(self) -> bool:
        """Whether training points have been kept; until then the metric is Euclidean."""
        return self._fitted

    def matrices(self, x: Tensor) -> Tensor:
        """M(x) = L(x) L(x)ᵀ, (B, D, D)."""
        raw = full_precision(self.head(self.net(x)))
        factor = torch.diag_embed(bounded(raw[:, : self.dim], 8.0).exp())
        rows, columns = torch.tril_indices(self.dim, self.dim, -1, device=x.device)
        lower = torch.zeros_like(factor).index_put(
            (torch.arange(len(x), device=x.device)[:, None], rows, columns), raw[:, self.dim :]
        )
        factor = factor + lower
        return factor @ factor.mT

    def of_batch(self, x: Tensor, means: Tensor) -> CentroidMetric:
        """The metric whose centroids are the posterior means (B, D) of a batch x."""
        return CentroidMetric(
            means, self.matrices(x), self.temperature, self.regularization, direct=self._direct
        )

    def forward(self) -> CentroidMetric:
        return CentroidMetric(
            self.kept_centroids,
            self.kept_matrices,
            self.temperature,
            self.kept_regularization,
            direct=self._direct,
        )

    @torch.no_grad()
    def refresh(self, means: Tensor, points: Tensor, seed: int = 0) -> None:
        """Keep posterior means (N, D) of ``points`` (N, *shape), and their matrices."""
        kept = len(self.kept_centroids)
        order = torch.randperm(len(means), generator=torch.Generator().manual_seed(seed))
        rows = order[:kept].sort().values.to(means.device)
        self.kept_centroids.zero_()[: len(rows)] = means[rows]
        self.kept_matrices.zero_()[: len(rows)] = self.matrices(points[rows])
        self.kept_regularization.fill_(self.regularization)
        self._fitted = True

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[arg-type]
        self._fitted = bool(self.kept_matrices.any())
