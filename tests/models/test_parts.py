"""Posteriors, priors and likelihoods: shapes, formulas, total mass."""

from math import log, pi

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from src.models.likelihoods import BernoulliLikelihood, GaussianLikelihood, LaplaceLikelihood
from src.models.posteriors import DeltaPosterior, DiagonalGaussian
from src.models.priors import StandardNormal
from src.utils.errors import UserError

SHAPES = [(1, 8, 8), (3, 5, 4), (7,)]
LIKELIHOODS = {
    "gaussian fixed": (GaussianLikelihood, {"scale": "fixed"}),
    "gaussian learned": (GaussianLikelihood, {"scale": "learned"}),
    "gaussian per pixel": (GaussianLikelihood, {"scale": "per_pixel", "parameters": 2}),
    "gaussian optimal": (GaussianLikelihood, {"scale": "optimal"}),
    "laplace learned": (LaplaceLikelihood, {}),
    "laplace fixed": (LaplaceLikelihood, {"scale": "fixed"}),
    "bernoulli": (BernoulliLikelihood, {}),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_sums_over_the_data_axes_only(name, shape, k, training):
    kind, settings = LIKELIHOODS[name]
    likelihood = kind(shape, **settings).train(training)
    px = likelihood(torch.randn(k, 3, settings.get("parameters", 1), *shape))
    assert (px.batch_shape, px.event_shape, px.mean.shape) == ((k, 3), shape, (k, 3, *shape))
    log_px = px.log_prob(torch.rand(3, *shape))
    assert log_px.shape == (k, 3) and torch.isfinite(log_px).all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_follows_to(name):
    kind, settings = LIKELIHOODS[name]
    likelihood = kind((4,), **settings).to(torch.float64)
    px = likelihood(torch.randn(2, settings.get("parameters", 1), 4, dtype=torch.float64))
    assert px.log_prob(torch.rand(2, 4, dtype=torch.float64)).dtype == torch.float64
    assert (
        likelihood(
            torch.randn(2, settings.get("parameters", 1), 4, dtype=torch.bfloat16)
        ).mean.dtype
        == torch.float32
    )


@pytest.mark.parametrize("kind", [DiagonalGaussian, DeltaPosterior])
def test_a_posterior_follows_to(kind):
    posterior = kind(6, 3).to(torch.float64)
    assert posterior(torch.randn(2, 6, dtype=torch.float64)).rsample().dtype == torch.float64


def test_the_prior_follows_to():
    assert StandardNormal(3).to(torch.float64)().rsample().dtype == torch.float64


def test_the_priors_own_kl_is_the_general_one_and_survives_expand():
    q = DiagonalGaussian(6, 3)(5 * torch.randn(4, 6))
    general = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    for p in (StandardNormal(3)(), StandardNormal(3)().expand((4,))):
        torch.testing.assert_close(kl_divergence(q, p), kl_divergence(q, general))


@pytest.mark.parametrize("k", [1, 5])
def test_posterior_and_prior_have_one_density_a_sample(k):
    q, p = DiagonalGaussian(6, 3)(torch.randn(4, 6)), StandardNormal(3)()
    z = q.rsample((k,))
    assert (q.batch_shape, q.event_shape, p.batch_shape, p.event_shape) == ((4,), (3,), (), (3,))
    assert q.log_prob(z).shape == p.log_prob(z).shape == (k, 4)
    expected = -0.5 * (((z - q.mean) / q.stddev) ** 2 + 2 * q.stddev.log() + log(2 * pi)).sum(-1)
    torch.testing.assert_close(q.log_prob(z), expected)
    torch.testing.assert_close(p.log_prob(z), -0.5 * (z.square() + log(2 * pi)).sum(-1))


def test_the_posterior_survives_wild_features():
    posterior = DiagonalGaussian(1, 1)
    with torch.no_grad():
        posterior.head.weight.fill_(1.0)
        posterior.head.bias.zero_()
    features = torch.tensor([[-1e4], [-30.0], [-1.0], [0.0], [1.0], [30.0], [1e4]])
    log_scale = posterior(features).stddev.log()[:, 0]
    assert log_scale.abs().max() < 8.001 and (log_scale.diff() >= 0).all()
    torch.testing.assert_close(
        log_scale[2:5], features[2:5, 0], atol=0.06, rtol=0
    )  # the identity in between
    posterior(torch.tensor([[-12.0]])).stddev.log().sum().backward()
    assert posterior.head.weight.grad[1].abs() > 0  # an outlier can still be mended


def test_a_point_mass_has_a_place_and_no_density():
    q = DeltaPosterior(6, 3)(torch.randn(4, 6))
    assert (
        q.rsample((5,)).shape == (5, 4, 3)
        and (q.rsample((5,)) == q.mean).all()
        and (q.variance == 0).all()
    )
    with pytest.raises(NotImplementedError, match="a point mass has no density"):
        q.log_prob(q.mean)


def mass(log_density: Tensor, grid: Tensor) -> float:
    return float(torch.trapezoid(log_density.detach().exp(), grid))


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "bernoulli"])
def test_densities_integrate_to_one(name):
    kind, settings = LIKELIHOODS[name]
    likelihood = kind((1,), **settings).double().eval()
    features = torch.tensor([0.3, -1.2][: settings.get("parameters", 1)], dtype=torch.float64).view(
        1, -1, 1
    )
    grid = torch.linspace(-6, 6, 100_001, dtype=torch.float64)
    assert mass(likelihood(features).log_prob(grid[:, None]), grid) == pytest.approx(1, abs=1e-6)
    assert kind.normalised


