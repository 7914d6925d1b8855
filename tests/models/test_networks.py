"""Networks: any picture size, vectors, and gradients everywhere."""

import operator

import pytest
import torch
from torch import nn

from src.models import networks
from src.models.networks.conv import Conv, ConvTranspose, ResidualConv
from src.models.networks.mlp import ResidualLinear
from src.utils.errors import UserError

PICTURES = [(1, 8, 8), (3, 64, 64), (1, 28, 28), (3, 33, 47), (2, 128, 128), (3, 8, 128)]
CASES = [(family, shape) for family in ("Conv", "ResNet", "MLP") for shape in PICTURES] + [
    ("MLP", (90,)),
    ("ResNet", (90,)),
]
NARROW = {"channels": 12, "max_channels": 20}  # 12 and 20: channel counts that 8 does not divide


def pair(family: str, shape: tuple[int, ...], parameters: int = 1) -> tuple[nn.Module, nn.Module]:
    """An encoder to 10 features and a decoder from 5 latents."""
    extra = {} if family == "MLP" else NARROW
    encoder = getattr(networks, f"{family}Encoder")(shape, out_features=10, **extra)
    return encoder, getattr(networks, f"{family}Decoder")(
        5, shape, parameters=parameters, width=10, **extra
    )


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_sizes_follow_the_data(family, shape):
    encoder, decoder = pair(family, shape, parameters=2)
    assert encoder(torch.rand(3, *shape)).shape == (3, 10) == (3, encoder.out_features)
    assert decoder(torch.randn(3, 5)).shape == (3, 2, *shape)


@pytest.mark.parametrize(
    ("family", "shape"), [case for case in CASES if case[1] in [(3, 33, 47), (3, 8, 128), (90,)]]
)
def test_every_parameter_learns(family, shape):
    # Residual blocks start at the identity, so what lies before their last layer learns from the second step on.
    for network, given in zip(
        pair(family, shape), (torch.rand(16, *shape), torch.randn(16, 5)), strict=True
    ):
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            network(given).square().mean().backward()
            optimizer.step()
        for name, parameter in network.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("kind", "odd"), [(Conv, ()), (ConvTranspose, ((0, 1),))])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_compiled_convolution_adds_its_bias_apart_and_is_the_same(kind, odd, mixed):
    torch.manual_seed(0)
    layer, h = kind(2, 3, 4, 2, 1, *odd), torch.randn(4, 2, 9, 6, requires_grad=True)
    graphs = []

    def record(graph, inputs):
        graphs.append(graph)
        return graph.forward

    found = []
    for call in (layer, torch.compile(layer, backend=record)):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            result = call(h)
        upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad(result, [h, *layer.parameters()], upstream.to(result.dtype))
        found.append([result, *gradients])
    tolerance = {"rtol": 0.02, "atol": 0.02} if mixed else {}
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, **tolerance)
    assert operator.add in {node.target for node in graphs[0].graph.nodes}


@pytest.mark.parametrize(
    ("block", "h"),
    [
        (ResidualLinear(6, "gelu"), torch.randn(4, 6)),
        (ResidualConv(6, "silu"), torch.randn(4, 6, 5, 3)),
    ],
)
def test_residual_blocks_start_at_the_identity_and_keep_the_skip(block, h):
    torch.testing.assert_close(block(h), h, rtol=0, atol=0)
    nn.init.constant_(
        block.body[-1].bias, 2.0
    )  # whatever the body says is added, so the input always passes
    torch.testing.assert_close(block(h), h + 2)
    nn.init.normal_(block.body[-1].weight)
    torch.testing.assert_close(block(h) - h, block.body(h))


@pytest.mark.parametrize("family", ["Conv", "ResNet"])
@pytest.mark.parametrize("shape", [(1, 7, 8), (1, 8, 4), (8, 8)])
def test_pictures_that_are_too_small_are_refused(family, shape):
    for half in ("Encoder", "Decoder"):
        arguments = (shape,) if half == "Encoder" else (5, shape)
        with pytest.raises(
            UserError,
            match=f"{family}{half} takes pictures .* not \\[{', '.join(map(str, shape))}\\]",
        ):
            getattr(networks, f"{family}{half}")(*arguments)


def test_a_vector_is_no_picture():
    with pytest.raises(
        UserError, match=r"ConvEncoder takes pictures of shape \[C, H, W\].*not \[90\]"
    ):
        networks.ConvEncoder((90,))
    with pytest.raises(UserError, match=r"ConvDecoder takes pictures"):
        networks.ConvDecoder(4, (90,))


def test_an_unknown_activation_names_the_choices():
    with pytest.raises(UserError, match="'swish' is unknown; choices: relu, gelu"):
        networks.MLPEncoder((4,), act="swish")


def test_convolutions_look_at_neighbours_only():
    # One pixel reaches the features through the strided windows that hold it, so a far pixel leaves that path alone.
    encoder = networks.ConvEncoder((1, 64, 64), out_features=4, channels=4)
    first = encoder.net[0]
    x = torch.zeros(1, 1, 64, 64)
    changed = x.clone()
    changed[..., 20, 40] = 1
    touched = (first(changed) != first(x)).any(1)[0].nonzero()
    assert len(touched) == 4 and (touched - torch.tensor([10, 20])).abs().max() <= 1
