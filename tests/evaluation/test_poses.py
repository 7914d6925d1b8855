"""Errors, densities, samples and negatives of hand poses."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.distributions import MultivariateNormal

from src.datamodules.hand_anatomy import THUMB, angles
from src.datamodules.hand_generator import generate
from src.evaluation.metrics import fit_pca
from src.evaluation.pose_negatives import Energies, detection, detections, negatives
from src.evaluation.pose_samples import diversity, in_limits, nearest, sample_values
from src.evaluation.poses import (
    PoseGaussian,
    error_values,
    joint_errors,
    joint_table,
    linear_reconstructions,
    mean_pose,
)
from src.utils.errors import UserError

POSES = torch.from_numpy(generate("signing", 900, 0)[0]).float()
TRAIN, TEST = POSES[:700], POSES[700:]


def turned(poses: torch.Tensor, vector: list[float]) -> torch.Tensor:
    """Every joint turned by one more rotation vector."""
    extra = Rotation.from_rotvec(vector)
    both = Rotation.from_rotvec(poses.reshape(-1, 3).numpy()) * extra
    return torch.from_numpy(both.as_rotvec()).float().view(poses.shape)


def test_errors_are_the_angles_between_rotations():
    a, b = (torch.randn(5, 30, 3, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    turns = [Rotation.from_rotvec(x.reshape(-1, 3).double().numpy()) for x in (a, b)]
    angle = np.rad2deg((turns[0].inv() * turns[1]).magnitude()).reshape(5, 30)
    np.testing.assert_allclose(joint_errors(a, b).numpy(), angle, atol=1e-6)
    assert joint_errors(a, a).max() < 1e-3
    # A vector and the same one a whole turn longer are one rotation.
    longer = a * (1 + 2 * torch.pi / a.norm(dim=-1, keepdim=True))
    assert joint_errors(a, longer).max() < 1e-3


def test_an_error_is_found_where_it_is():
    changed = TEST.clone()
    changed[:, 15 + THUMB] = turned(TEST[:, 15 + THUMB], [0, 0, np.deg2rad(20)])
    changed[0] = turned(TEST[0], [np.deg2rad(90), 0, 0])
    errors = joint_errors(TEST, changed)
    few = error_values(errors[1:])
    assert few["mpjre_right"] == pytest.approx(4, abs=1e-3)  # three joints of fifteen
    assert few["mpjre_thumb"] == pytest.approx(10, abs=1e-3)  # of one hand of two
    assert few["mpjre"] == pytest.approx(2, abs=1e-3) and few["mpjre_left"] < 1e-3
    assert joint_table(errors[1:])["thumb2"] == pytest.approx({"left": 0, "right": 20}, abs=1e-3)
    whole = error_values(errors)
    assert whole["mpjre_median"] == pytest.approx(2, abs=1e-3)  # one bad pose moves the mean alone
    assert whole["mpjre"] == pytest.approx(2 + 88 / len(TEST), abs=1e-3)


def test_the_mean_pose_is_a_mean_of_rotations():
    one = TEST[:1]
    around = torch.cat([turned(one, [s * 0.5, 0, 0]) for s in (-1, 1)])
    assert joint_errors(mean_pose(around)[None].float(), one).max() < 1e-3
    # Two vectors on both sides of π: their arithmetic mean is no rotation at all, this one is half a turn.
    halves = torch.zeros(2, 30, 3)
    halves[0, :, 2], halves[1, :, 2] = torch.pi - 0.1, -torch.pi + 0.1
    torch.testing.assert_close(
        mean_pose(halves).norm(dim=-1), torch.full((30,), torch.pi).double(), atol=1e-5, rtol=0
    )


def test_the_gaussians_are_densities_and_the_full_one_knows_more():
    full, diagonal = PoseGaussian.fit(TRAIN), PoseGaussian.fit(TRAIN, diagonal=True)
    rows = TRAIN.flatten(1).double()
    expected = MultivariateNormal(rows.mean(0), torch.cov(rows.T, correction=0))
    torch.testing.assert_close(full.nll(TEST), -expected.log_prob(TEST.flatten(1).double()))
    assert full.nll(TEST).mean() < diagonal.nll(TEST).mean() - 10
    drawn = full.sample(20_000).flatten(1).double()
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(rows.T), atol=0.02, rtol=0)
    still = torch.cat([TRAIN[:, :29], torch.zeros(len(TRAIN), 1, 3)], 1)
    assert PoseGaussian.fit(still).nll(still).isfinite().all()


def test_samples_are_told_from_data():
    assert in_limits(TEST) > 0.9 > in_limits(negatives(TEST)["independent_joints"])
    alike = diversity(TEST[:1].expand(50, 30, 3))
    assert alike["apd"] < 1e-3 and alike["tip_apd"] < 1e-6
    assert nearest(TRAIN[:20], TRAIN).max() < 1e-3
    near = turned(TRAIN[:20], [0, np.deg2rad(1), 0])
    torch.testing.assert_close(nearest(near, TRAIN), torch.ones(20).double(), atol=1e-3, rtol=0)
    data, collapsed = (
        sample_values(TRAIN[:200], TEST),
        sample_values(TEST[:20].repeat(10, 1, 1), TEST),
    )
    assert collapsed["sample_recall"] < data["sample_recall"]
    assert collapsed["sample_precision"] == 1


@pytest.mark.parametrize(
    ("name", "count"),
    [("random_rotation", 1), ("sign_flipped", 1), ("pip_hyperextended", 1), ("dip_decoupled", 1)]
    + [("splayed", 1), ("index_ring_swapped", 6), ("foreign_thumb", 3)],
)
def test_negatives_differ_from_data_where_they_should_and_nowhere_else(name, count):
    made = negatives(TEST)[name]
    moved = (made != TEST).any(-1)
    assert (moved.sum(1) == count).all()
    joints = moved.view(-1, 2, 5, 3)
    if name == "foreign_thumb":
        assert joints[:, :, 4].all(-1).any(1).all() and not joints[:, :, :4].any()
    if name == "index_ring_swapped":
        assert not joints[:, :, [1, 2, 4]].any()
        torch.testing.assert_close(made.sum(1), TEST.sum(1))
    if name == "pip_hyperextended":
        bend = angles(made.numpy())[..., 2][moved.numpy()]
        assert joints[..., :4, 1].flatten(1).any(1).all()
        assert bend.min() > -25.01 and bend.max() < -9.99
    changes = {"dip_decoupled": (2, 35), "splayed": (1, 20)}
    if name in changes:
        axis, degrees = changes[name]
        change = angles(made.numpy())[moved.numpy()] - angles(TEST.numpy())[moved.numpy()]
        np.testing.assert_allclose(abs(change[:, axis]), degrees, atol=0.01)


def test_whole_poses_become_negatives_too():
    made = negatives(TEST)
    torch.testing.assert_close(made["hands_swapped"][:, :15], TEST[:, 15:])
    noise = torch.deg2rad(joint_errors(TEST, made["noise_0.1"]))
    assert noise.square().mean() == pytest.approx(3 * 0.1**2, rel=0.05)
    one = made["independent_joints"].sort(0).values
    torch.testing.assert_close(
        one, TEST.sort(0).values
    )  # every joint has its own distribution still
    few = TEST[:20]
    middle = negatives(few)["midpoint"]
    own, *others = (joint_errors(middle, few.roll(i, 0)).mean(1) for i in range(20))
    assert torch.stack(others).sub(own).abs().min(0).values.max() < 1e-3  # as far from another one
    again = negatives(TEST)
    assert all(torch.equal(made[name], again[name]) for name in made)
    with pytest.raises(UserError, match="too few"):
        negatives(TEST[:1])


def test_detection_knows_a_perfect_and_a_blind_energy():
    low, high = np.linspace(0, 1, 500), np.linspace(2, 3, 300)
    assert detection(low, high) == {"auroc": 1, "aupr": 1, "fpr95": 0}
    worst = detection(high, low)
    assert worst["auroc"] == 0 and worst["fpr95"] == 1
    rng = np.random.default_rng(0)
    blind = detection(rng.normal(size=20_000), rng.normal(size=20_000))
    assert blind == pytest.approx({"auroc": 0.5, "aupr": 0.5, "fpr95": 0.95}, abs=0.015)
    # What lies below all data is no data either, which only the distance to the typical energy tells.
    low_ones = Energies(rng.normal(size=500), {"midpoint": rng.normal(-9, 1, 500)}, 0.0)
    row = detections(low_ones, {"other": low_ones})["midpoint"]
    assert row["auroc"] < 0.01 and row["auroc_typicality"] > 0.99
    assert row["auroc_other"] == row["auroc"]
    assert row["auroc_typicality_other"] == row["auroc_typicality"]
    assert detection(low, np.full(3, np.inf))["auroc"] == 1
    with pytest.raises(UserError, match="1 poses are NaN"):
        detection(low, np.array([np.nan, 1]))


def test_a_gaussian_sees_wild_poses_and_not_the_middle_of_two():
    gaussian = PoseGaussian.fit(TRAIN)
    data = gaussian.nll(TEST).numpy()
    auroc = {
        name: detection(data, gaussian.nll(x).numpy())["auroc"]
        for name, x in negatives(TEST).items()
    }
    assert min(auroc["noise_0.2"], auroc["hands_swapped"], auroc["independent_joints"]) > 0.99
    assert auroc["midpoint"] < 0.1 < auroc["foreign_thumb"] < 0.75


def test_a_linear_code_of_all_numbers_loses_nothing():
    losses = [
        joint_errors(TEST, linear_reconstructions(fit_pca(TRAIN, k), TEST)).mean() for k in (6, 90)
    ]
    assert losses[0] > 1 and losses[1] < 0.1  # 89 of 90
