"""Poses that no hand takes, or hardly any, and how well an energy tells them from data.

The suite is graded: noise and exchanged hands are for smoke tests, while a finger or a thumb of another pose, samples
of a Gaussian and the middle between two poses are where a model can do better than a Gaussian.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from scipy.spatial.transform import Rotation
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from src.datamodules.hand_anatomy import FINGERS, THUMB, angles, poses
from src.utils.errors import UserError

SPLAY, BEND = 1, 2  # of what ``angles`` gives
# Poses of a negative, and of the data that it is told from.
LARGEST = 5000
Make = Callable[[np.ndarray, Generator], np.ndarray]


def _rotations(x: np.ndarray) -> Rotation:
    return Rotation.from_rotvec(x.reshape(-1, 3))


def _vectors(turns: Rotation, shape: tuple[int, ...]) -> np.ndarray:
    return turns.as_rotvec().reshape(shape)


def _noise(sigma: float) -> Make:
    def make(x: np.ndarray, rng: Generator) -> np.ndarray:
        noise = Rotation.from_rotvec(rng.normal(0, sigma, (x.size // 3, 3)))
        return _vectors(_rotations(x) * noise, x.shape)

    return make


def _others(n: int, rng: Generator) -> np.ndarray:
    """A row other than itself for each of n rows."""
    return (np.arange(n) + rng.integers(1, n, n)) % n


def _hands_swapped(x: np.ndarray, rng: Generator) -> np.ndarray:
    return np.concatenate([x[:, 15:], x[:, :15]], 1)


def _independent_joints(x: np.ndarray, rng: Generator) -> np.ndarray:
    rows = np.stack([rng.permutation(len(x)) for _ in range(x.shape[1])], 1)
    return x[rows, np.arange(x.shape[1])]


def _one_joint(x: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """The index of one joint of every pose."""
    return np.arange(len(x)), rng.integers(0, x.shape[1], len(x))


def _random_rotation(x: np.ndarray, rng: Generator) -> np.ndarray:
    x = x.copy()
    x[_one_joint(x, rng)] = Rotation.random(len(x), random_state=rng).as_rotvec()
    return x


def _sign_flipped(x: np.ndarray, rng: Generator) -> np.ndarray:
    x, at = x.copy(), _one_joint(x, rng)
    x[at] *= -1
    return x


def _with_angles(
    x: np.ndarray, at: tuple[np.ndarray, np.ndarray], changed: np.ndarray
) -> np.ndarray:
    """x with the joints ``at`` taken from the angles ``changed``; all others as they are, to the last bit."""
    x = x.copy()
    x[at] = poses(changed)[at]
    return x


def _one_finger(n: int, joint: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """The index of the given joint, 0 to 2, of one finger of one hand of every pose; the thumb is none."""
    finger, side = rng.integers(0, 4, n), rng.integers(0, 2, n)
    return np.arange(n), 15 * side + 3 * finger + joint


def _pip_hyperextended(x: np.ndarray, rng: Generator) -> np.ndarray:
    at, bent = _one_finger(len(x), 1, rng), angles(x)
    bent[(*at, BEND)] = -rng.uniform(10, 25, len(x))
    return _with_angles(x, at, bent)


def _dip_decoupled(x: np.ndarray, rng: Generator) -> np.ndarray:
    at, bent = _one_finger(len(x), 2, rng), angles(x)
    bend = bent[(*at, BEND)]
    # Towards the middle of what the joint can do, so that nothing but the coupling is wrong.
    bent[(*at, BEND)] = bend + np.where(bend < 35, 35, -35)
    return _with_angles(x, at, bent)


def _splayed(x: np.ndarray, rng: Generator) -> np.ndarray:
    at, bent = _one_finger(len(x), 0, rng), angles(x)
    bent[(*at, SPLAY)] += 20 * rng.choice([-1, 1], len(x))
    return _with_angles(x, at, bent)


def _one_hand(x: np.ndarray, rng: Generator) -> np.ndarray:
    """The first joint of one hand of every pose, (N, 1)."""
    return 15 * rng.integers(0, 2, (len(x), 1))


def _index_ring_swapped(x: np.ndarray, rng: Generator) -> np.ndarray:
    rows, hand = np.arange(len(x))[:, None], _one_hand(x, rng)
    index, ring = (hand + 3 * FINGERS.index(name) + np.arange(3) for name in ("index", "ring"))
    swapped = x.copy()
    swapped[rows, index], swapped[rows, ring] = x[rows, ring], x[rows, index]
    return swapped


def _foreign_thumb(x: np.ndarray, rng: Generator) -> np.ndarray:
    rows, thumb, other = np.arange(len(x))[:, None], _one_hand(x, rng) + THUMB, x.copy()
    other[rows, thumb] = x[_others(len(x), rng)[:, None], thumb]
    return other


def _midpoint(x: np.ndarray, rng: Generator) -> np.ndarray:
    a, b = _rotations(x), _rotations(x[_others(len(x), rng)])
    half = Rotation.from_rotvec((a.inv() * b).as_rotvec() / 2)
    return _vectors(a * half, x.shape)


MAKERS: dict[str, Make] = {
    "noise_0.1": _noise(0.1),
    "noise_0.2": _noise(0.2),
    "hands_swapped": _hands_swapped,
    "independent_joints": _independent_joints,
    "random_rotation": _random_rotation,
    "sign_flipped": _sign_flipped,
    "pip_hyperextended": _pip_hyperextended,
    "dip_decoupled": _dip_decoupled,
    "splayed": _splayed,
    "index_ring_swapped": _index_ring_swapped,
    "foreign_thumb": _foreign_thumb,
    "midpoint": _midpoint,
}
# Those that tell a good model from a Gaussian.
TELLING = ("index_ring_swapped", "foreign_thumb", "gaussian_samples", "midpoint")


def negatives(data: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Each negative of ``MAKERS`` made from poses, always the same for a seed.

    - ``noise_0.1``, ``noise_0.2``: every joint turned by N(0, σ²) radians in its tangent space.
    - ``hands_swapped``: left and right labels exchanged without mirroring.
    - ``independent_joints``: each joint from a pose of its own.
    - ``random_rotation``, ``sign_flipped``: one joint a uniformly random rotation, or its own inverse.
    - ``pip_hyperextended``: one finger's second joint bent backwards by 10 to 25°.
    - ``dip_decoupled``, ``splayed``: one finger's last joint bent, or its first splayed, 35° or 20° further.
    - ``index_ring_swapped``, ``foreign_thumb``: of one hand, two fingers exchanged or the thumb of another pose.
    - ``midpoint``: halfway to another pose, by the shortest way of every joint.

    Args:
        data: canonical poses (N, 30, 3).

    Raises:
        UserError: there are no two poses.
    """
    if len(data) < 2:
        raise UserError(f"{len(data)} test poses are too few to make negatives of: they take two")
    x = data.double().numpy()
    made = {
        name: make(x, np.random.default_rng([seed, number]))
        for number, (name, make) in enumerate(MAKERS.items())
    }
    return {name: torch.from_numpy(values).to(data.dtype) for name, values in made.items()}


