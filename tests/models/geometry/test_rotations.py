"""Rotations: their maps against scipy's and each other, and gradients that are finite from 0 to π."""

from math import pi

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from src.models.geometry import rotations

ANGLES = (0.0, 1e-8, 1e-4, 0.049, 0.051, 0.063, 1.0, 3.0, pi - 1e-4, pi)
DTYPES = (torch.float32, torch.float64)
EXACT = {torch.float32: 2e-6, torch.float64: 4e-15}


def vectors(angle: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """40 rotation vectors of one angle, the first of them along the axes."""
    axes = torch.cat([torch.eye(3), -torch.eye(3), torch.randn(34, 3)]).double()
    return (angle * axes / axes.norm(dim=1, keepdim=True)).to(dtype)


def matrices(n: int = 40) -> Tensor:
    return torch.from_numpy(Rotation.random(n, random_state=1).as_matrix())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES)
def test_maps_are_scipy_s_and_undo_each_other(angle, dtype):
    a = vectors(angle, dtype)
    rotation = rotations.exp(a)
    expected = Rotation.from_rotvec(a.double().numpy()).as_matrix()
    # For the smallest angles roma's is 1 + K, off by θ²/2 where that is less than rounding.
    torch.testing.assert_close(
        rotation.double(), torch.from_numpy(expected), atol=EXACT[dtype], rtol=0
    )
    back = rotations.log(rotation)
    at_the_cut = angle > pi - 1e-3  # half a turn either way
    error = torch.minimum((back - a).norm(dim=1), (back + a).norm(dim=1) + (0 if at_the_cut else 9))
    assert error.max() <= EXACT[dtype] * max(angle, 1e-6)
    assert back.norm(dim=1).max() <= pi + 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES)
def test_gradients_are_finite_from_0_to_pi(angle, dtype):
    a = vectors(angle, dtype).requires_grad_()
    flat = torch.eye(3, dtype=dtype)
    found = {
        "exp": rotations.exp(a) * torch.randn(40, 3, 3, dtype=dtype),
        "log": rotations.log(rotations.exp(a)) * torch.randn(40, 3, dtype=dtype),
        "distance": rotations.distance(rotations.exp(a), flat),
        "squared_distance": rotations.squared_distance(rotations.exp(a), flat),
        "log_volume": rotations.log_volume(rotations.canonical_angle(a)),
        "log_volume_of": rotations.log_volume_of(
            rotations.half_sine_squared(rotations.exp(a), flat)
        ),
        "6d": rotations.from_6d(rotations.to_6d(rotations.exp(a))) * torch.randn(3, 3, dtype=dtype),
        "canonical": rotations.canonical(a) * torch.randn(3, dtype=dtype),
    }
    gradients = {
        name: torch.autograd.grad(value.sum(), a, retain_graph=True)[0]
        for name, value in found.items()
    }
    for name, gradient in gradients.items():
        assert gradient.isfinite().all() and gradient.abs().max() < 20, name
    if angle <= 3:  # along the axis, with the angle; the distance has a kink at 0
        torch.testing.assert_close(
            gradients["squared_distance"], 2 * a.detach(), atol=500 * EXACT[dtype], rtol=0
        )
        direction = a.detach() / max(angle, 1e-30)
        torch.testing.assert_close(gradients["distance"], direction, atol=2e-5, rtol=0)


def test_gradients_are_those_of_the_values():
    a = vectors(1.3)[:6].requires_grad_()
    other = matrices(6)

    def everything(a: Tensor) -> Tensor:
        rotation = rotations.exp(a)
        return torch.stack(
            [
                rotations.log(rotations.between(other, rotation)).sum(-1),
                rotations.distance(rotation, other),
                rotations.squared_distance(rotation, other),
                rotations.log_volume(rotations.canonical_angle(3 * a)),
                rotations.from_6d(rotations.to_6d(rotation) + a[:, None])[:, 0, 2],
            ]
        )

    assert torch.autograd.gradcheck(everything, a)


@pytest.mark.parametrize("dtype", DTYPES)
def test_distances_are_scipy_s_and_the_same_from_both_sides(dtype):
    first, second = Rotation.random(500, random_state=1), Rotation.random(500, random_state=2)
    angles = [0.0, 1e-6, 1e-3, pi - 1e-3, pi]
    turned = first * Rotation.from_rotvec(vectors(1.0)[0] * torch.tensor(angles * 100)[:, None])
    for other in (second, turned):
        r, s = (torch.from_numpy(each.as_matrix()).to(dtype) for each in (first, other))
        expected = torch.from_numpy((first.inv() * other).magnitude()).to(dtype)
        found = rotations.distance(r, s)
        tolerance = 3 * EXACT[dtype]
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
        torch.testing.assert_close(found, rotations.distance(s, r), atol=tolerance, rtol=0)
        # The one for losses says less of half a turn.
        squared = rotations.squared_distance(r, s)
        torch.testing.assert_close(squared, expected**2, atol=0.01, rtol=0)
        near = expected < 2.5
        torch.testing.assert_close(
            squared[near].sqrt(), expected[near], atol=5 * tolerance, rtol=5 * tolerance
        )


