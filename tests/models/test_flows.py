"""Flows: exact inverses, exact log-determinants, close to the identity at first; the posteriors made of them."""

import pytest
import torch
from torch.autograd.functional import jacobian

from src.models.distributions import closed_form_kl
from src.models.flowed import FlowedDistribution
from src.models.networks import (
    AutoregressiveFlow,
    Flow,
    FlowChain,
    Inverted,
    PlanarFlow,
    RadialFlow,
    SplineFlow,
)
from src.models.networks.amortised_flows import above_minus_one
from src.models.networks.flows import MAX_LOG_SCALE
from src.models.posteriors import FlowPosterior
from src.models.priors import StandardNormal
from src.utils.errors import UserError

DIM = 5
CONTEXT = 3
INVERTIBLE = {
    "autoregressive": lambda c: AutoregressiveFlow(DIM, blocks=3, width=24, context=c),
    "inverted autoregressive": lambda c: Inverted(AutoregressiveFlow(DIM, 2, 24, context=c)),
    "spline": lambda c: SplineFlow(DIM, blocks=3, bins=4, width=24, context=c),
    "inverted spline": lambda c: Inverted(SplineFlow(DIM, blocks=2, bins=4, width=24, context=c)),
}
AMORTISED = {"planar": lambda c: PlanarFlow(DIM, 4, c), "radial": lambda c: RadialFlow(DIM, 4, c)}
FLOWS = INVERTIBLE | AMORTISED
WILD = AMORTISED | {"spline": INVERTIBLE["spline"]}
POSTERIORS = ["iaf", "planar", "radial", "nsf"]
VARIANTS = ["iaf_vae", "planar_vae", "radial_vae", "nsf_vae"]


def far_from_identity(flow: Flow, std: float = 0.25) -> Flow:
    """The flow in float64, its parameters drawn anew."""
    for parameter in flow.double().parameters():
        torch.nn.init.normal_(parameter, std=std)
    return flow


