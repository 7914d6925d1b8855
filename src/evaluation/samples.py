"""What samples are worth in the space of features, beside what trivial samplers get.

Letters: N real pictures, M samples, F features.
"""

from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from src.evaluation.features import Extractor
from src.evaluation.sequence_metrics import frechet_distance
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

# Neighbours within whose distance a picture counts as alike.
NEIGHBOURS = 5
# Pictures compared, and distances held at once: 128 MB.
LARGEST, LARGEST_BLOCK = 2000, 2**24


def sample_metrics(real: np.ndarray, fake: np.ndarray, k: int = NEIGHBOURS) -> dict[str, float]:
    """How the features of samples lie among those of real pictures.

    ``sample_fid`` is the Fréchet distance of the Gaussians fitted to both (Heusel et al. 2017, arXiv:1706.08500). The
    others count balls, each around one picture and reaching to its k-th nearest neighbour of the same set
    (Kynkäänniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797):

    - ``sample_precision``: the fraction of samples that lie in a real picture's ball,
    - ``sample_recall``: the fraction of real pictures that lie in a sample's ball,
    - ``sample_density``: in how many real pictures' balls a sample lies, over k; above 1 where samples crowd together,
    - ``sample_coverage``: the fraction of real pictures whose ball holds a sample.

    All depend on N and M, the Fréchet distance most: it falls as they grow. Unlike in the authors' code there is one k
    for all, and distances are in float64.

    Args:
        real, fake: features (N, F) and (M, F).
        k: neighbours.

    Raises:
        UserError: there are not more than k rows, or some are not finite.
    """
    if min(len(real), len(fake)) <= k:
        raise UserError(f"{len(real)} real pictures and {len(fake)} samples are not more than {k}")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise UserError("some features are infinite or NaN")
    # Around the origin the differences of squares below lose least.
    a, b = (torch.from_numpy(rows - real.mean(0)).double() for rows in (real, fake))
    radii_a, radii_b = _radii(a, k), _radii(b, k)
    balls = torch.zeros(len(b), dtype=torch.long)
    recalled, covered = 0, 0
    for rows, radii in zip(_blocks(a, b), _blocks(radii_a, b), strict=True):
        squares = _squares(rows, b)
        inside = squares <= radii[:, None]
        balls += inside.sum(0)
        covered += int(inside.any(1).sum())
        recalled += int((squares <= radii_b).any(1).sum())
    return {
        "sample_fid": frechet_distance(real, fake),
        "sample_precision": float((balls > 0).double().mean()),
        "sample_recall": recalled / len(a),
        "sample_density": float(balls.double().mean()) / k,
        "sample_coverage": covered / len(a),
    }


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances of all rows, (len(a), len(b))."""
    return a.square().sum(1, keepdim=True) - 2 * a @ b.T + b.square().sum(1)


def _radii(a: Tensor, k: int) -> Tensor:
    """The squared distance of every row to the k-th nearest of the others, (len(a),)."""
    parts = [_squares(part, a).kthvalue(k + 1, dim=1).values for part in _blocks(a, a)]
    return torch.cat(parts)


def _blocks(a: Tensor, others: Tensor) -> tuple[Tensor, ...]:
    return a.split(max(1, LARGEST_BLOCK // len(others)))


@torch.no_grad()
def compare_samples(
    model: Any,
    train: Tensor,
    test: Tensor,
    extractor: Extractor,
    pca: PCA,
    labels: Tensor | None = None,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """``sample_metrics`` of the model's samples and of samplers that take no training, against the test pictures.

    There are as many samples as test pictures. A model that takes labels gets the test pictures' own.

    Args:
        model: see ``src/models/protocol.py``.
        train, test: (N, C, H, W) in [0, 1].
        extractor: pictures → features.
        pca: of the training pictures; samples are drawn from its Gaussian.
        labels: of the test pictures, where there are any.

    Returns:
        The model's, and those of "mean image", of the Gaussian as "PCA-k", and of training pictures as "the data",
        which is what a sampler without a fault would get.
    """
    rows = torch.linspace(0, len(test) - 1, min(LARGEST, len(test))).round().long()
    n = len(rows)
    condition = (
        labels[rows] if labels is not None and model.latent.condition_key == "label" else None
    )
    trivial = {
        "mean image": train.mean(0, keepdim=True).expand(n, *train.shape[1:]),
        f"PCA-{pca.n_components_}": gaussian_samples(pca, n, train.shape[1:]),
        "the data": train[torch.linspace(0, len(train) - 1, n).round().long()],
    }
    real = extractor(test[rows])
    found = {name: sample_metrics(real, extractor(x)) for name, x in trivial.items()}
    return sample_metrics(real, extractor(draw(model, n, condition))), found


def draw(model: Any, n: int, condition: Tensor | None = None, batch_size: int = 256) -> Tensor:
    """n pictures of a model, always the same, (n, C, H, W) in [0, 1] on the CPU."""
    parts = []
    with isolated_rng(0, model.device):
        for start in range(0, n, batch_size):
            count = min(batch_size, n - start)
            c = () if condition is None else (condition[start : start + count].to(model.device),)
            parts.append(model.sample(count, *c).cpu().float().clamp(0, 1))
    return torch.cat(parts)


def gaussian_samples(pca: PCA, n: int, shape: torch.Size, seed: int = 0) -> Tensor:
    """Samples of probabilistic PCA (Tipping & Bishop 1999), (n, *shape) in [0, 1].

    Like a model's, they are means given the latent variables, without the noise of the pixels.
    """
    latent = np.random.default_rng(seed).normal(size=(n, pca.n_components_))
    scale = np.sqrt(np.maximum(pca.explained_variance_ - pca.noise_variance_, 0))
    pictures = pca.mean_ + (latent * scale) @ pca.components_
    return torch.from_numpy(pictures).float().reshape(n, *shape).clamp(0, 1)