def detection(data: np.ndarray, negative: np.ndarray) -> dict[str, float]:
    """How well an energy, above which poses are rejected, tells negatives from data.

    ``auroc`` is the chance that a negative has more energy than a pose of the data; ``aupr`` the average precision with
    the negatives as what is looked for; ``fpr95`` the fraction of negatives accepted where 95 % of the data are.

    Args:
        data, negative: energies (N,) and (M,).

    Raises:
        UserError: some energies are NaN.
    """
    broken = int(np.isnan(data).sum() + np.isnan(negative).sum())
    if broken:
        raise UserError(f"the energies of {broken} poses are NaN")
    # scikit-learn takes no infinite scores; only their order counts.
    largest = np.finfo(np.float64).max / 4
    score = np.concatenate([data, negative]).clip(-largest, largest)
    truth = np.repeat([0, 1], [len(data), len(negative)])
    return {
        "auroc": float(roc_auc_score(truth, score)),
        "aupr": float(average_precision_score(truth, score)),
        "fpr95": float((negative <= np.quantile(data, 0.95)).mean()),
    }


@dataclass(frozen=True)
class Energies:
    """What one energy gives the poses of a test, in nats.

    Attributes:
        data: of the data (N,).
        made: of every negative, (M,) each.
        typical: the mean of the training data; None where the distance to it is not asked for.
    """

    data: np.ndarray
    made: Mapping[str, np.ndarray]
    typical: float | None = None

    def aurocs(self, name: str, suffix: str = "") -> dict[str, float]:
        """``auroc`` of a negative, and ``auroc_typicality``, that of the distance to the typical energy.

        What has less energy than any data is no data either (Nalisnick et al. 2019, arXiv:1906.02994).
        """
        pair = self.data, self.made[name]
        found = {f"auroc{suffix}": detection(*pair)["auroc"]}
        if self.typical is not None:
            distances = (abs(energy - self.typical) for energy in pair)
            found[f"auroc_typicality{suffix}"] = detection(*distances)["auroc"]
        return found


def detections(
    energies: Energies, others: Mapping[str, Energies] | None = None
) -> dict[str, dict[str, float]]:
    """``detection`` and mean energy of every negative, beside ``Energies.aurocs`` of other energies of the same poses.

    Args:
        energies: of the model.
        others: by name.
    """
    found = {}
    for name, energy in energies.made.items():
        row = detection(energies.data, energy) | energies.aurocs(name)
        for other, theirs in (others or {}).items():
            row |= theirs.aurocs(name, f"_{other}")
        found[name] = row | {"mean_energy": float(energy.mean())}
    return found
