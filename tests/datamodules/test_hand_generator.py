"""Hand poses without any data."""

import numpy as np
import pytest

from src.datamodules import hand_anatomy as anatomy
from src.datamodules.hand_generator import FPS, STYLES, generate
from src.utils.errors import UserError


@pytest.fixture(scope="module")
def poses():
    return {style: generate(style, 1500, seed=3)[0] for style in STYLES}


def test_the_same_seed_gives_the_same_poses_and_another_one_others(poses):
    again, ids = generate("signing", 1500, seed=3)
    assert np.array_equal(again, poses["signing"]) and len(set(ids)) == 1500
    assert not np.allclose(generate("signing", 1500, seed=4)[0], again)


@pytest.mark.parametrize("style", STYLES)
def test_nearly_every_pose_is_one_that_a_hand_can_take(poses, style):
    assert poses[style].dtype == np.float32 and poses[style].shape == (1500, 30, 3)
    assert anatomy.within_limits(poses[style]).all(1).mean() > 0.99


def test_the_last_joint_of_a_finger_follows_the_middle_one(poses):
    bend = anatomy.angles(poses["talking"])[..., 2].reshape(-1, 15)
    middle, last = bend[:, anatomy.MIDDLES].ravel(), bend[:, anatomy.TIPS].ravel()
    slope, offset = np.polyfit(middle, last, 1)
    assert slope == pytest.approx(2 / 3, abs=0.03) and abs(offset) < 1
    assert np.std(last - slope * middle - offset) == pytest.approx(5, abs=0.6)


def test_a_bent_finger_is_not_spread(poses):
    angles = anatomy.angles(poses["grasping"])[:, 15]
    straight, bent = np.abs(angles[angles[:, 2] < 10, 1]), np.abs(angles[angles[:, 2] > 70, 1])
    assert np.median(bent) < 0.7 * np.median(straight)


def test_neighbouring_fingers_bend_together_more_than_distant_ones(poses):
    bend = anatomy.angles(np.concatenate([*poses.values()]))[:, 15:, 2]
    together = np.corrcoef(bend[:, [0, 3, 9, 6]].T)  # index, middle, ring, pinky
    assert together[1, 2] > together[0, 3] + 0.1


def test_both_hands_do_the_same_in_about_a_third_of_the_frames(poses):
    angles = anatomy.angles(poses["grasping"])[..., 2].reshape(-1, 2, 15)
    difference = np.abs(angles[:, 0, anatomy.BASES] - angles[:, 1, anatomy.BASES]).max(1)
    assert np.mean(difference < 12) == pytest.approx(0.35, abs=0.08)


def test_styles_differ(poses):
    means = [anatomy.angles(p)[..., 2].mean(0) for p in poses.values()]
    assert all(np.abs(a - b).max() > 4 for i, a in enumerate(means) for b in means[i + 1 :])


def test_a_sequence_moves_smoothly_from_pose_to_pose():
    poses, ids = generate("signing", 2000, seed=0, temporal=True)
    assert (np.diff(ids) >= 0).all() and len(poses) == 2000
    lengths = np.bincount(ids)
    assert (lengths[:-1] >= 2 * FPS).all() and (lengths <= 8 * FPS).all()
    bend = anatomy.angles(poses)[:, anatomy.BASES, 2]
    step = np.abs(np.diff(bend, axis=0)).max(1)
    within = np.diff(ids) == 0
    assert step[within].max() < 45  # of a hundred degrees in a third of a second at most
    assert np.median(step[within]) < 0.5 * np.median(step[~within])


def test_an_unknown_style_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="signing"):
        generate("sining", 10, seed=0)
