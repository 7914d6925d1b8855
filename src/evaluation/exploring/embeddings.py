"""Codes on a plane: principal components, t-SNE and UMAP."""

import importlib.util
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from src.evaluation.geometry_figures import Plane
from src.utils.errors import UserError

METHODS = ("PCA", "t-SNE", "UMAP")
# What installs the package that is not among the requirements.
INSTALL_UMAP = "pip install -c constraints.txt -e '.[umap]'"


@dataclass(frozen=True)
class Embedding:
    """Codes on a plane.

    Attributes:
        points: (N, 2).
        axes: what the two axes show, with its unit.
    """

    points: Tensor
    axes: tuple[str, str]


def has_umap() -> bool:
    """Whether umap-learn is installed."""
    return importlib.util.find_spec("umap") is not None


def embed(
    z: Tensor, method: str, perplexity: float = 30, neighbours: int = 15, seed: int = 0
) -> Embedding:
    """Codes z (N, D) on a plane, the same every time.

    Args:
        method: one of ``METHODS``.
        perplexity: of t-SNE, about how many neighbours a code has.
        neighbours: of a code, for UMAP.
        seed: of UMAP; t-SNE starts from the principal components, and nothing in it is random.

    Raises:
        UserError: too few codes or dimensions for the method, or UMAP is not installed.

    References:
        van der Maaten & Hinton 2008, Visualizing Data using t-SNE, JMLR 9.
        Kobak & Berens 2019, The art of using t-SNE, Nature Communications 10, on starting from principal components.
        McInnes, Healy & Melville 2018, UMAP, arXiv:1802.03426.
    """
    if method == "PCA":
        return _principal(z)
    nearest = perplexity if method == "t-SNE" else neighbours
    if nearest >= len(z):
        raise UserError(f"{method} of {len(z)} codes needs fewer than {len(z)} neighbours")
    points = _tsne(z, perplexity) if method == "t-SNE" else _umap(z, seed, neighbours)
    return Embedding(torch.from_numpy(points), (f"{method} 1 (no unit)", f"{method} 2 (no unit)"))


def _principal(z: Tensor) -> Embedding:
    if z.shape[1] < 2:
        raise UserError("principal components on a plane need codes of at least 2 dimensions")
    plane = Plane.of(z)
    return Embedding(plane.project(z), plane.axis_labels())


def _tsne(z: Tensor, perplexity: float) -> np.ndarray:
    from sklearn.manifold import TSNE

    start = "pca" if z.shape[1] > 1 else "random"
    return TSNE(perplexity=perplexity, init=start, random_state=0).fit_transform(z.numpy())


def _umap(z: Tensor, seed: int, neighbours: int) -> np.ndarray:
    if not has_umap():
        raise UserError(f"UMAP is not installed; {INSTALL_UMAP}")
    from umap import UMAP

    return UMAP(n_neighbors=neighbours, random_state=seed).fit_transform(z.numpy())