def test_prior_and_posterior_integrate_to_one():
    grid = torch.linspace(-20, 20, 100_001, dtype=torch.float64)
    q = DiagonalGaussian(2, 1).double()(torch.tensor([[0.5, -0.5]], dtype=torch.float64))
    for density in (StandardNormal(1).double()(), q):
        assert mass(density.log_prob(grid[:, None]), grid) == pytest.approx(1, abs=1e-6)


def test_gaussian_and_laplace_formulas():
    x, y = torch.rand(3, 2, 4), torch.randn(3, 1, 2, 4)
    error = x - y[:, 0]
    gaussian = GaussianLikelihood((2, 4), scale="fixed", sigma=0.3)(y).log_prob(x)
    torch.testing.assert_close(
        gaussian, (-0.5 * (error / 0.3) ** 2 - log(0.3) - 0.5 * log(2 * pi)).sum((1, 2))
    )
    laplace = LaplaceLikelihood((2, 4), b=0.3)(y).log_prob(x)
    torch.testing.assert_close(laplace, (-error.abs() / 0.3 - log(2 * 0.3)).sum((1, 2)))


def test_per_pixel_scale_comes_from_the_second_output():
    x, y = torch.rand(3, 5), torch.randn(3, 2, 5)
    px = GaussianLikelihood((5,), scale="per_pixel", parameters=2)(y)
    expected = torch.distributions.Normal(y[:, 0], px.stddev).log_prob(x).sum(-1)
    torch.testing.assert_close(px.log_prob(x), expected)
    assert torch.equal(px.stddev.flatten().argsort(), y[:, 1].flatten().argsort())


def test_a_pixel_with_a_runaway_scale_can_still_be_mended():
    y = torch.tensor([[[0.0, 0.0], [-9.0, 5.0]]], requires_grad=True)
    px = GaussianLikelihood((2,), scale="per_pixel", parameters=2)(y)
    px.log_prob(torch.zeros(1, 2)).sum().backward()
    assert (px.stddev.log().detach().abs() < 6.001).all()
    assert (y.grad[0, 1] != 0).all()


def test_bernoulli_is_cross_entropy_on_grey_values_too():
    x, logits = torch.rand(3, 1, 4, 4), 3 * torch.randn(3, 1, 1, 4, 4)
    px = BernoulliLikelihood((1, 4, 4))(logits)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0], x, reduction="none"
    ).sum((1, 2, 3))
    torch.testing.assert_close(px.log_prob(x), -expected)
    torch.testing.assert_close(px.mean, logits[:, 0].sigmoid())
    assert not BernoulliLikelihood.normalised


