"""The densities of poses: one measure, normalised, finite from no rotation to half a turn."""

from math import log, pi

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from src.models.geometry import rotations
from src.models.likelihoods import RotationLikelihood, StandardisedGaussian
from src.models.likelihoods.rotations import ConcentratedRotations
from src.models.networks.background import teach
from tests.models.poses import SHAPE, Poses, longer_way, poses


def made(name: str, joints: int = 30) -> RotationLikelihood | StandardisedGaussian:
    """A likelihood in fp64 that has learned from ``Poses``; with correlations that are not 0 where it has any."""
    scale, _, correlated = name.partition(" ")
    settings = {"parameters": parameters_of(name), "correlated": bool(correlated)}
    likelihood = (
        StandardisedGaussian((joints, 3), **settings)
        if scale == "standardised"
        else RotationLikelihood((joints, 3), scale=scale, **settings)
    )
    if correlated:
        torch.nn.init.normal_(likelihood.correlation.weight, std=0.1)
    data = Poses()
    data.x = data.x[:, :joints]
    teach(likelihood.double(), data, "fit")
    return likelihood


LIKELIHOODS = (
    "per_joint",
    "shared",
    "predicted",
    "predicted correlated",
    "standardised",
    "standardised correlated",
)


def parameters_of(name: str) -> int:
    return 3 if name.startswith("predicted") else 2


def features(name: str, *batch: int) -> Tensor:
    return 0.3 * torch.randn(*batch, parameters_of(name), *SHAPE, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.6, (0.1, 0.3, 0.6)], ids=str)
def test_the_density_of_rotations_integrates_to_one(sigma):
    n, joints = 40_000, 50
    loc = torch.from_numpy(Rotation.random(joints, random_state=2).as_matrix()).float()
    axes = isinstance(sigma, tuple)
    px = ConcentratedRotations(loc, torch.tensor(sigma).expand(joints, *[3] * axes), axes=axes)
    haar = torch.from_numpy(Rotation.random(n, random_state=1).as_rotvec()).float()[:, None]
    density = px.joint_log_prob(haar) - rotations.log_volume(rotations.canonical_angle(haar))
    found = 8 * pi**2 * density.double().exp().mean(0)  # of every joint, around another rotation
    error = float(found.std() / joints**0.5)
    assert abs(float(found.mean()) - 1) < 3.5 * error and error < 0.04


def test_the_density_is_of_rotation_vectors_in_radians():
    # Over the ball of radius π, of volume 4π⁴/3, that is all the canonical vectors.
    px = ConcentratedRotations(torch.eye(3)[None], torch.tensor([0.5]))
    axes = torch.nn.functional.normalize(torch.randn(400_000, 1, 3), dim=-1)
    x = pi * torch.rand(400_000, 1, 1) ** (1 / 3) * axes
    density = 4 * pi**4 / 3 * px.log_prob(x).exp()
    error = float(density.std() / len(x) ** 0.5)
    assert abs(float(density.mean()) - 1) < 3.5 * error and error < 0.01
    # Around the identity the two volumes cancel: it is the Gaussian itself.
    few = x[:1000].double()
    expected = torch.distributions.Normal(0.0, 0.5).log_prob(few).sum((-2, -1))
    px = ConcentratedRotations(torch.eye(3)[None].double(), torch.tensor([0.5]).double())
    torch.testing.assert_close(px.log_prob(few), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("axes", [False, True])
def test_samples_have_the_spread_that_they_are_told(axes):
    loc = torch.from_numpy(Rotation.random(2, random_state=2).as_matrix())
    sigma = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.3, 0.3]] if axes else [0.1, 0.3]).double()
    px = ConcentratedRotations(loc, sigma, axes=axes)
    x = px.sample((20_000,))
    phi = rotations.log(rotations.between(loc, rotations.exp(x)))
    wanted = sigma if axes else sigma[:, None].expand(2, 3)
    torch.testing.assert_close(phi.std(0), wanted, rtol=0.03, atol=0)
    assert phi.mean(0).abs().max() < 0.01 and x.norm(dim=-1).max() <= pi + 1e-9
    torch.testing.assert_close(rotations.exp(px.mean), loc)


