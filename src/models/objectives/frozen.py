"""Modules held fixed inside a loss that others learn from."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.func import functional_call


def frozen(module: nn.Module) -> Callable[..., Any]:
    """``module`` as a function whose parameters get no gradient, while its arguments do.

    With it one backward pass routes gradients that would otherwise take several: nothing is left over on a parameter
    that has to be cleared, and distributed training and accumulation see one loss. Running values are copies, so that
    what such a call observes is not counted.
    """
    fixed = {name: parameter.detach() for name, parameter in module.named_parameters()}
    fixed |= {name: buffer.clone() for name, buffer in module.named_buffers()}
    return lambda *arguments: functional_call(module, fixed, arguments)
