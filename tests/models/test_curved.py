"""Spheres, Poincaré balls and their products: densities, samples, divergences, maps and shortest paths."""

from math import log, pi

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from src.models.distributions import closed_form_kl
from src.models.geometry.curved import (
    HypersphericalUniform,
    PowerSpherical,
    RiemannianNormal,
    WrappedNormal,
    log_sphere_area,
)
from src.models.geometry.manifolds import PoincareBall
from src.models.geometry.product import ProductDistribution
from src.models.paths import latent_path
from src.models.posteriors import (
    DiagonalGaussian,
    PoincarePosterior,
    PowerSphericalPosterior,
    ProductPosterior,
)
from src.models.priors import (
    HypersphericalUniformPrior,
    PoincarePrior,
    ProductPrior,
    StandardNormal,
)
from src.utils.errors import UserError

MANY = 100_000
VARIANTS = ("hyperspherical_vae", "poincare_vae", "product_vae")
BALL = PoincareBall(0.7)


def directions(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=dtype), dim=-1)


def power_spherical(dim: int, *kappas: float, dtype: torch.dtype = torch.float64) -> PowerSpherical:
    return PowerSpherical(
        directions(len(kappas), dim, dtype=dtype), torch.tensor(kappas, dtype=dtype)
    )


def wrapped_normal(dim: int, radius: float = 1.5, ball: PoincareBall = BALL) -> WrappedNormal:
    """Around two points ``radius`` away from the origin, with a σ of its own in every dimension."""
    scale = torch.rand(2, dim, dtype=torch.float64) + 0.3
    return WrappedNormal(ball.exp0(radius * directions(2, dim)), scale, ball)


def riemannian_normal(dim: int, *sigmas: float, radius: float = 1.5) -> RiemannianNormal:
    scale = torch.tensor(sigmas, dtype=torch.float64)[:, None]
    return RiemannianNormal(BALL.exp0(radius * directions(len(sigmas), dim)), scale, BALL)


def monte_carlo_kl(q: Distribution, p: Distribution, n: int = MANY) -> tuple[Tensor, Tensor]:
    """The estimate of KL(q ‖ p) and its standard error."""
    z = q.sample((n,))
    integrand = q.log_prob(z) - p.log_prob(z)
    return integrand.mean(0), integrand.std(0) / n**0.5


# The sphere.


@pytest.mark.parametrize("kappa", [0.0, 0.7, 5.0, 300.0])
def test_a_power_spherical_integrates_to_one_on_the_circle(kappa):
    q = power_spherical(2, kappa)
    angle = torch.linspace(0, 2 * pi, 20_001, dtype=torch.float64)[:-1]
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    assert float(q.log_prob(circle).exp().mean() * 2 * pi) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kappa", [0.0, 0.7, 5.0, 300.0])
def test_a_power_spherical_integrates_to_one_on_the_sphere_in_space(kappa):
    q = power_spherical(3, kappa)
    height = torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None]
    angle = torch.linspace(0, 2 * pi, 401, dtype=torch.float64)[:-1]
    ring = (1 - height.square()).clamp_min(0).sqrt()
    points = torch.stack(
        [height.expand(-1, 400), ring * angle.cos(), ring * angle.sin()], -1
    )  # Archimedes: area is dh dφ
    mass = torch.trapezoid(q.log_prob(points).exp().mean(1) * 2 * pi, height[:, 0])
    assert float(mass) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dim", [2, 3, 16, 128])
