"""Autoregressive flows: exact inverses, exact log-determinants, close to the identity at first."""

import pytest
import torch
from torch.autograd.functional import jacobian

from src.models.networks import AutoregressiveFlow, FlowChain
from src.models.networks.flows import MAX_LOG_SCALE
from src.utils.errors import UserError

DIM = 5


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
