"""Priors that are learned or coupled: mass, samples, closed forms."""

from math import log

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from src.models.distributions import closed_form_kl
from src.models.networks import AutoregressiveFlow, Inverted, PlanarFlow, SplineFlow
from src.models.priors import AutoregressiveNormal, FlowPrior, MixturePrior, StandardNormal
from src.utils.errors import UserError

VARIANTS = ["flow_prior_vae", "gmm_vae", "vamp", "delta_vae"]
PRIORS = {
    "masked autoregressive": lambda dim: FlowPrior(dim, Inverted(AutoregressiveFlow(dim, 2, 16))),
    "inverse autoregressive": lambda dim: FlowPrior(dim, AutoregressiveFlow(dim, 2, 16)),
    "spline": lambda dim: FlowPrior(dim, SplineFlow(dim, 3, bins=4, width=16)),
    "mixture": lambda dim: MixturePrior(dim, 5),
    "ar1": lambda dim: AutoregressiveNormal(dim, 2, alpha_max=0.7),
}


def prior(name: str, dim: int) -> torch.nn.Module:
    """A prior far from N(0, I), in float64."""
    built = PRIORS[name](dim).double()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return built


@torch.no_grad()
def masses(p: Distribution) -> tuple[Tensor, Tensor]:
    """A grid (N, 2) and what a density has on each of its cells (N,)."""
    axis = torch.linspace(-8, 8, 321, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    return grid, p.log_prob(grid).exp() * float(axis[1] - axis[0]) ** 2


def factorised(*batch: int, dim: int) -> Independent:
    """A factorised Gaussian of any means and scales."""
    mean = torch.randn(*batch, dim, dtype=torch.float64)
    return Independent(Normal(mean, torch.rand_like(mean) + 0.3), 1)


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_integrates_to_one_and_is_not_the_standard_normal(name):
    p = prior(name, 2)()
    mass = masses(p)[1]
    assert float(mass.sum()) == pytest.approx(1, abs=1e-4)
    assert (mass - masses(StandardNormal(2).double()())[1]).abs().sum() > 0.1


@pytest.mark.parametrize("name", PRIORS)
def test_samples_of_a_prior_have_its_density(name):
    # By quadrature on a grid, and by the mean over samples, of the same functions.
    p = prior(name, 2)()
    grid, mass = masses(p)
    z = p.sample((40_000,))
    for statistic in (lambda v: v.tanh(), lambda v: (v - 1).cos(), lambda v: v.prod(-1).tanh()):
        values = statistic(z)
        expected = torch.tensordot(mass, statistic(grid), 1)
        error = values.std(0) / len(z) ** 0.5
        assert ((values.mean(0) - expected).abs() < 5 * error).all()


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_has_one_density_a_sample_and_repeats_over_frames(name):
    p = prior(name, 4)()
    assert (p.batch_shape, p.event_shape, p.mean.shape) == ((), (4,), (4,))
    z = torch.randn(3, 6, 5, 4, dtype=torch.float64)
    assert p.log_prob(z).shape == (3, 6, 5) and p.sample((7,)).shape == (7, 4)
    frames = Independent(p.expand(torch.Size((5,))), 1)
    torch.testing.assert_close(frames.log_prob(z), p.log_prob(z).sum(-1))
    assert frames.sample((2,)).shape == (2, 5, 4)


@pytest.mark.parametrize("name", VARIANTS)
def test_one_step_reaches_every_parameter(tiny_vae, name):
    overrides = ["model.prior.components=5"] if name == "vamp" else []
    model = tiny_vae(f"model={name}", *overrides)
    model.step(torch.rand(6, 1, 8, 8))[1].loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name


class TestFlowPrior:
    """p(z) = flow(N(0, I))."""

    @pytest.mark.parametrize("name", ["flow", "nsf"])
    def test_it_starts_close_to_the_standard_normal(self, tiny_vae, name):
        model = tiny_vae(f"model/prior={name}")
        z = torch.randn(50, 4)
        standard = -0.5 * z.square().sum(-1) - 2 * log(2 * torch.pi)
        torch.testing.assert_close(model.prior().log_prob(z), standard, atol=0.1, rtol=0)

    def test_the_default_takes_one_pass_for_a_density(self, tiny_vae):
        model = tiny_vae("model=flow_prior_vae", "model.latent_dim=6")
        seen: list[int] = []
        for block in model.latent.prior.flow.flow.blocks:
            block.net.register_forward_hook(lambda *_: seen.append(1))
        model.prior().log_prob(torch.randn(5, 6))
        assert len(seen) == 3
        model.prior().sample((2,))
        assert len(seen) == 3 + 3 * 6

    def test_it_refuses_a_flow_without_an_inverse(self):
        with pytest.raises(UserError, match="model.prior.flow PlanarFlow has no inverse"):
            FlowPrior(4, PlanarFlow(4, 2, 3))


class TestMixture:
    """p(z) = Σ_k π_k N(z; μ_k, diag σ_k²)."""

    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    means = torch.tensor([[0.0, 1.0], [-2.0, 0.5], [3.0, -1.0]], dtype=torch.float64)
    variances = torch.tensor([[1e-6, 2.0], [0.5, 1.0], [0.01, 4e3]], dtype=torch.float64)

    def test_it_becomes_the_mixture_that_it_is_given(self):
        built = MixturePrior(2, 3).double()
        built.set(self.weights, self.means, self.variances)
        z = self.means[:, None] + torch.randn(3, 4, 2, dtype=torch.float64) * 0.01
        each = Normal(self.means, self.variances.sqrt()).log_prob(z[..., None, :]).sum(-1)
        expected = (each + self.weights.log()).logsumexp(-1)
        torch.testing.assert_close(built().log_prob(z), expected)
        torch.testing.assert_close(built().mean, self.weights @ self.means)

    def test_it_refuses_a_mixture_of_another_size_or_out_of_range(self):
        with pytest.raises(UserError, match=r"\(4, 2\) means takes as many, not \(3, 2\)"):
            MixturePrior(2, 4).set(self.weights, self.means, self.variances)
        with pytest.raises(UserError, match="standard deviations within"):
            MixturePrior(2, 3).set(self.weights, self.means, self.variances * 1e-12)
        with pytest.raises(UserError, match="components=0"):
            MixturePrior(2, 0)

    def test_its_means_start_as_draws_of_the_standard_normal(self):
        means = MixturePrior(16, 400).means.detach()
        assert abs(float(means.mean())) < 0.05 and abs(float(means.std()) - 1) < 0.05
        assert closed_form_kl(factorised(3, dim=2), MixturePrior(2, 3).double()()) is None


def covariance(built: AutoregressiveNormal, dim: int) -> Tensor:
    """K written out: steps of one channel are correlated by α^lag, channels are not."""
    channels = dim // built.steps
    found = torch.zeros(dim, dim, dtype=torch.float64)
    for i in range(dim):
        for j in range(dim):
            if i % channels == j % channels:
                lag = abs(i // channels - j // channels)
                found[i, j] = built.alpha[i % channels] ** lag
    return found


class TestAutoregressiveNormal:
    """The AR(1) prior of the δ-VAE."""

    built = AutoregressiveNormal(12, 4, 0.2, 0.95).double()

    def joint(self) -> Distribution:
        return MultivariateNormal(torch.zeros(12, dtype=torch.float64), covariance(self.built, 12))

    def test_its_density_is_that_of_the_joint_gaussian(self):
        z = torch.randn(5, 3, 12, dtype=torch.float64)
        torch.testing.assert_close(
            self.built().log_prob(z), self.joint().log_prob(z), atol=1e-4, rtol=1e-5
        )

    def test_its_density_is_that_of_the_recursion(self):
        z = torch.randn(6, 12, dtype=torch.float64)
        steps, alpha = z.view(6, 4, 3), self.built.alpha
        given = Normal(alpha * steps[:, :-1], (1 - alpha.square()).sqrt())
        expected = Normal(0, 1).log_prob(steps[:, 0]).sum(-1)
        expected = expected + given.log_prob(steps[:, 1:]).sum((1, 2))
        torch.testing.assert_close(self.built().log_prob(z), expected, atol=1e-4, rtol=1e-5)

    def test_its_samples_have_its_covariance(self):
        z = self.built().sample((100_000,))
        assert (torch.cov(z.T) - covariance(self.built, 12)).abs().max() < 0.03

    def test_the_closed_kl_is_the_monte_carlo_mean(self):
        q, p = factorised(3, dim=12), self.built()
        z = q.sample((100_000,))
        ratio = q.log_prob(z) - p.log_prob(z)
        error = ratio.std(0) / len(z) ** 0.5
        assert ((ratio.mean(0) - kl_divergence(q, p)).abs() < 4 * error).all()

    def test_the_closed_kl_of_frames_is_the_sum_over_them(self):
        q, p = factorised(3, 5, dim=12), self.built()
        frames = kl_divergence(Independent(q, 1), Independent(p.expand(torch.Size((5,))), 1))
        torch.testing.assert_close(frames, kl_divergence(q, p).sum(-1))

    def test_no_factorised_gaussian_comes_closer_than_the_committed_rate(self):
        rate = float(self.built.committed_rate)
        assert (kl_divergence(factorised(500, dim=12), self.built()) > rate).all()
        mean = torch.randn(12, dtype=torch.float64, requires_grad=True)
        log_sigma = torch.randn(12, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [mean, log_sigma], max_iter=500, line_search_fn="strong_wolfe"
        )

        def kl() -> Tensor:
            q = Independent(Normal(mean, log_sigma.exp()), 1)
            return kl_divergence(q, self.built())

        def closure() -> Tensor:
            optimiser.zero_grad()
            value = kl()
            value.backward()
            return value

        optimiser.step(closure)
        assert float(kl()) == pytest.approx(rate, abs=1e-4)
        best = 1 / covariance(self.built, 12).inverse().diagonal()
        torch.testing.assert_close((2 * log_sigma).exp(), best, atol=1e-3, rtol=1e-2)
        assert mean.abs().max() < 1e-2

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"steps": 1}, "steps=1 must be at least 2"),
            ({"steps": 5}, "steps=5 must be at least 2 and divide the 12"),
            ({"steps": 4, "alpha_max": 1.0}, "alpha_max=1.0"),
            ({"steps": 4, "alpha_min": 0.9, "alpha_max": 0.2}, "in this order"),
        ],
    )
    def test_impossible_settings_are_refused(self, settings, message):
        with pytest.raises(UserError, match=message):
            AutoregressiveNormal(12, **settings)
