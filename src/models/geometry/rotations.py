"""Rotations of joints, SO(3): their maps, distances and volume, with gradients that are finite everywhere.

A rotation is a vector a (…, 3), axis times angle in radians, or a matrix R (…, 3, 3). What roma has good enough is
taken from it: of its maps the values and gradients are right from θ = 0 to π. Its distance, an arcsine, is not, near π,
and neither are the textbook's arccosines, near both ends. Everything here is elementwise, where autocast would take
products of matrices to fp16 or bf16, and what comes in reduced precision is computed in fp32.
"""

from math import pi

import roma
import torch
from torch import Tensor

from src.models.distributions import full_precision

# Below, a Taylor series is exact to fp64 where the closed form cancels.
SMALL_ANGLE, SMALL_SQUARE = 0.05, 1e-3
# Vectors shorter than this have no direction.
SHORTEST = 1e-6


def exp(a: Tensor) -> Tensor:
    """Rotation vectors (…, 3) of any length → matrices (…, 3, 3)."""
    return roma.rotvec_to_rotmat(full_precision(a))


def log(rotation: Tensor) -> Tensor:
    """Matrices (…, 3, 3) → canonical rotation vectors (…, 3), of an angle in [0, π].

    Through the unit quaternion by the largest of its four numbers: accurate at 0 and at π.
    """
    return roma.rotmat_to_rotvec(full_precision(rotation))


def between(start: Tensor, end: Tensor) -> Tensor:
    """startᵀ end (…, 3, 3): what turns one rotation into the other, seen from the first."""
    start, end = full_precision(start), full_precision(end)
    return (start[..., :, :, None] * end[..., :, None, :]).sum(-3)


def distance(first: Tensor, second: Tensor) -> Tensor:
    """The angle between rotations (…, 3, 3), (…) radians in [0, π], accurate from end to end.

    Its gradient at 0, where it has a kink, is 0; losses take ``squared_distance``, which has none.
    """
    return torch.linalg.vector_norm(log(between(first, second)), dim=-1)


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """The squared angle between rotations (…, 3, 3), (…) rad², with a gradient that is right at 0 and finite at π.

    From sin²(θ/2) = ‖R − S‖²/8, half the work of ``distance``. Near π that says little about θ: it is off by up to
    1e-3 rad there in fp32.
    """
    return squared_angle(half_sine_squared(first, second))


def half_sine_squared(first: Tensor, second: Tensor) -> Tensor:
    """sin²(θ/2) (…) of the angle between rotations (…, 3, 3)."""
    return (full_precision(first) - full_precision(second)).square().sum((-2, -1)) / 8


def squared_angle(s: Tensor) -> Tensor:
    """θ² of s = sin²(θ/2)."""
    return 4 * s * _over_sine(s).square()


def log_volume_of(s: Tensor) -> Tensor:
    """``log_volume`` as a function of s = sin²(θ/2), smooth at θ = 0."""
    return -2 * _over_sine(s).log()


def _over_sine(s: Tensor) -> Tensor:
    """asin(√s)/√s."""
    series = 1 + s * (1 / 6 + s * (3 / 40 + s * (15 / 336 + s * (105 / 3456))))
    # Rounding may leave s above 1, where an arcsine ends; its slope there is infinite.
    root = s.clamp(SMALL_SQUARE, 1 - torch.finfo(s.dtype).eps).sqrt()
    return torch.where(s < SMALL_SQUARE, series, root.asin() / root)


def log_volume(angle: Tensor) -> Tensor:
    """ln J(θ), J(θ) = 2(1 − cos θ)/θ²: the volume of rotations around exp(a), ‖a‖ = θ, over that of the vectors a.

    Haar's measure scaled to rad³, so that all rotations together have 8π².
    """
    square = angle.square()
    series = -square / 12 * (1 + square / 120 * (1 + square / 63))
    half = angle.clamp_min(SMALL_ANGLE) / 2
    return torch.where(angle < SMALL_ANGLE, series, 2 * (half.sin() / half).log())


def canonical_angle(a: Tensor) -> Tensor:
    """The angle in [0, π] of rotation vectors (…, 3) of any length, (…) radians."""
    return torch.linalg.vector_norm(canonical(a), dim=-1)


def canonical(a: Tensor) -> Tensor:
    """The same rotations (…, 3), each by its vector of an angle in [0, π]: wrapped along the axis, not per number."""
    a = full_precision(a)
    length = torch.linalg.vector_norm(a, dim=-1, keepdim=True)
    turns = (length / (2 * pi)).round().detach()
    return a * (1 - 2 * pi * turns / length.clamp_min(SHORTEST))


def from_6d(a: Tensor) -> Tensor:
    """Two vectors (…, 2, 3) → the rotation (…, 3, 3) of which they are, orthonormalised in turn, the first columns.

    Zhou et al. 2019, On the Continuity of Rotation Representations in Neural Networks, arXiv:1812.07035.
    """
    return roma.special_gramschmidt(full_precision(a).mT, epsilon=SHORTEST)


def to_6d(rotation: Tensor) -> Tensor:
    """The first two columns of rotations (…, 3, 3), as (…, 2, 3): the inverse of ``from_6d``."""
    return rotation[..., :2].mT
