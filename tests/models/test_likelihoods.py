"""The likelihoods' densities, probabilities, means and gradients; what they take and what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.special import betainc
from torch import Tensor

from src.models.likelihoods import (
    CategoricalLikelihood,
    ContinuousBernoulliLikelihood,
    DiscretisedLogisticLikelihood,
    GaussianLikelihood,
    MSSSIMLikelihood,
    StudentTLikelihood,
)
from src.utils.build import build
from src.utils.errors import UserError
from src.utils.main import data_configs

SHAPES = [(1, 8, 8), (3, 9, 12), (2, 3, 8, 8), (7,)]
PICTURES = SHAPES[:3]
LEVELS = 17
GREY = torch.arange(LEVELS, dtype=torch.float64) / (LEVELS - 1)


def student_t(shape, **settings):
    return StudentTLikelihood(shape, **settings)


def logistic(shape, levels=LEVELS, **settings):
    return DiscretisedLogisticLikelihood(shape, levels, **settings)


def categorical(shape):
    return CategoricalLikelihood(shape, LEVELS)


KINDS: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    "student t": (student_t, {}, 1),
    "student t, all fixed": (student_t, {"scale": "fixed", "learn_df": False, "df": 3.5}, 1),
    "student t per pixel": (student_t, {"scale": "per_pixel", "parameters": 2}, 2),
    "logistic": (logistic, {}, 1),
    "logistic, fixed": (logistic, {"scale": "fixed", "s": 0.02}, 1),
    "logistic per pixel": (logistic, {"scale": "per_pixel", "parameters": 2}, 2),
    "categorical": (categorical, {}, LEVELS),
    "continuous bernoulli": (ContinuousBernoulliLikelihood, {}, 1),
    "ms-ssim": (MSSSIMLikelihood, {}, 1),
}


def made(name: str, shape: tuple[int, ...]) -> tuple[torch.nn.Module, int]:
    kind, settings, parameters = KINDS[name]
    return kind(shape, **settings), parameters


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_a_likelihood_sums_over_the_data_axes_only(name, shape, k):
    if name == "ms-ssim" and shape not in PICTURES:
        pytest.skip("compares pictures")
    likelihood, parameters = made(name, shape)
    features, x = torch.randn(k, 3, parameters, *shape), torch.rand(3, *shape)
    px = likelihood(features)
    assert (px.batch_shape, px.event_shape, px.mean.shape) == ((k, 3), shape, (k, 3, *shape))
    log_px = px.log_prob(x)
    assert log_px.shape == (k, 3) and torch.isfinite(log_px).all()
    alone = likelihood(features[-1, 1:2]).log_prob(x[1:2])
    torch.testing.assert_close(log_px[-1, 1:2], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_likelihood_follows_to_and_keeps_bf16_out(name):
    likelihood, parameters = made(name, (1, 8, 8))
    features, x = torch.randn(2, parameters, 1, 8, 8).bfloat16(), torch.rand(2, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        px = likelihood(features)
        log_px, mean = px.log_prob(x), px.mean
    assert log_px.dtype == mean.dtype == torch.float32
    exact = likelihood.double()(features.double())
    assert exact.log_prob(x.double()).dtype == torch.float64
    torch.testing.assert_close(log_px.double(), exact.log_prob(x.double()), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(mean.double(), exact.mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_those_of_finite_differences(name):
    likelihood, parameters = made(name, (1, 6, 6))
    likelihood = likelihood.double()
    features = 0.5 + 0.3 * torch.randn(2, parameters, 1, 6, 6, dtype=torch.float64)
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    features[0, 0, 0, 0, :2], own = torch.tensor([0.0, 1e-9]), list(likelihood.parameters())

    def scored(features: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        px = likelihood(features)
        return px.log_prob(x), px.mean

    assert torch.autograd.gradcheck(scored, (features.requires_grad_(), *own))


# Densities: their mass, and their means.


@pytest.mark.parametrize("raw", [-30.0, -0.4, 0.0, 1e-4, 0.0999, 0.1001, 3.0, 30.0])
def test_the_continuous_bernoulli_is_a_density_with_this_mean_in_fp32_too(raw):
    px = ContinuousBernoulliLikelihood((1,))(torch.tensor([[[raw]]]))
    grid = torch.linspace(0, 1, 20_001)
    density = px.log_prob(grid[:, None, None]).double().exp().squeeze(-1)
    assert float(torch.trapezoid(density, grid.double())) == pytest.approx(1, abs=2e-5)
    mean = float(torch.trapezoid(density * grid, grid.double()))
    assert float(px.mean) == pytest.approx(mean, abs=2e-5)


@pytest.mark.parametrize("raw", [-1.0, -0.05, 0.05, 2.0])
def test_the_continuous_bernoulli_is_torchs_where_that_is_exact(raw):
    logit, x = torch.tensor([[[raw]]], dtype=torch.float64), torch.rand(9, 1, dtype=torch.float64)
    ours = ContinuousBernoulliLikelihood((1,))(logit)
    theirs = torch.distributions.ContinuousBernoulli(logits=logit[0, 0], lims=(0.5, 0.5))
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x)[:, 0])
    torch.testing.assert_close(ours.mean[0], theirs.mean)


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("student")])
def test_the_student_t_integrates_to_one(name):
    likelihood, parameters = made(name, (1,))
    features = torch.tensor([0.3, -1.2][:parameters], dtype=torch.float64).view(1, -1, 1)
    px = likelihood.double()(features)

    def density(x: float) -> float:
        return float(px.log_prob(torch.tensor([[x]], dtype=torch.float64)).exp())

    with torch.no_grad():
        found = sum(quad(density, *part)[0] for part in [(-torch.inf, 0.3), (0.3, torch.inf)])
    assert found == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("df", [2.01, 2.5, 5.0, 60.0, 400.0])
def test_the_degrees_of_freedom_start_where_they_are_told(df):
    likelihood = StudentTLikelihood((1,), df=df, s=0.2)
    assert float(likelihood.df.detach()) == pytest.approx(df, rel=1e-5)
    px = likelihood(torch.zeros(1, 1, 1))
    assert float(px.variance.detach()) == pytest.approx(0.2**2 * df / (df - 2), rel=1e-3)
    # P(|x| > 3 s) of Student's t, by the regularised incomplete beta function.
    if df == 5.0:
        outside = (px.sample((100_000,)).abs() > 0.6).float().mean()
        assert float(outside) == pytest.approx(betainc(2.5, 0.5, 5 / 14), abs=0.003)


def test_learned_degrees_of_freedom_never_lose_the_variance():
    likelihood = StudentTLikelihood((1,))
    for raw in (-1e3, 1e3):
        likelihood.raw_df.data.fill_(raw)
        px = likelihood(torch.zeros(1, 1, 1))
        assert torch.isfinite(px.variance).all() and torch.isfinite(px.log_prob(torch.ones(1, 1)))


def test_many_degrees_of_freedom_are_gaussian_and_few_are_robust():
    y, x = torch.zeros(1, 1, 50), 0.1 * torch.randn(1, 50)
    gaussian = GaussianLikelihood((50,), scale="fixed").double()
    near, heavy = (StudentTLikelihood((50,), df=df).double() for df in (400.0, 3.0))
    x, y = x.double(), y.double()
    torch.testing.assert_close(near(y).log_prob(x), gaussian(y).log_prob(x), atol=0.2, rtol=0)
    x[0, 0] = 2.0  # twenty standard deviations off: 200 nats to a Gaussian
    assert gaussian(y).log_prob(x) < -100 < 0 < heavy(y).log_prob(x)


def test_learned_degrees_of_freedom_find_those_of_the_data():
    likelihood = StudentTLikelihood((1,), s=0.3, df=20.0)
    x = 0.1 * torch.distributions.StudentT(4.0).sample((20_000, 1))
    optimiser = torch.optim.LBFGS(likelihood.parameters(), lr=0.5, max_iter=60)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -likelihood(torch.zeros(1, 1, 1)).log_prob(x).mean()
        value.backward()
        return value

    optimiser.step(loss)
    assert float(likelihood.df.detach()) == pytest.approx(4, rel=0.1)
    assert float(likelihood.log_scale.detach().exp()) == pytest.approx(0.1, rel=0.03)


# Grey levels: probabilities, and their means.


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("s", [1e-4, 0.05, 30.0])
@pytest.mark.parametrize("location", [-5.0, 0.0, 0.47, 0.5, 1.0, 40.0])
def test_logistic_probabilities_of_the_levels_add_up_to_one(location, s, levels):
    features = torch.tensor([[[location]]], dtype=torch.float64)
    px = logistic((1,), levels, s=s).double()(features)
    grey = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    assert float(px.log_prob(grey[:, None]).detach().exp().sum()) == pytest.approx(1, abs=1e-12)


def test_logistic_probabilities_are_differences_of_its_distribution_function():
    px = logistic((1,), s=0.07).double()(torch.tensor([[[0.3]]], dtype=torch.float64))
    edges = torch.tensor([-torch.inf, *((GREY[1:] + GREY[:-1]) / 2), torch.inf]).double()
    expected = ((edges - 0.3) / 0.07).sigmoid().diff()
    torch.testing.assert_close(px.log_prob(GREY[:, None]).exp(), expected)


def test_a_level_far_from_the_location_keeps_its_probability_and_gradient():
    # 1000 scales away: σ(b) − σ(a) is exactly 0 in fp32.
    y = torch.tensor([[[10.5]]], requires_grad=True)
    log_px = logistic((1,), s=0.01)(y).log_prob(torch.tensor([[0.5]]))
    log_px.backward()
    assert -1010 < float(log_px.detach()) < -990 and float(y.grad) == pytest.approx(-100, rel=1e-3)


def test_probabilities_per_pixel_are_those_of_the_softmax():
    features = torch.randn(3, LEVELS, 1, 2, 2, dtype=torch.float64)
    px = categorical((1, 2, 2))(features)
    level = torch.randint(LEVELS, (3, 1, 2, 2))
    expected = -torch.nn.functional.cross_entropy(features, level, reduction="none")
    torch.testing.assert_close(px.log_prob(GREY[level]), expected.sum((1, 2, 3)))
    mean = (features.softmax(1) * GREY.view(1, -1, 1, 1, 1)).sum(1)
    torch.testing.assert_close(px.mean, mean)


@pytest.mark.parametrize("name", ["logistic", "categorical"])
def test_a_value_between_two_levels_counts_as_the_nearer_one(name):
    likelihood, parameters = made(name, (1,))
    px = likelihood(torch.randn(1, parameters, 1))
    values = torch.tensor([[-0.2], [0.26], [0.97], [1.3]])
    nearest = torch.tensor([[0.0], [4 / 16], [1.0], [1.0]])
    assert torch.equal(px.log_prob(values), px.log_prob(nearest))
    assert likelihood.discrete and likelihood.normalised and (px.log_prob(values) < 0).all()


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("student t", 0.003),
        ("logistic", 0.003),
        ("logistic, fixed", 0.5 / (LEVELS - 1)),
        ("categorical", 0.005),
        ("continuous bernoulli", 0.005),
    ],
)
def test_means_are_those_of_samples(name, tolerance):
    likelihood, parameters = made(name, (6,))
    features = torch.randn(parameters, 6)
    features[0] = torch.tensor([-0.4, 0.03, 0.34, 0.5, 0.92, 1.5])
    px = likelihood(features[None])
    samples = px.sample((100_000,))[:, 0]
    torch.testing.assert_close(samples.mean(0), px.mean[0], atol=tolerance, rtol=0)
    if likelihood.support == "unit":
        assert samples.min() >= 0 and samples.max() <= 1


def test_the_mean_of_a_logistic_is_a_picture_whatever_the_decoder_says():
    features = torch.tensor([-1e4, -3.0, 0.25, 1.0, 7.0, 1e4]).view(1, 1, 6)
    for s in (1e-3, 0.1):
        mean = logistic((6,), s=s)(features).mean.detach()
        assert mean.min() >= 0 and mean.max() < 1 + 1e-5 and (mean.diff() > -1e-5).all()


# The pseudo-likelihood.


def windows(x: Tensor) -> Tensor:
    """Every 11×11 window of pictures (N, C, H, W), (N, C, positions, 121)."""
    found = torch.nn.functional.unfold(x.flatten(0, 1)[:, None], 11)
    return found.mT.unflatten(0, x.shape[:2])


def slow_similarity(x: Tensor, y: Tensor, *, luminance: bool) -> Tensor:
    """SSIM with its definitions of mean, variance and covariance in each window."""
    offsets = torch.arange(-5, 6, dtype=x.dtype)
    weights = torch.exp(-(offsets[:, None].square() + offsets.square()) / (2 * 1.5**2)).flatten()
    weights = weights / weights.sum()
    a, b = windows(x), windows(y)
    mean_a, mean_b = (a * weights).sum(-1, True), (b * weights).sum(-1, True)
    a, b = a - mean_a, b - mean_b
    spread = (weights * (a.square() + b.square())).sum(-1)
    found = (2 * (weights * a * b).sum(-1) + 0.03**2) / (spread + 0.03**2)
    if luminance:
        brightness = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        found = found * brightness[..., 0]
    return found.mean((1, 2))


@pytest.mark.parametrize(("side", "scales"), [(24, 2), (45, 3), (176, 5)])
def test_structural_similarity_is_what_its_definition_gives(side, scales):
    likelihood = MSSSIMLikelihood((2, side, side), weight=1.0, l1=0.0).double()
    x = torch.rand(1, 2, side, side, dtype=torch.float64)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0.01, 0.99)
    found = 1 + likelihood(y.logit()[:, None]).log_prob(x) / x[0].numel()
    weights = torch.tensor([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales]).double()
    expected = torch.ones(1, dtype=torch.float64)
    for scale, weight in enumerate(weights / weights.sum()):
        expected *= slow_similarity(x, y, luminance=scale == scales - 1) ** weight
        x, y = (torch.nn.functional.avg_pool2d(value, 2) for value in (x, y))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", PICTURES, ids=str)
def test_a_picture_is_most_similar_to_itself_and_its_negative_has_a_way_back(shape):
    likelihood = MSSSIMLikelihood(shape).double()
    x = 0.05 + 0.9 * torch.rand(4, *shape, dtype=torch.float64)
    logits = x.logit()[:, None]
    torch.testing.assert_close(likelihood(logits).log_prob(x), torch.zeros(4).double())
    negative = (-logits).requires_grad_()
    log_px = likelihood(negative).log_prob(x)
    (gradient,) = torch.autograd.grad(log_px.sum(), negative)
    assert (log_px < -1).all() and (gradient.flatten(1).norm(dim=1) > 1).all()


def test_the_absolute_error_sees_the_offset_that_similarity_does_not():
    x = 0.2 + 0.3 * torch.rand(4, 1, 16, 16)
    offset, scrambled = x + 0.1, x + 0.1 * torch.randn_like(x).sign()
    for l1, ratio in ((0.0, 0.1), (1.0, 1.001)):
        likelihood = MSSSIMLikelihood((1, 16, 16), weight=1.0, l1=l1)
        lost = [-likelihood(y.logit()[:, None]).log_prob(x).mean() for y in (offset, scrambled)]
        assert lost[0] < ratio * lost[1]
    assert float(lost[0]) == pytest.approx(0.1 * 256, rel=1e-4)
    assert not MSSSIMLikelihood.normalised


# What the data publishes, and what is refused.


@pytest.mark.parametrize("name", sorted(data_configs(("image", "sequence"))))
def test_every_data_config_publishes_the_levels_that_it_serves(compose_config, tmp_path, name):
    given = {"images": [1, 8, 8], "atari": [3, 8, 8], "recordings": [3, 8, 8]}
    given["recordings_windows"] = [8, 3, 8, 8]
    overrides = [f"data.shape={given[name]}".replace(" ", "")] if name in given else []
    config = compose_config(f"data={name}", *overrides).data
    assert config.levels == build(config).divisor + 1
    with pytest.raises(UserError, match=rf"data.levels=9: {config.name} is stored with"):
        build({**config, "levels": 9})


def test_the_levels_of_the_digits_are_their_values(compose_config, tiny_vae):
    data = build(compose_config().data)
    data.setup()
    assert torch.equal(data.floats("train").unique().double(), GREY)
    assert tiny_vae("model=discretised_logistic_vae").latent.likelihood.levels == LEVELS
    assert tiny_vae("model/likelihood=categorical").decode(torch.zeros(1, 4)).mean.shape[0] == 1


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (StudentTLikelihood, {"df": 2.0}, "model.likelihood.df=2.0 must lie between 2.01"),
        (StudentTLikelihood, {"scale": "optimal"}, "choices: fixed, learned, per_pixel"),
        (StudentTLikelihood, {"s": 0.0}, "the scale 0.0 must be positive"),
        (logistic, {"levels": 1}, "model.likelihood.levels=1: there must be at least 2"),
        (logistic, {"scale": "per_pixel"}, "scale=per_pixel needs parameters=2"),
        (ContinuousBernoulliLikelihood, {"parameters": 2}, "parameters=2: this likelihood has 1"),
        (CategoricalLikelihood, {"parameters": 1}, "model.likelihood.parameters=1: there must"),
        (MSSSIMLikelihood, {"weight": 0.0}, r"weight=0.0 must be positive and l1=0.2 in \[0, 1\]"),
    ],
)
def test_impossible_settings_name_the_choices(kind, settings, message):
    with pytest.raises(UserError, match=message):
        kind((1, 8, 8), **settings)


@pytest.mark.parametrize("shape", [(90,), (1, 5, 8)])
def test_similarity_takes_pictures_only(shape):
    with pytest.raises(UserError, match=r"msssim compares pictures .* data.shape=\["):
        MSSSIMLikelihood(shape)
