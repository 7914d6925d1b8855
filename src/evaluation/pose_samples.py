"""What samples of hand poses are worth: how different they are, how plausible, and how they lie among the data.

Poses are (N, 30, 3) rotation vectors in radians on the CPU.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.datamodules.hand_anatomy import canonical, positions, within_limits
from src.evaluation.poses import BLOCK, joint_errors
from src.evaluation.samples import LARGEST, sample_metrics
from src.models.geometry import rotations
from src.utils.seeding import isolated_rng

# Samples drawn, and pairs of poses that a mean distance is taken over.
SAMPLES, PAIRS = 5000, 5000
# Samples whose nearest training pose is looked for.
NEAREST = 500
# Tips of the five fingers among the points of a hand.
FINGERTIPS = np.arange(4, 21, 4)


def features(poses: Tensor) -> Tensor:
    """The first two columns of every joint's rotation matrix, (N, 180), in which near poses are near."""
    parts = [
        rotations.to_6d(rotations.exp(part.double())).flatten(1) for part in poses.split(BLOCK)
    ]
    return torch.cat(parts)


def random_pairs(n: int, pairs: int = PAIRS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of pairs of different poses out of n."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, n, pairs)
    return first, (first + rng.integers(1, n, pairs)) % n


def diversity(poses: Tensor) -> dict[str, float]:
    """Average pairwise distances: ``apd`` of the joints' rotations in degrees, ``tip_apd`` of the fingertips in mm.

    The fingertips are those of the synthetic hand in ``hand_anatomy``, each hand with its wrist at the origin.
    """
    a, b = random_pairs(len(poses))
    tips = positions(poses.numpy())[:, :, FINGERTIPS]
    return {
        "apd": float(joint_errors(poses[a], poses[b]).mean()),
        "tip_apd": float(1e3 * np.linalg.norm(tips[a] - tips[b], axis=-1).mean()),
    }


def in_limits(poses: Tensor) -> float:
    """The fraction of poses all of whose joints a hand can bend like that."""
    return float(within_limits(poses.numpy()).all(1).mean())


def nearest(poses: Tensor, train: Tensor) -> Tensor:
    """The mean joint angle from every pose to its nearest among the training poses, in degrees, (N,).

    The nearest is the one with the smallest chordal distance of ``features``, which orders near poses as angles do.
    """
    known = features(train).float()
    rows = [torch.cdist(part, known).argmin(1) for part in features(poses).float().split(256)]
    return joint_errors(poses, train[torch.cat(rows)]).mean(1)


def sample_values(samples: Tensor, test: Tensor, train: Tensor | None = None) -> dict[str, float]:
    """Diversity, plausibility and ``sample_metrics`` of ``features`` against test poses.

    Args:
        samples: poses.
        test: poses that they should lie among.
        train: poses whose nearest to every sample is looked for; None leaves that out.

    Raises:
        UserError: there are too few poses for their neighbours to be counted, or some are not finite.
    """
    few = min(LARGEST, len(samples), len(test))
    real, fake = (features(spread(x, few)).numpy() for x in (test, samples))
    found = sample_metrics(real, fake)
    found |= {f"sample_{name}": value for name, value in diversity(samples).items()}
    found["sample_limits"] = in_limits(samples)
    if train is not None:
        found["sample_nearest"] = float(nearest(spread(samples, NEAREST), train).mean())
    return found


def spread(poses: Tensor, count: int) -> Tensor:
    """At most ``count`` poses, evenly spread."""
    return poses[torch.linspace(0, len(poses) - 1, min(count, len(poses))).round().long()]


def add_ratios(values: dict[str, float], data: dict[str, float]) -> None:
    """Add to what ``sample_values`` has found its diversity as a multiple of the data's."""
    for name in ("sample_apd", "sample_tip_apd"):
        values[f"{name}_ratio"] = values[name] / data[name]


@torch.no_grad()
def draw_poses(model: Any, n: int, noisy: bool = False, batch_size: int = 2048) -> Tensor:
    """n canonical poses of a model, always the same, (n, 30, 3) float32.

    Args:
        model: see ``src/models/protocol.py``.
        noisy: samples of the likelihood instead of its means.

    Raises:
        NotImplementedError: the likelihood cannot be sampled.
    """
    parts = []
    with isolated_rng(0, model.device):
        for start in range(0, n, batch_size):
            count = min(batch_size, n - start)
            likelihood = model.decode(model.sample_z(count))
            drawn = likelihood.sample() if noisy else likelihood.mean
            parts.append(drawn.double().cpu())
    return torch.from_numpy(canonical(torch.cat(parts).numpy())).float()
