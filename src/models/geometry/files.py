"""Metrics on disk: ours, and those of the reference implementations."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from src.models.distributions import full_precision
from src.models.geometry.metric import CentroidMetric
from src.runs.loading import read_plain
from src.utils.errors import UserError, nearest

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
# What others call the four; ours comes first.
NAMES = {
    "centroids": ("centroids", "metric_centroids", "centers", "mu"),
    "matrices": ("matrices", "M_matrices", "metric_vars", "metric_matrices", "M_tens"),
    "temperature": ("temperature", "metric_temperature", "temp", "T", "beta"),
    "regularization": ("regularization", "metric_regularization", "reg", "lambda", "lbd"),
}
# What the reference implementations take where a file does not say.
DEFAULTS = {"temperature": 0.1, "regularization": 0.01}
# Rounding that a matrix is forgiven, in units of its largest entry or eigenvalue.
ASYMMETRY, NEGATIVE = 1e-5, 1e-6


def write_metric(
    path: str | Path, metric: CentroidMetric, meta: Mapping[str, Any] | None = None
) -> None:
    """Write a metric as safetensors, all at once: the tensors of ``NAMES``, and in the header ``format_version``
    and ``meta``, where it came from, as JSON."""
    path = Path(path)
    tensors = {name: torch.as_tensor(getattr(metric, name)) for name in NAMES}
    header = {"format_version": str(FORMAT_VERSION), "meta": json.dumps(dict(meta or {}))}
    # A copy of each: slices of one tensor would be refused.
    content = save({name: t.detach().cpu().clone() for name, t in tensors.items()}, header)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_metric(
    source: str | Path | Mapping[str, Any],
    temperature: float | None = None,
    regularization: float | None = None,
) -> CentroidMetric:
    """A metric of a .safetensors file of ours, of a .pt file of the reference implementations, or of a state dict.

    Nothing in a file is executed. Rows without a centroid at the end, as a ``FittedMetric`` may hold them, are left
    out, and matrices that are all diagonal become (K, D).

    Args:
        source: a file, or the tensors themselves under any of their ``NAMES``.
        temperature, regularization: instead of the file's.

    Raises:
        UserError: the file is missing, damaged or of a later version, centroids or matrices are not there, or they
            make no metric.
    """
    content, where = (
        (dict(source), "the state dict") if isinstance(source, Mapping) else _read(Path(source))
    )
    centroids = _tensor(content, "centroids", where)
    matrices = _tensor(content, "matrices", where).to(centroids)
    _check_shapes(centroids, matrices, where)
    used = _used(matrices)
    centroids, matrices = centroids[:used], _checked(matrices[:used], where)
    return CentroidMetric(
        centroids,
        matrices,
        _scalar(content, "temperature", temperature, where).to(centroids),
        _scalar(content, "regularization", regularization, where).to(centroids),
    )


@torch.no_grad()
def metric_report(metric: CentroidMetric) -> dict[str, Any]:
    """What a metric is like, as plain numbers; ranges are {min, median, max} over its centroids.

    Returns:
        Sizes; τ and λ; the eigenvalues of the M_k; at the centroids log₁₀ of G's condition number, ½ log det G⁻¹ in
        nats (far away it is ``half_logdet_inverse_far``) and Σ_k w_k, which is 1 where τ keeps centroids apart; the
        distance from a centroid to the nearest other one, which τ should be near.
    """
    centroids, matrices = metric.centroids, metric.matrices
    eigenvalues = matrices if metric.diagonal else torch.linalg.eigvalsh(matrices)
    point = metric.at(centroids)
    apart = torch.cdist(centroids.double(), centroids.double()).fill_diagonal_(torch.inf)
    regularization = float(metric.regularization)
    report = {
        "centroids": len(centroids),
        "dim": metric.dim,
        "diagonal": metric.diagonal,
        "temperature": float(metric.temperature),
        "regularization": regularization,
        "eigenvalues": _range(eigenvalues),
        "log10_condition": _range(point.log10_condition()),
        "half_logdet_inverse": _range(point.half_logdet_inverse),
        "half_logdet_inverse_far": 0.5 * metric.dim * float(torch.tensor(regularization).log()),
        "weight_sum": _range(metric.weights(centroids).sum(-1)),
    }
    if len(centroids) > 1:
        report["nearest_centroid"] = _range(apart.amin(1))
    return report


def _range(values: Tensor) -> dict[str, float]:
    return {
        "min": float(values.min()),
        "median": float(values.median()),
        "max": float(values.max()),
    }


def _read(path: Path) -> tuple[dict[str, Any], str]:
    if not path.is_file():
        raise UserError(f"metric file {path} does not exist")
    if path.suffix == ".safetensors":
        return _read_safetensors(path), str(path)
    if path.suffix not in (".pt", ".pth"):
        raise UserError(f"metric file {path} is neither .safetensors nor .pt")
    content = read_plain(path, f"metric file {path}")
    if not isinstance(content, dict):
        raise UserError(f"metric file {path} holds no mapping of tensors")
    return content, str(path)


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            version = (file.metadata() or {}).get("format_version", str(FORMAT_VERSION))
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"metric file {path} is damaged: {error}") from error
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise UserError(
            f"metric file {path} has format_version={version}, and this program reads up to {FORMAT_VERSION}"
        )
    return content


def _find(content: Mapping[str, Any], name: str) -> Any:
    return next((content[alias] for alias in NAMES[name] if alias in content), None)


def _tensor(content: Mapping[str, Any], name: str, where: str) -> Tensor:
    found = _find(content, name)
    if found is None and name == "matrices" and "M_i_flat" in content:
        raise UserError(
            f"{where} holds M_i_flat, the summands of another metric's G, which are none of G⁻¹: "
            "a file with M_matrices is needed"
        )
    if found is None:
        raise UserError(
            f"{where} holds no {name} (known names: {', '.join(NAMES[name])}){nearest(name, map(str, content))}"
        )
    try:
        found = torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{where}: {name} are no tensor but a {type(found).__name__}") from error
    found = found if found.is_floating_point() else found.float()
    if not found.isfinite().all():
        raise UserError(f"{where}: {name} hold NaN or infinity")
    return full_precision(found.detach())


def _scalar(content: Mapping[str, Any], name: str, override: float | None, where: str) -> Tensor:
    found = _find(content, name) if override is None else override
    if found is None:
        found = DEFAULTS[name]
        log.warning("%s says no %s: %g is taken", where, name, found)
    value = _tensor({name: found}, name, where)
    if value.numel() != 1 or not value > 0:
        raise UserError(f"{where}: {name} must be one positive number, not {found}")
    return value.reshape(())


def _check_shapes(centroids: Tensor, matrices: Tensor, where: str) -> None:
    if centroids.ndim != 2 or not centroids.numel():
        raise UserError(f"{where}: centroids must be (K, D), not {tuple(centroids.shape)}")
    count, dim = centroids.shape
    if matrices.shape not in ((count, dim, dim), (count, dim)):
        raise UserError(
            f"{where}: matrices must be {(count, dim, dim)} or {(count, dim)} to go with the centroids, "
            f"not {tuple(matrices.shape)}"
        )


def _used(matrices: Tensor) -> int:
    rows = matrices.flatten(1).any(1).nonzero()
    return int(rows[-1]) + 1 if len(rows) else 1


def _checked(matrices: Tensor, where: str) -> Tensor:
    """Symmetric and positive semidefinite up to rounding, and (K, D) where all are diagonal."""
    if matrices.ndim == 3:
        size = matrices.abs().amax((1, 2))
        skew = (matrices - matrices.mT).abs().amax((1, 2)) > ASYMMETRY * size
        if skew.any():
            raise UserError(f"{where}: matrix {int(skew.nonzero()[0])} is not symmetric")
        diagonal = matrices.diagonal(dim1=1, dim2=2)
        matrices = (
            diagonal
            if torch.equal(diagonal.diag_embed(), matrices)
            else (matrices + matrices.mT) / 2
        )
    eigenvalues = matrices if matrices.ndim == 2 else torch.linalg.eigvalsh(matrices.double())
    negative = eigenvalues.amin(1) < -NEGATIVE * eigenvalues.abs().amax(1)
    if negative.any():
        raise UserError(
            f"{where}: matrix {int(negative.nonzero()[0])} is not positive semidefinite "
            f"(its least eigenvalue is {float(eigenvalues.min()):.3g})"
        )
    return matrices
