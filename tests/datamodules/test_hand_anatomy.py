"""What the rotation vectors of a hand mean, and what a hand can do."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from src.datamodules import hand_anatomy as anatomy


def random_angles(count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-80, 80, (count, 30, 3))


def test_poses_and_angles_are_each_others_inverse():
    angles = random_angles()
    assert np.allclose(anatomy.angles(anatomy.poses(angles)), angles, atol=1e-9)


def test_a_finger_bends_about_plus_z_in_the_right_hand_and_minus_z_in_the_left():
    angles = np.zeros((1, 30, 3))
    angles[0, [0, 15], 2] = 90
    poses = anatomy.poses(angles)[0]
    assert np.allclose(poses[15], [0, 0, np.pi / 2])
    assert np.allclose(poses[0], [0, 0, -np.pi / 2])


def test_a_rotation_is_twist_then_splay_then_bend():
    angles = np.zeros((1, 30, 3))
    angles[0, 16] = 10, 20, 30
    expected = np.eye(3)
    for axis, degrees in zip("xyz", (10, 20, 30), strict=True):
        expected = expected @ Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    found = Rotation.from_rotvec(anatomy.poses(angles)[0, 16]).as_matrix()
    assert np.allclose(found, expected)


def test_a_canonical_pose_is_the_same_rotation_with_an_angle_of_at_most_pi():
    poses = np.random.default_rng(0).normal(0, 3, (500, 30, 3))
    found = anatomy.canonical(poses)
    assert np.linalg.norm(found, axis=-1).max() <= np.pi + 1e-12
    same = Rotation.from_rotvec(poses.reshape(-1, 3)).inv() * Rotation.from_rotvec(
        found.reshape(-1, 3)
    )
    assert same.magnitude().max() < 1e-6


@pytest.mark.parametrize("angle", [0.0, 1e-9, np.pi - 1e-6, np.pi])
def test_angles_up_to_pi_stay_what_they_are(angle):
    pose = np.tile([angle, 0, 0], (30, 1))
    assert np.array_equal(anatomy.canonical(pose), pose)


def test_a_mirror_exchanges_the_hands_and_a_second_one_puts_them_back():
    poses = anatomy.poses(random_angles())
    assert np.allclose(anatomy.mirrored(anatomy.mirrored(poses)), poses)
    angles = anatomy.angles(poses)
    assert np.allclose(anatomy.angles(anatomy.mirrored(poses))[:, :15], angles[:, 15:])
    points = anatomy.positions(anatomy.mirrored(poses))
    assert np.allclose(points[:, 0] * [-1, 1, 1], anatomy.positions(poses)[:, 1])


def test_a_flat_hand_points_its_fingers_away_from_the_wrist_and_bending_brings_them_to_the_palm():
    flat = anatomy.positions(np.zeros((1, 30, 3)))[0]
    right = flat[1]
    tips = right[4::4]
    assert (np.linalg.norm(tips[:4], axis=1) > 0.14).all()
    angles = np.zeros((1, 30, 3))
    angles[0, 15:27, 2] = 80
    bent = anatomy.positions(anatomy.poses(angles))[0, 1, 4::4][:4]
    assert (bent[:, 1] < right[4::4][:4, 1] - 0.02).all()  # the palm looks down
    assert (np.linalg.norm(bent, axis=1) < np.linalg.norm(tips[:4], axis=1) - 0.05).all()


def test_bones_keep_their_lengths_whatever_the_pose():
    points = anatomy.positions(anatomy.poses(random_angles(20)))
    start, end = np.array(anatomy.BONES).T
    lengths = np.linalg.norm(points[:, :, end] - points[:, :, start], axis=-1)
    assert np.allclose(lengths, lengths[:1, :1])


def test_the_thumb_bends_across_the_palm():
    angles = np.zeros((1, 30, 3))
    angles[0, 27:, 2] = 40
    still = anatomy.positions(np.zeros((1, 30, 3)))[0, 1, 20]
    bent = anatomy.positions(anatomy.poses(angles))[0, 1, 20]
    assert bent[2] < still[2] - 0.02 and bent[1] < still[1] - 0.01


@pytest.mark.parametrize(
    ("joint", "angles"),
    [
        (16, (0, 0, 125)),  # middle joint bent too far
        (16, (0, 0, -25)),
        (15, (0, 30, 0)),  # spread too far
        (15, (0, 15, 85)),  # spread although bent
        (15, (20, 0, 0)),  # twisted
        (17, (0, 0, 60)),  # the last joint bent without the middle one
        (27, (60, 0, 0)),  # thumb
        (28, (0, 0, 70)),
    ],
)
def test_what_a_hand_cannot_do_is_outside_its_limits_at_that_joint(joint, angles):
    flat = np.zeros((2, 30, 3))
    flat[1, joint] = angles
    within = anatomy.within_limits(anatomy.poses(flat))
    assert within[0].all()
    assert not within[1, joint]
    mirrored = anatomy.within_limits(anatomy.mirrored(anatomy.poses(flat)))
    assert not mirrored[1, joint - 15]


def test_a_fist_is_within_the_limits():
    fist = np.zeros((1, 2, 15, 3))
    fist[..., anatomy.BASES, 2], fist[..., anatomy.MIDDLES, 2] = 85, 100
    fist[..., anatomy.TIPS, 2] = 65
    assert anatomy.within_limits(anatomy.poses(fist.reshape(1, 30, 3))).all()