def points(*batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x (…, D) and contexts (last batch axis, C)."""
    x = torch.randn(*batch, DIM, dtype=torch.float64)
    return x, torch.randn(batch[-1], CONTEXT, dtype=torch.float64)


@pytest.fixture
def flow() -> AutoregressiveFlow:
    """A flow far from the identity, in float64."""
    built = AutoregressiveFlow(DIM, blocks=3, width=24, depth=2).double()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return built


@pytest.mark.parametrize("block", range(3))
def test_a_block_depends_on_the_dimensions_before_it_only(flow, block):
    x = torch.randn(DIM, dtype=torch.float64)
    found = jacobian(lambda v: flow.blocks[block](v)[0], x)
    triangle = found.triu(1) if block % 2 == 0 else found.tril(-1)
    assert torch.equal(triangle, torch.zeros_like(found))
    off_diagonal = found - found.diagonal().diag()
    assert (off_diagonal.abs() > 1e-6).sum() > DIM  # and on those it does depend


def test_inverse_after_forward_is_the_identity_and_the_log_determinants_cancel(flow):
    x = torch.randn(50, DIM, dtype=torch.float64)
    y, log_det = flow(x)
    back, back_log_det = flow.inverse(y)
    assert torch.allclose(back, x, atol=1e-10)
    assert torch.allclose(back_log_det, -log_det, atol=1e-10)
    assert (y - x).abs().max() > 0.5


def test_the_log_determinant_is_that_of_the_jacobian(flow):
    for x in torch.randn(4, DIM, dtype=torch.float64):
        expected = torch.linalg.slogdet(jacobian(lambda v: flow(v)[0], x))[1]
        assert torch.allclose(flow(x)[1], expected, atol=1e-10)


def test_a_flow_uses_its_context():
    flow = AutoregressiveFlow(DIM, context=3).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(4, DIM, dtype=torch.float64)
    c = torch.randn(2, 4, 3, dtype=torch.float64)
    assert not torch.allclose(flow(x, c[0])[0], flow(x, c[1])[0])
    # One context a data point, several samples of it.
    assert torch.allclose(flow(x.expand(6, 4, DIM), c[0])[0][2], flow(x, c[0])[0], atol=1e-6)
    back, _ = flow.inverse(flow(x, c[0])[0], c[0])
    assert torch.allclose(back, x, atol=1e-9)


def test_the_scale_of_a_block_is_bounded_and_still_has_a_gradient():
    flow = AutoregressiveFlow(DIM, blocks=1)
    flow.blocks[0].net[-1].bias.data.fill_(4.0)
    _, log_det = flow(torch.randn(3, DIM))
    assert (log_det.abs() < DIM * MAX_LOG_SCALE).all()
    log_det.sum().backward()
    assert (flow.blocks[0].net[-1].bias.grad[DIM:] > 0).all()


@pytest.mark.parametrize("length", [2, 8, 30])
def test_a_new_chain_keeps_the_norm(length):
    chain = FlowChain(16, length)
    z = torch.randn(200, 16)
    states, log_dets = chain(z)
    assert states.shape == (200, length, 16) and log_dets.shape == (200, length - 1)
    ratio = states[:, -1].norm(dim=-1) / z.norm(dim=-1)
    assert ((ratio > 0.5) & (ratio < 2)).all()


def test_walking_back_along_a_chain_returns_to_the_start():
    chain = FlowChain(DIM, 6, width=16).double()
    for parameter in chain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    z = torch.randn(20, DIM, dtype=torch.float64)
    states, log_dets = chain(z)
    for step in range(6):
        start, log_det = chain.back(states[:, step], step)
        assert torch.allclose(start, z, atol=1e-9)
        assert torch.allclose(log_det, -log_dets[:, :step].sum(-1), atol=1e-9)


def test_fewer_flows_than_steps_repeat_the_last_one():
    chain = FlowChain(DIM, 5, flows=2)
    states, _ = chain(torch.randn(3, DIM))
    assert len(chain.flows) == 2
    assert torch.equal(states[:, 4], chain.flows[1](states[:, 3])[0])


@pytest.mark.parametrize(("length", "flows"), [(1, None), (4, 0), (4, 4)])
def test_an_impossible_chain_is_refused(length, flows):
    with pytest.raises(UserError, match="flows="):
        FlowChain(DIM, length, flows=flows)


def test_one_dimension_is_refused():
    with pytest.raises(UserError, match="at least 2 dimensions"):
        AutoregressiveFlow(1)


@pytest.mark.parametrize("kind", FLOWS)
def test_the_log_determinant_with_a_context_is_that_of_the_jacobian(kind):
    flow = far_from_identity(FLOWS[kind](CONTEXT))
    x, contexts = points(6)
    y, log_det = flow(x, contexts)
    for one, context, found in zip(x, contexts, log_det, strict=True):
        matrix = jacobian(lambda v, c=context: flow(v, c)[0], one)
        assert torch.allclose(torch.linalg.slogdet(matrix)[1], found, atol=1e-9)
    assert log_det.abs().max() > 0.1 and (y - x).abs().max() > 0.1


@pytest.mark.parametrize("context", [0, CONTEXT])
@pytest.mark.parametrize("kind", INVERTIBLE)
def test_inverse_after_forward_is_the_identity(kind, context):
    flow = far_from_identity(INVERTIBLE[kind](context))
    x, contexts = points(4, 20)
    given = contexts if context else None
    y, log_det = flow(x, given)
    back, back_log_det = flow.inverse(y, given)
    assert y.shape == x.shape and log_det.shape == x.shape[:-1]
    assert torch.allclose(back, x, atol=1e-8) and torch.allclose(back_log_det, -log_det, atol=1e-8)
    assert (y - x).abs().max() > 0.5


@pytest.mark.parametrize("kind", FLOWS)
def test_a_new_flow_is_close_to_the_identity_and_still_sees_its_context(kind):
    flow = FLOWS[kind](CONTEXT).double()
    x, contexts = points(50)
    y, log_det = flow(x, contexts)
    assert (y - x).abs().max() < 0.1 and log_det.abs().max() < 0.1
    assert not torch.equal(y, flow(x, contexts.flip(0))[0])


@pytest.mark.parametrize("kind", FLOWS)
def test_several_samples_of_a_data_point_share_its_context(kind):
    flow = far_from_identity(FLOWS[kind](CONTEXT))
    x, contexts = points(3, 4)
    y, log_det = flow(x, contexts)
    for sample in range(3):
        y_one, log_det_one = flow(x[sample], contexts)
        assert torch.allclose(y[sample], y_one) and torch.allclose(log_det[sample], log_det_one)


@pytest.mark.parametrize("kind", ["autoregressive", "spline", "planar", "radial"])
def test_a_flow_is_one_graph_without_branches_on_data(kind):
    flow = FLOWS[kind](CONTEXT)
    x, contexts = torch.randn(2, 4, DIM), torch.randn(4, CONTEXT)
    traced = torch.compile(flow, backend="eager", fullgraph=True)
    for found, expected in zip(traced(x, contexts), flow(x, contexts), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_map_behind_the_constraints_is_above_minus_one_and_keeps_zero():
    raw = torch.tensor([-1e6, -20.0, -1.0, 0.0, 1e-3, 1.0, 20.0, 1e6])
    found = above_minus_one(raw)
    assert (found > -1).all() and abs(float(found[3])) < 1e-6
    assert (found.diff() >= 0).all() and (found[2:6].diff() > 0).all()


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_planar_layers_keep_to_the_constraint_and_to_the_direction_of_u(scale):
    flow = far_from_identity(PlanarFlow(DIM, 6, CONTEXT), scale)
    contexts = torch.randn(200, CONTEXT, dtype=torch.float64)
    u, w, _ = flow.layer_parameters(contexts)
    bent, w_again, _, reach = flow.directions(contexts)
    along = (w * bent).sum(-1)
    assert torch.allclose(along, reach[..., 0]) and (along > -1).all()
    assert ((w * u).sum(-1) < -1).any() == (scale >= 1)  # there was something to constrain
    # Only the part of u along w is changed.
    across = (bent - u) - ((bent - u) * w).sum(-1, keepdim=True) / w.square().sum(
        -1, keepdim=True
    ) * w
    assert torch.equal(w, w_again) and across.abs().max() < 1e-6 * scale


@pytest.mark.parametrize(("kind", "back"), [*((kind, False) for kind in WILD), ("spline", True)])
def test_wild_parameters_stay_finite_in_single_precision(kind, back):
    flow = far_from_identity(WILD[kind](CONTEXT), 3.0).float()
    x, contexts = 2 * torch.randn(2000, DIM), torch.randn(2000, CONTEXT)
    y, log_det = (flow.inverse if back else flow)(x.requires_grad_(), contexts)
    (y.sum() + log_det.sum()).backward()
    gradients = [value.grad for value in (x, *flow.parameters())]
    assert all(torch.isfinite(tensor).all() for tensor in (y, log_det, *gradients))


def test_a_radial_layer_moves_along_the_line_from_its_centre_and_never_past_it():
    flow = far_from_identity(RadialFlow(DIM, 1, CONTEXT), 3.0)
    x, contexts = points(300)
    centre = flow.layer_parameters(contexts)[0][:, 0]
    before, after = x - centre, flow(x, contexts)[0] - centre
    cosine = torch.cosine_similarity(before, after, dim=-1)
    assert torch.allclose(cosine, torch.ones_like(cosine))


@pytest.mark.parametrize("kind", AMORTISED)
def test_a_flow_without_an_inverse_says_so(kind):
    flow = AMORTISED[kind](CONTEXT)
    with pytest.raises(NotImplementedError, match="no inverse in closed form"):
        flow.inverse(*(value.float() for value in points(2)))
    with pytest.raises(UserError, match="no inverse, so that it cannot be inverted"):
        Inverted(flow)


def test_a_spline_is_the_identity_outside_its_bound_and_monotone_inside():
    flow = far_from_identity(SplineFlow(2, blocks=1, bins=5, width=16, bound=3.0))
    moved = torch.linspace(-4, 4, 801, dtype=torch.float64)
    x = torch.stack((torch.full_like(moved, 0.3), moved), -1)
    y, log_det = flow(x)
    outside = moved.abs() > 3
    assert torch.equal(y[outside], x[outside]) and (log_det[outside] == 0).all()
    assert (y[:, 1].diff() > 0).all() and torch.equal(y[:, 0], x[:, 0])
    assert (y - x).abs().max() > 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SplineFlow(1), "at least 2 dimensions"),
        (lambda: SplineFlow(4, bins=1), "bins=1"),
        (lambda: SplineFlow(4, bound=0.0), "bound=0.0"),
        (lambda: AutoregressiveFlow(4, blocks=0), "blocks=0"),
        (lambda: PlanarFlow(4, 0, 3), "layers=0"),
        (lambda: RadialFlow(4, 2, 0), "context=0"),
    ],
)
def test_an_impossible_flow_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.fixture(params=FLOWS)
def posterior(request) -> FlowPosterior:
    """A flow posterior on 6 features, far from Gaussian, in float64."""
    built = FlowPosterior(6, DIM, CONTEXT, FLOWS[request.param](CONTEXT)).double()
    far_from_identity(built.flow)
    return built


def test_the_density_that_comes_with_a_sample_is_that_of_the_samples(posterior):
    q = posterior(torch.randn(4, 6, dtype=torch.float64))
    z, log_q = q.rsample_and_log_prob(torch.Size((3,)))
    assert (z.shape, log_q.shape) == ((3, 4, DIM), (3, 4))
    if posterior.density_elsewhere:
        assert torch.allclose(log_q, q.log_prob(z), atol=1e-8)
        assert torch.allclose(q.log_prob_at_mean(), q.log_prob(q.mean), atol=1e-8)
    else:
        with pytest.raises(NotImplementedError, match="at its own samples only"):
            q.log_prob(z)


@pytest.mark.parametrize("kind", AMORTISED)
def test_the_density_of_own_samples_is_normalised_where_there_is_no_inverse(kind):
    # E_q[p/q] = 1 for whatever q covers p, here a p that is narrow and sits where q does.
    posterior = FlowPosterior(6, DIM, CONTEXT, AMORTISED[kind](CONTEXT)).double()
    far_from_identity(posterior.flow)
    with torch.no_grad():
        q = posterior(0.1 * torch.randn(1, 6, dtype=torch.float64))
        z, log_q = q.rsample_and_log_prob(torch.Size((50_000,)))
        ratio = (torch.distributions.Normal(q.mean, 0.3).log_prob(z).sum(-1) - log_q).exp()
    error = float(ratio.std() / len(ratio) ** 0.5)
    assert error < 0.05 and abs(float(ratio.mean()) - 1) < 4 * error


def test_the_density_at_the_mean_needs_no_inverse(posterior):
    q = posterior(torch.randn(4, 6, dtype=torch.float64))
    _, log_det = posterior.flow(q.base.mean, q.context)
    peak = -(q.base.stddev.log() + 0.5 * torch.tensor(2 * torch.pi).log()).sum(-1)
    torch.testing.assert_close(q.log_prob_at_mean(), peak - log_det)


def test_a_flow_posterior_expands_over_samples_and_has_no_closed_kl(posterior):
    q = posterior(torch.randn(4, 6, dtype=torch.float64))
    wide = q.expand((7, 4))
    assert isinstance(wide, FlowedDistribution) and wide.rsample().shape == (7, 4, DIM)
    assert torch.allclose(wide.mean[3], q.mean)
    assert closed_form_kl(q, StandardNormal(DIM).double()()) is None


@pytest.mark.parametrize("name", VARIANTS)
def test_one_step_of_a_flow_variant_reaches_every_parameter(tiny_vae, name):
    model = tiny_vae(f"model={name}")
    model.step(torch.rand(6, 1, 8, 8))[1].loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_flow_posterior_is_finite_in_bf16(tiny_vae, name):
    model = tiny_vae(f"model/posterior={name}")
    with torch.autocast("cpu", torch.bfloat16):
        draw, terms = model.step(torch.rand(6, 1, 8, 8))
    assert draw.z.dtype == draw.log_qz.dtype == torch.float32 and torch.isfinite(terms.loss)