@pytest.mark.parametrize(
    "likelihood",
    [GaussianLikelihood((1,), scale="learned"), LaplaceLikelihood((1,))],
    ids=["gaussian", "laplace"],
)
def test_a_learned_scale_has_its_optimum_at_the_maximum_likelihood_value(likelihood):
    error = torch.randn(500, 1)
    best = (
        error.square().mean().sqrt()
        if isinstance(likelihood, GaussianLikelihood)
        else error.abs().mean()
    )
    (log_scale,) = likelihood.parameters()
    gradients = []
    for factor in (0.9, 1.0, 1.1):
        log_scale.data = (factor * best).log()
        (gradient,) = torch.autograd.grad(
            -likelihood(torch.zeros(500, 1, 1)).log_prob(error).mean(), log_scale
        )
        gradients.append(float(gradient))
    assert gradients[0] < -0.05 and abs(gradients[1]) < 1e-5 and gradients[2] > 0.05


class TestSigmaVAE:
    """The optimal σ of Rybkin et al. 2021."""

    x, y = torch.rand(6, 3, 4, dtype=torch.float64), torch.randn(6, 1, 3, 4, dtype=torch.float64)

    def test_training_uses_the_maximum_likelihood_sigma_of_the_batch(self):
        log_sigma = (self.x - self.y[:, 0]).square().mean().sqrt().log().requires_grad_()
        best = (
            torch.distributions.Normal(self.y[:, 0], log_sigma.exp()).log_prob(self.x).sum((1, 2))
        )
        torch.testing.assert_close(
            GaussianLikelihood((3, 4)).double()(self.y).log_prob(self.x), best.detach()
        )
        (gradient,) = torch.autograd.grad(best.sum(), log_sigma)
        assert abs(float(gradient)) < 1e-10

    def test_its_gradient_is_that_of_a_gaussian_with_this_sigma(self):
        # At the optimum the derivative with respect to σ vanishes (the envelope theorem).
        y = self.y.clone().requires_grad_()
        sigma = (self.x - self.y[:, 0]).square().mean().sqrt()
        (ours,) = torch.autograd.grad(
            GaussianLikelihood((3, 4)).double()(y).log_prob(self.x).sum(), y
        )
        (fixed,) = torch.autograd.grad(
            torch.distributions.Normal(y[:, 0], sigma).log_prob(self.x).sum(), y
        )
        torch.testing.assert_close(ours, fixed)

    def test_a_perfect_reconstruction_stays_finite(self):
        assert torch.isfinite(
            GaussianLikelihood((3, 4)).double()(self.x[:, None]).log_prob(self.x)
        ).all()

    def test_evaluation_uses_the_running_sigma_and_leaves_it_alone(self):
        likelihood = GaussianLikelihood((3, 4), momentum=0.25).double()
        error = (self.x - self.y[:, 0]).square().mean()
        likelihood(self.y).log_prob(self.x)
        expected = 0.75 * 0.1**2 + 0.25 * error
        torch.testing.assert_close(likelihood.running_variance, expected)
        seen = likelihood.eval().running_variance.clone()
        log_px = likelihood(self.y).log_prob(self.x)
        torch.testing.assert_close(
            log_px,
            torch.distributions.Normal(self.y[:, 0], expected.sqrt()).log_prob(self.x).sum((1, 2)),
        )
        torch.testing.assert_close(likelihood.running_variance, seen, rtol=0, atol=0)
        assert "running_variance" in likelihood.state_dict()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (
            GaussianLikelihood,
            {"scale": "optmal"},
            "scale='optmal' is unknown; choices: fixed, learned, per_pixel, optimal",
        ),
        (GaussianLikelihood, {"scale": "per_pixel"}, "scale=per_pixel needs parameters=2"),
        (GaussianLikelihood, {"scale": "fixed", "parameters": 2}, "scale=fixed needs parameters=1"),
        (
            LaplaceLikelihood,
            {"scale": "optimal"},
            "scale='optimal' is unknown; choices: fixed, learned",
        ),
    ],
)
def test_impossible_settings_name_the_choices(kind, settings, message):
    with pytest.raises(UserError, match=message):
        kind((4,), **settings)