def test_sigma_is_right_where_it_is_a_third_of_the_mean_squared_angle():
    likelihood, z, x = made("per_joint"), features("per_joint", 50), poses(50, 0.1)
    px = likelihood(z)
    optimum = rotations.squared_distance(px.loc, rotations.exp(x)).mean(0) / 3
    with torch.no_grad():
        wanted = optimum.sqrt().clamp(0.02, 0.55).log()
        middle, half = (-4.6 + log(0.6)) / 2, (log(0.6) + 4.6) / 2
        likelihood.raw_log_sigma.copy_(half * torch.atanh((wanted - middle) / half) / 10)
    torch.testing.assert_close(likelihood.sigma().log(), wanted)
    loss = -likelihood(z).joint_log_prob(x).mean(0)
    (gradient,) = torch.autograd.grad(loss.sum(), likelihood.raw_log_sigma)
    inside = optimum.sqrt() < 0.55
    assert inside.any() and gradient[inside].abs().max() < 1e-9


@pytest.mark.parametrize("name", ["per_joint", "shared", "predicted"])
def test_sigma_starts_where_it_is_told_and_stays_between_its_bounds(name):
    likelihood = made(name)
    offset = torch.zeros(2, *SHAPE).double() if name == "predicted" else None
    sigma = likelihood.sigma(offset).detach()
    torch.testing.assert_close(sigma, torch.full_like(sigma, 0.223), rtol=1e-5, atol=0)
    for raw, bound in ((-1e3, 0.01005), (1e3, 0.6)):
        likelihood.raw_log_sigma.data.fill_(raw)
        assert float(likelihood.sigma(offset).flatten()[0].detach()) == pytest.approx(
            bound, rel=1e-3
        )


