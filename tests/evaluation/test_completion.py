"""Hidden and noisy joints: what is found is what the prior says, and better than the mean pose."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from src.datamodules.hand_anatomy import JOINTS
from src.datamodules.hand_generator import generate
from src.evaluation.completion import (
    baselines,
    complete,
    conditional_mean,
    hidden_joints,
    nearest_poses,
    with_noise,
)
from src.evaluation.completion_figures import completions
from src.evaluation.poses import PoseGaussian, joint_errors
from src.models.networks.background import teach
from src.utils.build import build
from src.utils.errors import UserError


class Drawn:
    """As much of a datamodule as a density learns from."""

    def __init__(self, x):
        self.x = x

    def floats(self, split, limit=None):
        return self.x


@pytest.fixture(scope="module")
def train():
    return torch.from_numpy(generate("grasping", 1500, 0)[0])


@pytest.fixture(scope="module")
def truth():
    return torch.from_numpy(generate("grasping", 6, 1)[0])


@pytest.fixture(scope="module")
def model(compose_config, train):
    found = build(compose_config("model=gaussian_pose").model).eval()
    teach(found, Drawn(train), "fit")
    return found


def test_a_gaussian_completes_to_its_conditional_mean(model, train, truth):
    hidden = hidden_joints("random30", len(truth))
    spoilt = torch.where(hidden[..., None], torch.full_like(truth, torch.nan), truth)
    found = complete(model, spoilt, ~hidden, sigma=0.05, restarts=2)
    expected = conditional_mean(PoseGaussian.fit(train), truth, ~hidden, 0.05)
    assert joint_errors(found.poses, expected).mean() < 0.5
    torch.testing.assert_close(found.energies, model.energy(found.poses), atol=1e-3, rtol=1e-5)
    averages = baselines(train, truth, ~hidden, 0.05)
    errors = {k: joint_errors(v, truth)[hidden].mean() for k, v in averages.items()}
    assert joint_errors(found.poses, truth)[hidden].mean() < 0.8 * errors["mean pose"]
    assert errors["Gaussian"] < errors["mean pose"]


def test_noise_is_taken_away(model, truth):
    noisy = with_noise(truth, 0.1)
    degrees = joint_errors(noisy, truth)
    assert float(degrees.mean()) == pytest.approx(0.1 * 1.596 * 57.3, rel=0.1)  # E|N(0, I₃)|
    found = complete(model, noisy, torch.ones(30, dtype=torch.bool), 0.1, restarts=1)
    assert joint_errors(found.poses, truth).mean() < 0.7 * degrees.mean()
    assert (found.energies < model.energy(noisy)).all()


def test_more_restarts_are_never_worse(model, truth):
    hidden = hidden_joints("index", len(truth))
    few, many = (complete(model, truth, ~hidden, steps=15, restarts=r) for r in (1, 3))
    assert (many.objective <= few.objective + 1e-3).all()


def test_the_conditional_mean_is_the_textbooks():
    x = torch.randn(400, 1, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    wide = torch.cat([x, x.flip(0) + x], 1)
    gaussian, known = PoseGaussian.fit(wide), torch.tensor([[True, False]])
    covariance = (gaussian.axes * gaussian.variances) @ gaussian.axes.T
    a, b = covariance[3:, :3], covariance[:3, :3] + 0.04 * torch.eye(3)
    expected = gaussian.mean[3:] + a @ b.inverse() @ (wide[0, 0] - gaussian.mean[:3])
    found = conditional_mean(gaussian, wide[:1], known, 0.2)
    torch.testing.assert_close(found[0, 1], expected)
    unknown = conditional_mean(gaussian, wide[:1], torch.tensor([[False, False]]), 0.2)
    torch.testing.assert_close(unknown.flatten(), gaussian.mean)
    assert MultivariateNormal(gaussian.mean, covariance).log_prob(unknown.flatten()).isfinite()


def test_the_nearest_pose_is_nearest_in_what_is_known(train):
    x = train[[5, 90]].clone()
    known = torch.ones(2, 30, dtype=torch.bool)
    known[:, 4:] = False
    x[:, 4:] = 1.0
    torch.testing.assert_close(nearest_poses(train, x, known)[:, :4], train[[5, 90], :4])


def test_named_gaps_hide_what_they_say():
    thumb = hidden_joints("thumb", 2)[0].nonzero().flatten().tolist()
    assert [JOINTS[i % 15] for i in thumb] == ["thumb1", "thumb2", "thumb3"] * 2
    assert hidden_joints("fingertips", 1).sum() == 10 and hidden_joints("none", 3).sum() == 0
    assert hidden_joints("left", 1)[0, :15].all() and hidden_joints("left", 1).sum() == 15
    random = hidden_joints("random60", 50)
    assert (random.sum(1) == 18).all() and (random[0] != random[1]).any()
    with pytest.raises(UserError, match="hidden='thum' is unknown; nearest: 'thumb'"):
        hidden_joints("thum", 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"known": torch.ones(29, dtype=torch.bool)}, "known must be bool of shape"),
        ({"known": torch.ones(30)}, "known must be bool"),
        ({"x": torch.zeros(2, 90)}, r"a model of joints \[J, 3\]"),
        ({"x": torch.full((2, 30, 3), torch.nan)}, "a known joint of a pose to complete is NaN"),
        ({"sigma": 0.0}, "sigma=0.0 must be positive"),
    ],
)
def test_what_cannot_be_completed_is_told(model, change, reason):
    given = {"x": torch.zeros(2, 30, 3), "known": torch.ones(30, dtype=torch.bool)} | change
    with pytest.raises(UserError, match=reason):
        complete(model, **given)


def test_a_figure_shows_every_method(truth):
    hidden = hidden_joints("thumb", 2)
    figure = completions(truth[:2], truth[:2], hidden, {"a": truth[:2], "b": truth[2:4]}, "thumb")
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["truth", "what is known", "a", "b"]
