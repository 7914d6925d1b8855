"""Models of sequences: the bounds they optimise, layouts, and gradients to every parameter."""

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from src.models.distributions import UnitNormal, closed_form_kl
from src.models.objectives.elbo import kl
from src.models.priors import GaussianProcessPrior, StandardNormal
from src.utils.errors import UserError

SHAPE = "data.shape=[4,3,8,8]"
MODELS = ("vanilla_sequence", "lvae_iaf", "hybrid", "riemannian_flow", "gp_vae")
CHAINS = ("lvae_iaf", "hybrid", "riemannian_flow")


def fit_metric_of(model, seed=0):
    """Give a model with a fitted metric one that is not Euclidean."""
    x = torch.rand(60, *model.shape)
    points = model.latent.point(x)
    model.latent.refresh_metric(points, 2 * torch.randn(60, 4), seed)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_of_a_sequence_model_learns(tiny_vae, name):
    model = tiny_vae(f"model={name}", SHAPE)
    if model.latent.metric is not None:
        fit_metric_of(model)
    torch.manual_seed(3)  # a longitudinal model draws a later frame
    for _ in range(3):
        model.step(torch.rand(6, *model.shape))[1].loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
    # The second half of the head is log σ²: the reference's Riemannian posterior never trained it.
    head = model.latent.posterior.head
    assert (head.weight.grad[head.out_features // 2 :].abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_of_a_sequence_model_decreases(tiny_vae, name):
    model = tiny_vae(f"model={name}", SHAPE)
    if model.latent.metric is not None:
        fit_metric_of(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    base = torch.rand(12, 1, 3, 8, 8)
    x = torch.cat([base.roll(t, -1) for t in range(4)], 1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.step(x)[1].loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_model_answers_what_every_model_answers(tiny_vae, name):
    model = tiny_vae(f"model={name}", SHAPE).eval()
    x = torch.rand(3, *model.shape)
    with torch.no_grad():
        assert model.reconstruct(x).shape == x.shape
        assert model.sample(5).shape == (5, *model.shape)
        assert model.interpolate(x[:2], x[1:], 4, "slerp").shape == (4, 2, *model.shape)
        assert torch.isfinite(model.log_likelihood(x, 9)).all()
        assert model.energy(x).shape == (3,)
        z = model.encode(x).mean
        states = model.latent.trajectory(z)
        assert states.shape == (3, 4, 4)
        # Single frames and whole sequences are decoded alike, and no frame lands at another's place.
        frames = model.latent.decode_frames(states)
        assert torch.allclose(frames, model.decode(z).mean, atol=1e-6)
    if model.latent.metric is None:
        with pytest.raises(
            NotImplementedError, match="geodesics need a model with a latent metric"
        ):
            model.interpolate(x[:2], x[1:], 4, "geodesic")
    else:
        fit_metric_of(model)
        path = model.interpolate(x[:2], x[1:], 5, "geodesic").detach()
        assert torch.allclose(path[0], model.reconstruct(x[:2]), atol=1e-5)
        assert torch.allclose(path[-1], model.reconstruct(x[1:]), atol=1e-5)


def test_only_the_first_frame_is_seen_by_a_chain_and_every_frame_by_its_likelihood(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE).eval()
    x = torch.rand(3, *model.shape)
    other = x.clone()
    other[:, 1:] = torch.rand_like(other[:, 1:])
    assert torch.equal(model.encode(x).mean, model.encode(other).mean)
    assert not torch.allclose(model.energy(x), model.energy(other))


def test_the_chain_elbo_has_no_log_determinant(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE).eval()
    x = torch.rand(3, *model.shape)
    draw, terms = model.step(x)
    expected = kl_divergence(draw.q, draw.p) - draw.log_px.mean(0)
    elbo_terms = terms.values["recon_nll"] + terms.values["kl"]
    assert torch.allclose(elbo_terms, expected, atol=1e-4)
    assert set(terms.values) == {"recon_nll", "kl", "loop"}


def test_the_loop_term_is_that_of_the_raw_last_state(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE, "model.objective.terms.loop=7").eval()
    draw, terms = model.step(torch.rand(3, *model.shape))
    states, _ = model.latent.chain(draw.z[0])
    expected = (states[:, -1] - states[:, 0]).square().mean(-1)
    assert torch.allclose(terms.values["loop"], expected, atol=1e-6)
    assert (expected > 0).all()
    plain = terms.means["recon_nll"] + terms.means["kl"] + 7 * terms.means["loop"]
    assert torch.allclose(terms.loss, plain)


def test_a_weight_of_a_term_that_the_latent_does_not_have_is_refused(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE, "+model.objective.terms.lop=1")
    with pytest.raises(UserError, match="terms.lop.*loop"):
        model.step(torch.rand(3, *model.shape))


def test_the_longitudinal_density_follows_from_the_change_of_variables(tiny_vae):
    model = tiny_vae("model=lvae_iaf", "model/posterior=diagonal_gaussian", SHAPE).double()
    for parameter in model.latent.chain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.rand(2, *model.shape, dtype=torch.float64)
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        j = int(torch.randint(4, ()))
        torch.manual_seed(seed)
        draw = model.latent.infer(x, k=1)
        if j == 0:
            assert draw.own_log_qz is None
            continue
        seen.add(j)
        z_0 = draw.z[0].detach()
        z_j = model.latent.chain(z_0)[0][:, j]
        jacobian = torch.autograd.functional.jacobian(
            lambda z, j=j: model.latent.chain(z[None])[0][0, j], z_0[0]
        )
        log_q_j = model.latent.encode_point(x[:, j]).log_prob(z_j)[0]
        expected = log_q_j + torch.linalg.slogdet(jacobian)[1]
        assert torch.allclose(draw.log_qz[0, 0], expected, atol=1e-6)
        # No closed form is taken of a posterior that z_0 is not drawn from.
        assert torch.allclose(kl(draw), (draw.log_qz - draw.log_pz).mean(0))
    assert len(seen) == 3


def test_the_density_of_the_iaf_posterior_at_its_samples_is_its_density(tiny_vae):
    model = tiny_vae("model=vae", "model/posterior=iaf").double()
    for parameter in model.latent.posterior.flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    q = model.encode(torch.rand(5, *model.shape, dtype=torch.float64))
    z, log_q = q.rsample_and_log_prob(torch.Size((7,)))
    assert z.shape == (7, 5, 4)
    assert torch.allclose(q.log_prob(z), log_q, atol=1e-8)
    draw = model.latent.infer(torch.rand(5, *model.shape, dtype=torch.float64), k=3)
    assert draw.own_log_qz is not None


def monte_carlo_kl(q, p, n=100_000):
    z = q.sample((n,))
    values = q.log_prob(z) - p.log_prob(z)
    return values.mean(0), 5 * values.std(0) / n**0.5


def test_the_kl_of_the_riemannian_gaussian_is_its_monte_carlo_mean(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE)
    fit_metric_of(model)
    with torch.no_grad():
        q = model.encode(torch.rand(3, *model.shape))
        p = model.prior()
        assert isinstance(q, MultivariateNormal) and isinstance(p.base_dist, UnitNormal)
        found, tolerance = monte_carlo_kl(q, p)
        assert ((kl_divergence(q, p) - found).abs() < tolerance).all()


def test_the_riemannian_gaussian_is_diagonal_while_the_metric_is_euclidean(tiny_vae):
    model = tiny_vae("model=hybrid", SHAPE)
    x = torch.rand(3, *model.shape)
    before = model.encode(x).covariance_matrix
    assert torch.allclose(before, before.diagonal(dim1=1, dim2=2).diag_embed(), atol=1e-7)
    fit_metric_of(model)
    q = model.encode(x)
    sigma = before.diagonal(dim1=1, dim2=2).sqrt()
    expected = sigma[:, :, None] * model.latent.metric().inverse(q.mean) * sigma[:, None]
    assert torch.allclose(q.covariance_matrix, expected, rtol=1e-4, atol=1e-6)


def test_the_kl_to_the_gaussian_process_is_its_monte_carlo_mean():
    prior = GaussianProcessPrior(dim=2, length=4, lengthscale=1.5)()
    q = Independent(Normal(torch.randn(3, 4, 2), 0.5 + torch.rand(3, 4, 2)), 2)
    found, tolerance = monte_carlo_kl(q, prior)
    assert ((kl_divergence(q, prior) - found).abs() < tolerance).all()


@pytest.mark.parametrize("kernel", ["cauchy", "rbf", "periodic"])
def test_samples_of_the_gaussian_process_have_its_covariance(kernel):
    length = 9
    prior = GaussianProcessPrior(2, length, kernel, lengthscale=1.5, noise=1e-3)()
    z = prior.sample((40_000,))
    covariance = torch.einsum("ntd,nsd->ts", z, z) / z.shape[0] / 2
    assert torch.allclose(covariance, prior.factor @ prior.factor.T, atol=0.03)
    assert torch.allclose(covariance.diagonal(), torch.ones(length), atol=0.03)
    if kernel == "periodic":  # the last frame is the first
        assert covariance[0, -1] > 0.95
    else:
        assert covariance[0, 1] > covariance[0, 4] > covariance[0, 8]
    full = MultivariateNormal(torch.zeros(length), prior.factor @ prior.factor.T)
    expected = full.log_prob(z[:5].mT).sum(-1)
    assert torch.allclose(prior.log_prob(z[:5]), expected, atol=1e-2)


def test_a_vamp_prior_is_the_mixture_of_its_pseudo_inputs_posteriors(tiny_vae):
    model = tiny_vae("model=lvae_iaf", "model/prior=vamp", "model.prior.components=6", SHAPE).eval()
    inputs = model.latent.prior.inputs.sigmoid()
    assert inputs.shape == (6, 3, 8, 8)
    z = torch.randn(5, 4)
    with torch.no_grad():
        components = torch.stack(
            [model.latent.encode_point(u[None]).log_prob(z[:, None])[:, 0] for u in inputs]
        )
        expected = components.logsumexp(0) - torch.tensor(6.0).log()
        assert torch.allclose(model.prior().log_prob(z), expected, atol=1e-3)
    # Borrowed, not owned: the encoder's tensors stand in the state once.
    own = len(model.latent.encoder.state_dict())
    assert sum("encoder." in name for name in model.state_dict()) == own


def test_no_closed_form_means_none():
    q = Independent(Normal(torch.zeros(2, 3), torch.ones(2, 3)), 1)
    assert closed_form_kl(q, StandardNormal(3)()) is not None
    assert closed_form_kl(q, GaussianProcessPrior(3, 4)()) is None


def test_a_latent_of_frames_is_diagnosed_per_sequence_and_scored_with_its_samples(tiny_vae):
    model = tiny_vae(
        "model=vanilla_sequence", "model/posterior=iaf", "model/metric=fitted", SHAPE
    ).eval()
    fit_metric_of(model)
    x = torch.rand(5, *model.shape)
    with torch.no_grad():
        mean = model.encode(x).mean
        found = model.latent.diagnostics(x, mean, model.decode(mean).mean)
        assert all(value.shape == (5,) for value in found.values())
        expected = model.latent.metric().at(mean).log10_condition().mean(1)
        assert torch.allclose(found["metric_log10_condition"], expected)
        draw = model.latent.infer(x, k=3)
        assert draw.own_log_qz is not None  # one pass of the flow, not D
        assert torch.allclose(draw.own_log_qz, draw.q.log_prob(draw.z), atol=1e-3)


def test_a_term_without_a_weight_is_only_reported(tiny_vae):
    model = tiny_vae("model=lvae_iaf", SHAPE).eval()
    _, terms = model.step(torch.rand(3, *model.shape))
    assert float(terms.means["loop"]) > 0
    assert torch.allclose(terms.loss, terms.means["recon_nll"] + terms.means["kl"])


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        ("hvae", "model.latent.beta_zero=0"),
        ("hvae", "model.latent.steps=0"),
        ("rhvae", "model.metric.temperature=0"),
        ("rhvae", "model.metric.regularization=0"),
        ("gp_vae", "model.prior.noise=0"),
        ("gp_vae", "model.prior.lengthscale=0"),
        ("gp_vae", "model.prior.kernel=square"),
        ("riemannian_flow", "model.prior.steps=0"),
    ],
)
def test_an_impossible_setting_is_refused_in_a_sentence(tiny_vae, model, setting):
    name = setting.split("=")[0].split(".")[-1]
    with pytest.raises(UserError, match=name):
        tiny_vae(f"model={model}", setting)


def test_autocast_leaves_the_geometry_alone(tiny_vae):
    model = tiny_vae("model=riemannian_flow", SHAPE)
    fit_metric_of(model)
    mean = torch.randn(3, 4)
    point = model.latent.metric().at(mean)
    q = model.encode(torch.rand(3, *model.shape))
    expected = point.raise_(mean)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(point.raise_(mean), expected)
        torch.manual_seed(0)
        z = q.rsample((5,))
    torch.manual_seed(0)
    assert torch.equal(z, q.rsample((5,)))
