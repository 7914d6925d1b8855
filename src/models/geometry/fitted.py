"""The metric as a part of a model: fitted to its encodings, or read from a file."""

from typing import Any

import torch
from torch import Tensor, nn

from src.models.geometry.fit import check_method, fit_metric
from src.models.geometry.metric import DIRECT_BELOW, CentroidMetric
from src.utils.errors import UserError


class FittedMetric(nn.Module):
    """A metric that is fitted to encodings, by ``fit``, or read from a file, by ``set``; never by gradients.

    Until then it is the Euclidean one, G = I exactly. The shapes of its state do not depend on what was fitted: rows
    without a centroid hold zero matrices, which contribute nothing, and ``forward`` leaves them out.

    Args:
        dim: latent dimensions D.
        centroids: K, at most.
        diagonal: diagonal matrices only: G⁻¹ then costs O(BKD) and no factorisation.
        method: kmeans, or kmedoids, whose centroids are encodings themselves.
        neighbours: encodings within the bandwidth of a centroid's covariance.
        temperature_factor: τ in units of the median distance from a centroid to the nearest other one.
        regularization: λ, what remains of G⁻¹ far from all encodings.
        normalise: scale every M_k to a mean diagonal of 1.

    Raises:
        UserError: an impossible setting.
    """

    centroids: Tensor
    matrices: Tensor
    temperature: Tensor
    regularization: Tensor
    fitted: Tensor

    def __init__(
        self,
        dim: int,
        centroids: int = 64,
        diagonal: bool = False,
        method: str = "kmeans",
        neighbours: int = 32,
        temperature_factor: float = 1.0,
        regularization: float = 0.01,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        check_method(method)
        least_one = {"centroids": centroids, "neighbours": neighbours}
        positive = {"temperature_factor": temperature_factor, "regularization": regularization}
        for name, count in least_one.items():
            if count < 1:
                raise UserError(f"model.metric.{name}={count} must be at least 1")
        for name, value in positive.items():
            if not value > 0:
                raise UserError(f"model.metric.{name}={value} must be positive")
        self.dim, self.diagonal = dim, diagonal
        self.settings: dict[str, Any] = {
            "centroids": centroids,
            "method": method,
            "neighbours": neighbours,
            "temperature_factor": temperature_factor,
            "regularization": regularization,
            "normalise": normalise,
            "diagonal": diagonal,
        }
        self.register_buffer("centroids", torch.zeros(centroids, dim))
        shape = (centroids, dim) if diagonal else (centroids, dim, dim)
        self.register_buffer("matrices", torch.zeros(shape))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("regularization", torch.ones(()))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self._look()

    @property
    def is_fitted(self) -> bool:
        """Whether the metric is any other than the Euclidean one it begins as."""
        return self._fitted

    def forward(self) -> CentroidMetric:
        """The metric as it is now; its tensors are the buffers."""
        return CentroidMetric(
            self.centroids[: self._used],
            self.matrices[: self._used],
            self.temperature,
            self.regularization,
            direct=self._direct,
        )

    def fit(self, means: Tensor, seed: int = 0) -> None:
        """Fit to encodings (N, D).

        Raises:
            UserError: they are not finite, not (N, D), or all the same.
        """
        if means.ndim == 2 and means.shape[1] != self.dim:
            raise UserError(
                f"the encodings have {means.shape[1]} dimensions, and the metric has dim={self.dim}"
            )
        self._store(fit_metric(means, seed=seed, **self.settings))

    def refresh(self, means: Tensor, points: Tensor | None = None, seed: int = 0) -> None:
        """``fit``, as asked of every metric while a model trains; the ``points`` encoded are not looked at."""
        self.fit(means, seed)

    def set(self, metric: CentroidMetric) -> None:
        """Take over a metric, as of a file.

        Raises:
            UserError: it has another dimension, more centroids than this one holds, or is not diagonal where this is.
        """
        count, held = len(metric.centroids), len(self.centroids)
        if metric.dim != self.dim:
            raise UserError(
                f"that metric has {metric.dim} dimensions, not {self.dim}: set model.latent_dim={metric.dim}"
            )
        if count > held:
            raise UserError(
                f"that metric has {count} centroids, and this model holds {held}: "
                f"set model.metric.centroids={count}"
            )
        if self.diagonal and not metric.diagonal:
            raise UserError("that metric is not diagonal: set model.metric.diagonal=false")
        self._store(metric)

    @torch.no_grad()
    def _store(self, metric: CentroidMetric) -> None:
        used = len(metric.centroids)
        dense = metric.diagonal and not self.diagonal
        self.centroids.zero_()[:used].copy_(metric.centroids)
        self.matrices.zero_()[:used].copy_(
            metric.matrices.diag_embed() if dense else metric.matrices
        )
        self.temperature.copy_(torch.as_tensor(metric.temperature))
        self.regularization.copy_(torch.as_tensor(metric.regularization))
        self.fitted.fill_(True)
        self._look()

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[arg-type]
        self._look()

    def _look(self) -> None:
        """Note on the host what ``forward`` must know of the buffers: reading them there would stall the device."""
        rows = self.matrices.flatten(1).any(1).nonzero()
        self._used = int(rows[-1]) + 1 if len(rows) else 1
        self._direct = float(self.temperature) < DIRECT_BELOW
        self._fitted = bool(self.fitted)
