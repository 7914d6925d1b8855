"""Compiled training steps."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from src.utils.seeding import isolated_rng


def prepare_to_compile(model: Any) -> None:
    """Let torch look up and remember, in a step on zeros, what cannot be traced, such as which KL fits a pair."""
    model.eval()
    with torch.no_grad(), isolated_rng(0, model.device):
        model.losses(torch.zeros(2, *model.shape))
    model.train()
    # The models of a multirun's earlier jobs count against the limit of compilations.
    torch.compiler.reset()


@cache
def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step with one graph for each batch size: an epoch has two, and a graph for any size would be slower."""
    return torch.compile(step, dynamic=False)
