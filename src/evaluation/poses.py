"""What a reconstruction of hand poses is worth, and the baselines that take no training.

Poses are (N, 30, 3) rotation vectors in radians, joints 0 to 14 of the left hand; everything is computed in float64.
"""

import math
from dataclasses import dataclass

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from src.datamodules.hand_anatomy import FINGERS, JOINTS, SIDES, canonical
from src.models.geometry import rotations
from src.models.networks.standardise import SMALLEST, moments

# Poses at a time: their rotation matrices take 2 kB each.
BLOCK = 8192


def joint_errors(a: Tensor, b: Tensor) -> Tensor:
    """The angle between the rotations of every joint of poses a and b (N, 30, 3), in degrees, (N, 30)."""
    pairs = zip(a.split(BLOCK), b.split(BLOCK), strict=True)
    found = [
        rotations.distance(rotations.exp(x.double()), rotations.exp(y.double())) for x, y in pairs
    ]
    return torch.cat(found).rad2deg()


def error_values(errors: Tensor) -> dict[str, float]:
    """The mean per-joint rotation error of poses from ``joint_errors`` (N, 30), in degrees.

    A pose's error is the mean geodesic angle of its joints, not of their axis-angle components, as some papers have it;
    mean, median and 95th percentile are over poses, and the rest are means over one hand, or over one finger of both.
    """
    poses = errors.mean(1)
    by_hand = errors.view(-1, len(SIDES), len(FINGERS), 3).mean((0, 3))
    found = {
        "mpjre": poses.mean(),
        "mpjre_median": poses.median(),
        "mpjre_p95": poses.quantile(0.95),
    }
    found |= {f"mpjre_{side}": by_hand[i].mean() for i, side in enumerate(SIDES)}
    found |= {f"mpjre_{finger}": by_hand[:, i].mean() for i, finger in enumerate(FINGERS)}
    return {name: float(value) for name, value in found.items()}


def joint_table(errors: Tensor) -> dict[str, dict[str, float]]:
    """Joint → hand → mean error in degrees, from ``joint_errors``."""
    means = errors.mean(0).view(len(SIDES), len(JOINTS)).tolist()
    return {
        joint: {side: means[s][j] for s, side in enumerate(SIDES)} for j, joint in enumerate(JOINTS)
    }


def reconstruction_values(x: Tensor, y: Tensor) -> dict[str, float]:
    """Errors of reconstructions y of poses x: rad² of the numbers, degrees of the rotations."""
    mse = (x.double() - y.double()).square().mean()
    return {"mse": float(mse), **error_values(joint_errors(x, y))}


def mean_pose(poses: Tensor) -> Tensor:
    """The rotation of every joint with the smallest mean squared chordal distance to the poses', (30, 3) radians.

    It is the projection of the mean matrix onto the rotations (Moakher 2002, https://doi.org/10.1137/S0895479801383877).
    """
    mean = sum(rotations.exp(part.double()).sum(0) for part in poses.split(BLOCK)) / len(poses)
    u, _, v = torch.linalg.svd(mean)
    sign = torch.linalg.det(u @ v)[:, None, None]
    flipped = torch.cat([u[..., :2], u[..., 2:] * sign], -1)
    return rotations.log(flipped @ v)


def linear_reconstructions(model: PCA, poses: Tensor) -> Tensor:
    """Poses through a linear code of their axis-angle numbers, (N, 30, 3)."""
    rows = poses.flatten(1).double().numpy()
    decoded = model.inverse_transform(model.transform(rows))
    return torch.from_numpy(decoded).view(poses.shape)


@dataclass(frozen=True)
class PoseGaussian:
    """A Gaussian of the 90 numbers of a pose, in closed form.

    Attributes:
        mean: (90,) radians.
        axes: (90, 90), orthonormal columns.
        variances: (90,) along them, rad².
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor

    @classmethod
    def fit(cls, poses: Tensor, diagonal: bool = False) -> "PoseGaussian":
        """The maximum-likelihood Gaussian of poses (N, 30, 3), with a diagonal or the full covariance."""
        mean, covariance = moments(poses.flatten(1))
        if diagonal:
            axes, variances = torch.eye(len(mean), dtype=mean.dtype), covariance.diagonal()
        else:
            variances, axes = torch.linalg.eigh(covariance)
        return cls(mean, axes, variances.clamp_min(SMALLEST**2))

    def nll(self, poses: Tensor) -> Tensor:
        """−log density of poses (N, 30, 3) w.r.t. their rotation vectors in radians, (N,) nats."""
        along = (poses.flatten(1).double() - self.mean) @ self.axes
        constant = len(self.mean) * math.log(2 * math.pi) + self.variances.log().sum()
        return 0.5 * ((along.square() / self.variances).sum(1) + constant)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n canonical poses, (n, 30, 3) float32, always the same for a seed."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, len(self.mean), generator=generator, dtype=self.mean.dtype)
        rows = self.mean + (noise * self.variances.sqrt()) @ self.axes.T
        return torch.from_numpy(canonical(rows.view(n, -1, 3).numpy())).float()