@pytest.mark.parametrize("kappa", [0.0, 1.0, 30.0, 1e4])
def test_samples_are_unit_vectors_with_the_moments_of_the_beta_marginal(dim, kappa):
    q = power_spherical(dim, kappa, dtype=torch.float32)
    z = q.sample((MANY if dim < 100 else MANY // 10,))[:, 0]
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(len(z)), rtol=0, atol=1e-5)
    beta = torch.distributions.Beta(q.beta + kappa, q.beta)
    cosine = ((z - q.loc).square().sum(-1) / -4 + 1).double()  # (1 + μᵀz)/2
    error = float(beta.stddev) / len(z) ** 0.5
    assert abs(float(cosine.mean() - beta.mean)) < 5 * error + 1e-7
    assert float(cosine.std()) == pytest.approx(float(beta.stddev), rel=0.05)
    # Around μ no direction is favoured.
    across = z - (z * q.loc).sum(-1, keepdim=True) * q.loc
    assert (across.mean(0).abs() < 5 * across.std(0) / len(z) ** 0.5 + 1e-6).all()


@pytest.mark.parametrize(("dim", "n"), [(2, MANY), (3, MANY), (16, MANY), (128, MANY // 10)])
def test_the_kl_from_the_sphere_is_that_of_its_samples(dim, n):
    q = power_spherical(dim, 0.01, 3.0, 200.0)
    p = HypersphericalUniformPrior(dim).double()()
    estimate, error = monte_carlo_kl(q, p, n)
    assert ((kl_divergence(q, p) - estimate).abs() < 5 * error + 1e-9).all()
    torch.testing.assert_close(kl_divergence(q, p), p.log_area - q.entropy())


def test_no_concentration_is_the_uniform_distribution():
    q, p = power_spherical(5, 0.0), HypersphericalUniformPrior(5).double()()
    z = p.sample((100,))
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z))
    assert float(kl_divergence(q, p)) == pytest.approx(0, abs=1e-12)
    assert float(p.log_prob(z)[0]) == pytest.approx(-log(8 / 3 * pi**2))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(100, dtype=torch.float64))


@pytest.mark.parametrize("dim", [2, 16, 128])
def test_single_precision_agrees_with_double_at_any_concentration(dim):
    kappas = (1e-2, 1.0, 1e2, 1e4)
    exact = power_spherical(dim, *kappas)
    single = PowerSpherical(exact.loc.float(), exact.concentration.float())
    torch.testing.assert_close(single.entropy().double(), exact.entropy(), rtol=1e-5, atol=1e-4)
    z = single.sample()
    torch.testing.assert_close(
        single.log_prob(z).double(), exact.log_prob(z.double()), rtol=1e-5, atol=2e-2
    )
    for q in (single, exact):
        assert torch.isfinite(q.log_prob(-q.loc)).all()


def test_the_reflection_is_stable_where_the_direction_is_an_axis():
    axis = torch.eye(4)[[0, 0, 1]] * torch.tensor([1.0, -1.0, 1.0])[:, None]
    nudged = torch.nn.functional.normalize(axis + 1e-5 * torch.randn(3, 4), dim=-1)
    loc = torch.cat([axis, nudged]).requires_grad_()
    z = PowerSpherical(loc, torch.full((6,), 1e6)).rsample((2000,))
    assert (z.mean(0) - loc).abs().max() < 1e-3
    (z * torch.randn(4)).sum().backward()
    assert torch.isfinite(loc.grad).all()


def test_the_gradient_of_a_sample_by_its_direction_is_the_finite_difference():
    kappa = torch.tensor([2.0, 40.0], dtype=torch.float64)

    def sample(raw: Tensor) -> Tensor:
        torch.manual_seed(3)
        return PowerSpherical(torch.nn.functional.normalize(raw, dim=-1), kappa).rsample((3,))

    assert gradcheck(sample, torch.randn(2, 4, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(("dim", "kappa"), [(2, 0.5), (3, 4.0), (16, 50.0), (16, 1e4)])
def test_the_gradient_of_a_sample_by_its_concentration_is_unbiased(dim, kappa):
    # E[(1 + μᵀz)/2] = α/(α + β), so the mean of the samples' gradients must be β/(α + β)².
    concentration = torch.full((MANY,), kappa, requires_grad=True)
    loc = directions(1, dim, dtype=torch.float32)
    q = PowerSpherical(loc.expand(MANY, dim), concentration)
    (1 - (q.rsample() - loc).square().sum(-1) / 4).sum().backward()
    gradient = concentration.grad.double()
    expected = q.beta / (kappa + 2 * q.beta) ** 2
    assert abs(float(gradient.mean()) - expected) < 5 * float(gradient.std()) / MANY**0.5


# The ball.


@pytest.mark.parametrize("radius", [0.0, 1e-6, 1e-3, 0.05, 0.3, 1.0, 4.0, 8.0])
def test_exp_and_log_are_inverse(radius):
    x, v = BALL.exp0(radius * directions(50, 3)), torch.randn(50, 3, dtype=torch.float64)
    for length in (1e-8, 1e-2, 1.0, 5.0):
        torch.testing.assert_close(
            BALL.log(x, BALL.exp(x, length * v)), length * v, rtol=1e-6, atol=1e-12
        )
        torch.testing.assert_close(
            BALL.log0(BALL.exp0(length * v)), length * v, rtol=1e-8, atol=1e-12
        )


def test_the_logarithm_at_a_point_itself_is_zero_and_smooth():
    x = BALL.exp0(torch.randn(2, dtype=torch.float64))
    found = jacobian(lambda y: BALL.log(x, y), x)
    expected = 2 / BALL.gap(x) * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    assert BALL.log(x, x).abs().max() == 0


@pytest.mark.parametrize("radius", [0.0, 0.2, 2.0])
def test_the_volume_is_the_determinant_of_the_exponential_map(radius):
    x = BALL.exp0(radius * directions(3))
    for length in (1e-4, 0.09, 0.2, 3.0):
        v = length * directions(3)
        z = BALL.exp(x, v)
        derivative = torch.linalg.slogdet(jacobian(lambda u: BALL.exp(x, u), v))[1]
        expected = derivative + 3 * (2 / BALL.gap(z)).log().squeeze()
        torch.testing.assert_close(BALL.log_volume(v), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_the_maps_are_those_of_geoopt():
    geoopt = pytest.importorskip("geoopt")
    theirs = geoopt.PoincareBall(torch.tensor(BALL.curvature, dtype=torch.float64))
    x, y = BALL.exp0(torch.randn(2, 200, 3, dtype=torch.float64))
    factor = theirs.lambda_x(x, keepdim=True)
    torch.testing.assert_close(BALL.log(x, y), factor * theirs.logmap(x, y))
    torch.testing.assert_close(BALL.log(x, y).norm(dim=-1), theirs.dist(x, y))
    torch.testing.assert_close(BALL.exp(x, y), theirs.expmap(x, y / factor))
    torch.testing.assert_close(BALL.add(x, y), theirs.mobius_add(x, y))
    t = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(BALL.geodesic(x, y, t), theirs.geodesic(t, x, y))


NORMALS = {"wrapped": wrapped_normal, "riemannian": lambda dim: riemannian_normal(dim, 0.3, 1.2)}


@pytest.mark.parametrize("normal", NORMALS)
def test_a_normal_of_the_ball_integrates_to_one_on_an_interval(normal):
    q = NORMALS[normal](1)
    z = torch.linspace(-1, 1, 200_003, dtype=torch.float64)[1:-1, None] / BALL.curvature**0.5
    density = q.log_prob(z[:, None]).exp() * 2 / BALL.gap(z)
    mass = torch.trapezoid(density, z, dim=0)
    torch.testing.assert_close(mass, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("normal", NORMALS)
def test_a_normal_of_the_ball_integrates_to_one_on_a_disc(normal):
    q = NORMALS[normal](2)
    # Polar coordinates of the manifold itself: the area of a ring is that of its circumference.
    r = torch.linspace(0, 9, 901, dtype=torch.float64)
    angle = torch.linspace(0, 2 * pi, 361, dtype=torch.float64)[:-1]
    ray = torch.stack([angle.cos(), angle.sin()], -1)
    z = BALL.exp0(r[:, None, None] * ray)
    ring = (BALL.curvature**0.5 * r).sinh() / BALL.curvature**0.5
    density = q.log_prob(z[:, :, None]).exp().mean(1) * 2 * pi
    mass = torch.trapezoid(density * ring[:, None], r, dim=0)
    torch.testing.assert_close(mass, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_samples_of_a_wrapped_normal_lie_in_the_ball_at_gaussian_distances(dim):
    q = wrapped_normal(dim)
    z, log_prob = q.rsample_and_log_prob(torch.Size([MANY]))
    assert (BALL.curvature * z.square().sum(-1) < 1).all()
    torch.testing.assert_close(log_prob, q.log_prob(z), rtol=1e-6, atol=1e-4)
    v = BALL.log(q.mean, z)
    assert (v.mean(0).abs() < 5 * q.scale / MANY**0.5).all()
    torch.testing.assert_close(v.std(0), q.scale, rtol=0.02, atol=0)


@pytest.mark.parametrize("dim", [1, 2, 3, 16, 128])
def test_a_riemannian_normal_is_normalised_and_sampled_in_any_dimension(dim):
    # Against a fine grid of its own: the density of the distance from μ, and the moments that it gives.
    q = riemannian_normal(dim, 0.02, 0.5, 1.0)
    curved = BALL.curvature**0.5
    for one, sigma in enumerate(q.scale[:, 0]):
        middle = float((dim - 1) * sigma**2 * curved)
        r = torch.linspace(
            1e-9, 2 * middle + 15 * float(sigma) * dim**0.5, 400_001, dtype=torch.float64
        )
        log_sinh = curved * r + ((1 - (-2 * curved * r).exp()) / 2 / curved).log()
        log_density = (dim - 1) * log_sinh - r.square() / 2 / sigma**2
        highest = log_density.max()
        log_mass = highest + torch.trapezoid((log_density - highest).exp(), r).log()
        log_z = -q.log_prob(q.loc)[one] - log_sphere_area(dim)
        assert float(log_z - log_mass) == pytest.approx(0, abs=2e-4)
        if middle + 10 * float(sigma) < 9:  # inside of what samples are drawn in to
            share = (log_density - log_mass).exp()
            mean, square = (torch.trapezoid(share * r**power, r) for power in (1, 2))
            d = BALL.log(q.loc, q.sample((20_000,)))[:, one].norm(dim=-1)
            spread = float((square - mean**2).sqrt())
            assert abs(float(d.mean() - mean)) < 5 * spread / 20_000**0.5 + 1e-3 * spread
            assert float(d.std()) == pytest.approx(spread, rel=0.04)


def test_a_riemannian_normal_scores_its_own_samples_as_it_scores_any():
    q = riemannian_normal(4, 0.1, 0.8)
    z, log_prob = q.rsample_and_log_prob(torch.Size([1000]))
    torch.testing.assert_close(log_prob, q.log_prob(z), rtol=1e-6, atol=1e-6)
    v = BALL.log(q.loc, z)
    assert (v.mean(0).abs() < 5 * v.std(0) / 1000**0.5).all()


def test_the_gradient_of_a_riemannian_normal_is_the_finite_difference():
    elsewhere = BALL.exp0(torch.randn(2, 3, dtype=torch.float64))

    def draw(place: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(3)
        q = RiemannianNormal(BALL.exp0(place), raw.exp(), BALL)
        # The grid follows σ in a difference and stands still in a gradient, which is linear in between.
        return *q.rsample_and_log_prob(torch.Size([3])), q.log_prob(elsewhere)

    place = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    raw = torch.tensor([[-1.0], [0.2]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(draw, (place, raw), rtol=1e-2, atol=1e-3)


def test_a_flat_ball_holds_a_gaussian():
    ball = PoincareBall(1e-8)
    q = wrapped_normal(3, ball=ball)
    # λ = 2 at the origin: ball coordinates are half of the lengths, and a unit of volume holds 2³ of theirs.
    flat = Independent(Normal(q.loc, q.scale / 2), 1)
    z = flat.sample((100,))
    torch.testing.assert_close(q.log_prob(z) + 3 * log(2), flat.log_prob(z), rtol=0, atol=1e-5)


def test_the_gradient_of_a_sample_and_its_density_is_the_finite_difference():
    elsewhere = BALL.exp0(torch.randn(2, 3, dtype=torch.float64))

    def draw(place: Tensor, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(3)
        q = WrappedNormal(BALL.exp0(place), raw.exp(), BALL)
        z, log_prob = q.rsample_and_log_prob(torch.Size([3]))
        return z, log_prob, q.log_prob(elsewhere)

    place = torch.randn(2, 3, dtype=torch.float64)
    place[0] = 0  # the origin, where lengths have no gradient
    assert gradcheck(
        draw, (place.requires_grad_(), torch.randn(2, 3, dtype=torch.float64, requires_grad=True))
    )


def test_single_precision_holds_far_out():
    # 8 from the origin 1 − ‖z‖² is 0.0013, and a Möbius addition in the textbook's form has no digit left.
    ball = PoincareBall(1.0)
    x = ball.exp0(8 * directions(500, 4))
    v = torch.randn(500, 4, dtype=torch.float64)
    for length in (0.1, 1.0):
        found = ball.log(x.float(), ball.exp(x.float(), (length * v).float()))
        torch.testing.assert_close(found.double(), length * v, rtol=0.01, atol=2e-3)


def test_what_rounding_or_a_long_step_throws_out_comes_back_with_finite_densities():
    ball = PoincareBall(2.0)
    loc = ball.project(ball.exp0(100 * directions(20, 3, dtype=torch.float32))).requires_grad_()
    scale = torch.full((20, 3), 5.0, requires_grad=True)
    q = WrappedNormal(loc, scale, ball)
    z, log_prob = q.rsample_and_log_prob(torch.Size([50]))
    assert (2 * z.square().sum(-1) < 1).all()
    p = WrappedNormal(torch.zeros(3), torch.ones(3), ball)
    scores = log_prob.sum() + q.log_prob(z).sum() + p.log_prob(z).sum()
    scores.backward()
    for value in (scores, loc.grad, scale.grad):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("normal", NORMALS)
def test_the_posterior_on_the_ball_survives_wild_features(normal):
    posterior = PoincarePosterior(3, 3, normal=normal)
    features = 1e4 * torch.randn(20, 3)
    q = posterior(features)
    radius = posterior.ball.log0(q.mean).norm(dim=-1)
    assert (radius < posterior.reach + 0.01).all() and radius.max() > posterior.reach - 0.01
    q.log_prob(q.rsample()).sum().backward()
    assert torch.isfinite(posterior.head.weight.grad).all()


@pytest.mark.parametrize("dim", [2, 16, 64])
@pytest.mark.parametrize("curvature", [0.3, 2.0])
@pytest.mark.parametrize("normal", NORMALS)
def test_no_encoder_finds_a_divergence_below_zero_at_the_rim(dim, curvature, normal):
    # Samples that are drawn in to the rim have another density than they are scored with.
    posterior = PoincarePosterior(3, dim, curvature, normal)
    prior = PoincarePrior(dim, curvature, 0.2, normal=normal)
    q = posterior(torch.tensor([1.0, 30.0, 1e4])[:, None] * torch.randn(3, 3))
    z, log_q = q.rsample_and_log_prob(torch.Size([2000]))
    integrand = log_q - prior().log_prob(z)
    assert (integrand.mean(0) + 5 * integrand.std(0) / 2000**0.5 > 0).all()
    assert ((log_q - q.log_prob(z)).abs() < 0.5).float().mean() > 0.999


@pytest.mark.parametrize("dim", [1, 4, 16, 64])
@pytest.mark.parametrize("normal", [WrappedNormal, RiemannianNormal])
def test_the_largest_scale_keeps_the_samples_in_reach(dim, normal):
    scale = torch.full((normal.scales(dim),), normal.largest_scale(dim, BALL, 5.0))
    distances = BALL.log0(normal(torch.zeros(dim), scale, BALL).sample((20_000,))).norm(dim=-1)
    assert float((distances < 5).float().mean()) > 0.98 and distances.median() > 0.8


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("learned", [True, False])
def test_the_scale_of_the_hyperbolic_prior_is_a_setting_or_learned(learned, normal):
    prior = PoincarePrior(2, scale=0.4, learned=learned, normal=normal)
    assert len(list(prior.parameters())) == learned
    distances = prior.ball.log0(prior().rsample((MANY,)))
    assert float(distances.detach().std()) == pytest.approx(0.4, rel=0.04)
    score = prior().log_prob(distances.detach()[:5] / 9).sum()
    assert prior().batch_shape == () and score.requires_grad == learned


# Products.


def product_parts(**settings: object) -> tuple[ProductPosterior, ProductPrior]:
    def of(kind: type, **fixed: object):
        return lambda dim: kind(dim=dim, **fixed)

    posterior = {
        "sphere": of(PowerSphericalPosterior, in_features=6),
        "euclidean": of(DiagonalGaussian, in_features=6),
        "ball": of(PoincarePosterior, in_features=6),
    }
    prior = {
        "sphere": of(HypersphericalUniformPrior),
        "euclidean": of(StandardNormal),
        "ball": of(PoincarePrior),
    }
    return ProductPosterior(8, posterior, **settings), ProductPrior(8, prior, **settings)


def test_a_product_is_its_factors_side_by_side():
    posterior, prior = product_parts()
    assert posterior.dims == prior.dims == [3, 3, 2]
    assert posterior.support == prior.support == "sphere × euclidean × ball of curvature -1"
    features = torch.randn(4, 6)
    q, p = posterior(features), prior()
    z = q.rsample((5,))
    assert (z.shape, q.mean.shape, q.batch_shape, p.batch_shape) == ((5, 4, 8), (4, 8), (4,), ())
    for distribution in (q, p):
        factors = zip(distribution.factors, z.split([3, 3, 2], -1), strict=True)
        expected = sum(factor.log_prob(piece) for factor, piece in factors)
        torch.testing.assert_close(distribution.log_prob(z), expected)
    torch.testing.assert_close(z[..., :3].norm(dim=-1), torch.ones(5, 4))
    assert p.sample((7,)).shape == (7, 8)


def test_the_kl_of_a_product_is_the_sum_where_every_factor_has_one():
    sphere, flat = power_spherical(3, 2.0, 9.0), DiagonalGaussian(6, 2).double()
    q = ProductDistribution([sphere, flat(torch.randn(2, 6, dtype=torch.float64))])
    p = ProductDistribution(
        [HypersphericalUniform(torch.zeros(3, dtype=torch.float64)), StandardNormal(2).double()()]
    )
    estimate, error = monte_carlo_kl(q, p)
    assert ((kl_divergence(q, p) - estimate).abs() < 5 * error).all()
    posterior, prior = product_parts()
    assert closed_form_kl(posterior(torch.randn(2, 6)), prior()) is None  # the ball has none


def test_an_expanded_distribution_has_the_density_of_the_one_it_was():
    posterior, prior = product_parts()
    for distribution in (posterior(torch.randn(4, 6)), prior(), riemannian_normal(3, 0.4)):
        wide = distribution.expand(torch.Size([5, *(distribution.batch_shape or (4,))]))
        z = wide.rsample()
        assert z.shape == wide.batch_shape + wide.event_shape == wide.mean.shape
        torch.testing.assert_close(wide.log_prob(z), distribution.log_prob(z))


def test_dimensions_that_do_not_add_up_are_named():
    assert product_parts(dims=[2, 5, 1])[0].dims == [2, 5, 1]
    for dims in ([2, 2, 2], [4, 4]):
        with pytest.raises(
            UserError, match=r"sphere, euclidean, ball.*adding up to model.latent_dim=8"
        ):
            product_parts(dims=dims)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PowerSphericalPosterior(4, 1), "choose model.latent_dim=2 or more"),
        (lambda: HypersphericalUniformPrior(1), "choose model.latent_dim=2 or more"),
        (lambda: PoincarePosterior(4, 2, curvature=0.0), "curvature=0.0 of model.posterior"),
        (lambda: PoincarePrior(2, scale=-1.0), "model.prior.scale=-1.0 must be positive and"),
        (
            lambda: PoincarePrior(16, normal="riemannian"),
            "at most 0.72, as far as fp32 reaches with a riem",
        ),
        (lambda: PoincarePosterior(4, 2, normal="flat"), "choices: wrapped, riemannian"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


# Paths.


def test_geodesics_of_the_sphere_are_great_circles():
    prior = HypersphericalUniformPrior(4)
    z_a, z_b = directions(2, 6, 4)
    path = latent_path(z_a, z_b, 9, "geodesic", manifold=prior)
    torch.testing.assert_close(path.norm(dim=-1), torch.ones(9, 6, dtype=torch.float64))
    torch.testing.assert_close(path[[0, -1]], torch.stack([z_a, z_b]))
    angles = (path[1:] * path[:-1]).sum(-1).acos()
    torch.testing.assert_close(angles, (z_a * z_b).sum(-1).acos().expand(8, 6) / 8)


def test_geodesics_of_the_ball_are_the_shortest_paths():
    prior = PoincarePrior(3, curvature=BALL.curvature)
    z_a, z_b = BALL.exp0(2 * torch.randn(2, 6, 3, dtype=torch.float64))
    path = latent_path(z_a, z_b, 9, "geodesic", manifold=prior)
    torch.testing.assert_close(path[[0, -1]], torch.stack([z_a, z_b]))
    steps = BALL.log(path[:-1], path[1:]).norm(dim=-1)
    torch.testing.assert_close(steps, BALL.log(z_a, z_b).norm(dim=-1).expand(8, 6) / 8)
    straight = latent_path(z_a, z_b, 9, "linear", manifold=prior)
    assert (BALL.log(straight[:-1], straight[1:]).norm(dim=-1).sum(0) > steps.sum(0)).all()


def test_geodesics_of_a_product_follow_every_factor():
    posterior, prior = product_parts()
    z_a, z_b = posterior(torch.randn(2, 4, 6)).mean
    path = latent_path(z_a, z_b, 5, "geodesic", manifold=prior)
    pieces = [one.split(posterior.dims, -1) for one in (z_a, z_b)]
    for part, name in enumerate(("sphere", "euclidean", "ball")):
        ends = pieces[0][part], pieces[1][part]
        kind = "linear" if name == "euclidean" else "geodesic"
        expected = latent_path(*ends, 5, kind, manifold=prior.factors[name])
        torch.testing.assert_close(path.split(posterior.dims, -1)[part], expected)


def test_a_flat_space_without_a_metric_has_no_geodesic():
    with pytest.raises(NotImplementedError, match="or a curved latent space"):
        latent_path(torch.zeros(1, 2), torch.ones(1, 2), 3, "geodesic", manifold=StandardNormal(2))


# The variants.


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_stays_finite_in_bfloat16_and_follows_to(tiny_vae, name):
    model = tiny_vae(f"model={name}")
    x = torch.rand(6, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.step(x)[1].loss
        q = model.encode(x)
    loss.backward()
    assert loss.dtype == q.mean.dtype == torch.float32 and torch.isfinite(loss)
    for parameter in model.parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any()
    model.double()
    assert model.sample(3).dtype == torch.float64
    assert model.log_likelihood(x.double(), 4).shape == (6,)


@pytest.mark.parametrize("name", VARIANTS)
def test_posterior_and_prior_of_a_variant_share_a_space(tiny_vae, name):
    model = tiny_vae(
        f"model={name}", *([] if name != "poincare_vae" else ["model.posterior.curvature=0.5"])
    )
    latent = model.latent
    assert latent.posterior.support == latent.prior.support != "euclidean"
    x = torch.rand(5, 1, 8, 8)
    assert torch.isfinite(model.energy(x)).all()
    path = latent_path(*model.encode(x).mean[:2, None], 4, "geodesic", manifold=latent.prior)
    assert path.shape == (4, 1, 4) and model.decode(path).mean.shape == (4, 1, 1, 8, 8)