def test_the_6d_representation_is_the_first_two_columns():
    rotation = matrices()
    six = rotations.to_6d(rotation)
    assert torch.equal(six[:, 0], rotation[:, :, 0]) and torch.equal(six[:, 1], rotation[:, :, 1])
    torch.testing.assert_close(rotations.from_6d(six), rotation)
    # Any length of both, and any share of the first in the second.
    loose = torch.stack([3 * six[:, 0], 0.2 * six[:, 1] - 0.7 * six[:, 0]], 1)
    torch.testing.assert_close(rotations.from_6d(loose), rotation)
    found = rotations.from_6d(torch.randn(100, 2, 3, dtype=torch.float64))
    torch.testing.assert_close(found.mT @ found, torch.eye(3).double().expand(100, 3, 3))
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(100).double())
    for degenerate in (torch.zeros(2, 3), torch.ones(2, 3)):
        assert rotations.from_6d(degenerate).isfinite().all()


@pytest.mark.parametrize("angle", [1e-3, 0.02, 0.0499, 0.0501, 1.0])
def test_the_series_of_the_volume_meets_the_closed_form_to_the_last_digit(angle):
    half = np.longdouble(angle) / 2
    expected = float(2 * np.log(np.sin(half) / half))
    found = float(rotations.log_volume(torch.tensor(angle, dtype=torch.float64)))
    assert found == pytest.approx(expected, abs=2e-16, rel=1e-13)


@pytest.mark.parametrize("angle", [1e-3, 0.049, 0.051, 0.5, 2.0, 3.1])
def test_the_volume_is_the_determinant_of_the_exponential_map(angle):
    a = vectors(angle)[7]
    here = rotations.exp(a)
    jacobian = torch.autograd.functional.jacobian(
        lambda moved: rotations.log(rotations.between(here, rotations.exp(moved))), a
    )
    expected = torch.linalg.det(jacobian).log()
    angle_of_a = rotations.canonical_angle(a)
    torch.testing.assert_close(rotations.log_volume(angle_of_a), expected, atol=1e-12, rtol=1e-9)
    s = rotations.half_sine_squared(here, torch.eye(3).double())
    torch.testing.assert_close(rotations.log_volume_of(s), expected, atol=1e-12, rtol=1e-9)


def test_all_rotations_together_have_the_volume_of_8_pi_squared():
    radius = torch.linspace(0, pi, 2001, dtype=torch.float64)
    shells = 4 * pi * radius**2 * rotations.log_volume(radius).exp()
    assert float(torch.trapezoid(shells, radius)) == pytest.approx(8 * pi**2, rel=1e-6)


@pytest.mark.parametrize("turns", [-2, -1, 1, 3])
def test_canonical_vectors_are_wrapped_along_the_axis(turns):
    a = vectors(2.9)
    longer = a * (1 + 2 * pi * turns / 2.9)
    torch.testing.assert_close(rotations.canonical(longer), a)
    torch.testing.assert_close(rotations.exp(longer), rotations.exp(a))
    torch.testing.assert_close(rotations.canonical_angle(longer), torch.full((40,), 2.9).double())
    for angle in ANGLES:  # what is canonical stays as it is, to the bit
        kept = vectors(angle, torch.float32)
        kept = kept[kept.norm(dim=1) <= pi]
        assert torch.equal(rotations.canonical(kept), kept)


def test_a_mirror_shows_mirrored_rotations():
    # (x, y, z) → (x, −y, −z), which is what the left hand's vectors are to the right hand's.
    a, b = vectors(1.1), vectors(2.2).flip(0)
    sign, plane = torch.tensor([1.0, -1.0, -1.0]).double(), torch.tensor([-1.0, 1.0, 1.0]).double()
    shown = plane[:, None] * rotations.exp(a) * plane
    torch.testing.assert_close(rotations.exp(sign * a), shown)
    torch.testing.assert_close(
        rotations.distance(rotations.exp(sign * a), rotations.exp(sign * b)),
        rotations.distance(rotations.exp(a), rotations.exp(b)),
    )


def test_autocast_does_not_reach_rotations():
    a, b = vectors(1.1, torch.float32), vectors(2.5, torch.float32)

    def everything() -> list[Tensor]:
        r, s = rotations.exp(a), rotations.exp(b)
        six = rotations.from_6d(rotations.to_6d(r) + 0.1)
        squared, volume = rotations.squared_distance(r, s), rotations.log_volume(a.norm(dim=1))
        return [r, rotations.log(r), rotations.distance(r, s), squared, volume, six]

    plain = everything()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = everything()
    for one, other in zip(plain, mixed, strict=True):
        assert one.dtype == other.dtype == torch.float32 and torch.equal(one, other)
    assert rotations.exp(a.bfloat16()).dtype == torch.float32


def test_rotations_compile_into_one_graph():
    def work(a: Tensor, b: Tensor) -> Tensor:
        r, s = rotations.exp(a), rotations.from_6d(b)
        found = rotations.squared_distance(r, s) + rotations.distance(r, s)
        return found + rotations.log_volume(rotations.canonical_angle(a))

    a, b = torch.randn(5, 3), torch.randn(5, 2, 3)
    compiled = torch.compile(work, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(a, b), work(a, b))