def test_the_standardised_gaussian_is_one_of_radians():
    likelihood, z, x, data = made("standardised"), features("standardised", 7), poses(7), Poses()
    std = data.x.double().std(0, correction=0)
    mean = data.x.double().mean(0)
    location, raw = z.unbind(1)
    s = -2 + 6 * torch.tanh((raw + 6 * torch.atanh(torch.tensor(0.5 / 6))) / 6)
    expected = torch.distributions.Normal(mean + std * location, std * (s / 2).exp())
    px = likelihood(z)
    torch.testing.assert_close(
        px.joint_log_prob(x), expected.log_prob(x).sum(-1), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(px.mean, expected.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(px.stddev, expected.stddev, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(px.variance, px.stddev**2)
    samples = px.sample((4000,))
    deviation = (samples - px.mean) / px.stddev
    assert deviation.mean().abs() < 0.01 and abs(float(deviation.std()) - 1) < 0.01
    start = likelihood(torch.zeros(1, 2, *SHAPE).double()).log_variance
    torch.testing.assert_close(start, torch.full_like(start, -1.5))
    for raw, bound in ((-1e3, -8.0), (1e3, 4.0)):
        px = likelihood(torch.full((1, 2, *SHAPE), raw).double())
        torch.testing.assert_close(px.log_variance, torch.full_like(px.log_variance, bound))


def test_correlated_errors_are_those_of_a_gaussian_with_their_covariance():
    likelihood, z, x = made("standardised correlated", 2), features("standardised", 1), poses(1)
    px, x = likelihood(z[..., :2, :]), x[:, :2]
    own = torch.linalg.inv(likelihood.correlation.matrix)
    covariance = own @ own.T
    scale = (likelihood.standardise.std * (px.log_variance[0] / 2).exp()).flatten()
    wanted = torch.distributions.MultivariateNormal(
        px.mean.flatten(), covariance * scale.outer(scale)
    )
    torch.testing.assert_close(px.log_prob(x)[0], wanted.log_prob(x.flatten()))
    torch.testing.assert_close(px.stddev.flatten(), wanted.variance.sqrt())
    samples = px.sample((40_000,)).flatten(1)
    found = torch.corrcoef(samples.T)
    sigma = covariance.diagonal().sqrt()
    torch.testing.assert_close(found, covariance / sigma.outer(sigma), atol=0.02, rtol=0)
    rotated = made("predicted correlated", 2)
    px = rotated(0.1 * features("predicted", 1)[..., :2, :])
    phi = rotations.log(rotations.between(px.loc, rotations.exp(px.sample((40_000,)))))
    own = torch.linalg.inv(rotated.correlation.matrix)
    covariance = own @ own.T
    found = (phi / px.sigma)[:, 0].flatten(1).T.cov()
    torch.testing.assert_close(found, covariance, atol=0.03, rtol=0)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_prob_is_a_sum_over_joints_of_any_batch_and_depends_on_rotations_only(name):
    likelihood, x = made(name), poses(5)
    z = features(name, 4, 5)
    px = likelihood(z)
    assert px.batch_shape == (4, 5) and px.event_shape == SHAPE == px.mean.shape[2:]
    joints = px.joint_log_prob(x)
    assert joints.shape == (4, 5, 30) and px.sample((2,)).shape == (2, 4, 5, *SHAPE)
    torch.testing.assert_close(joints.sum(-1), px.log_prob(x))
    alone = likelihood(z[2, 3]).log_prob(x[3])
    torch.testing.assert_close(px.log_prob(x)[2, 3], alone)
    torch.testing.assert_close(px.log_prob(longer_way(x)), px.log_prob(x))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_are_those_of_the_density(name):
    likelihood = made(name, joints=2)
    z, x = features(name, 1)[..., :2, :], poses(1)[:, :2]
    parameters = [*likelihood.parameters()]
    assert torch.autograd.gradcheck(
        lambda z, x, *own: likelihood(z).log_prob(x),
        [z.requires_grad_(), x.requires_grad_(), *parameters],
        atol=1e-4,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_are_finite_at_the_mean_at_no_rotation_and_near_half_a_turn(name, dtype):
    likelihood = made(name).to(dtype)
    z = torch.zeros(1, parameters_of(name), *SHAPE, dtype=dtype, requires_grad=True)
    angles = torch.tensor([0.0, 1e-8, 1e-4, pi - 1e-4, pi], dtype=dtype)
    axes = torch.nn.functional.normalize(torch.randn(*SHAPE, dtype=dtype), dim=-1)
    x = (angles[:, None, None] * axes).requires_grad_()
    log_px = likelihood(z).log_prob(x)
    inputs = [z, x, *likelihood.parameters()]
    for gradient in torch.autograd.grad(log_px.sum(), inputs):
        assert gradient.isfinite().all()
    assert log_px.isfinite().all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_autocast_changes_nothing_after_the_decoder(name):
    likelihood = made(name).float()
    z, x = features(name, 6).bfloat16(), poses(6).float()
    plain = likelihood(z.float())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = likelihood(z)
        found = mixed.log_prob(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain.log_prob(x), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(mixed.mean, plain.mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_errors_are_angles_between_rotations(name):
    likelihood = made(name)
    px = likelihood(features(name, 4))
    axes = torch.nn.functional.normalize(torch.randn(4, *SHAPE).double(), dim=-1)
    degrees = torch.arange(30) / 3.0
    turn = rotations.exp(axes * torch.deg2rad(degrees.double())[:, None])
    x = rotations.log(rotations.between(rotations.exp(px.mean).mT, turn))
    errors = likelihood.errors(longer_way(x), px)
    torch.testing.assert_close(errors["mpjre"], torch.full((4,), float(degrees.mean())).double())
    assert errors.keys() == {"mse", "mpjre", "recon_sigma"}
    known = name.startswith("standardised")
    spread = px.stddev.mean((1, 2)) if known else torch.tensor(0.223).double()
    if not name.startswith("predicted"):
        torch.testing.assert_close(
            errors["recon_sigma"], torch.rad2deg(spread).expand(4), rtol=1e-5, atol=0
        )
