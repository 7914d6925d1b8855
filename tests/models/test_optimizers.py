"""Learning rates and the batches that a step sees."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from src.models.optimizers import known_rule, lr_factor
from src.utils.errors import UserError


@pytest.mark.parametrize("rule, expected", [("none", 1), ("sqrt", 8**0.5), ("linear", 8)])
def test_learning_rates_grow_with_processes_and_accumulation(rule: str, expected: float) -> None:
    trainer = SimpleNamespace(world_size=4, accumulate_grad_batches=2)
    assert lr_factor(trainer, rule) == pytest.approx(expected)
    assert lr_factor(None, rule) == 1


def test_an_unknown_rule_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"model\.lr_scaling=linar is unknown; nearest: 'linear'"):
        known_rule("linar")


def test_a_critic_s_learning_rate_grows_too(tiny_vae: Callable[..., Any]) -> None:
    model = tiny_vae("model=factor_vae", "model.lr_scaling=linear")
    model._trainer = SimpleNamespace(
        world_size=3, accumulate_grad_batches=1, gradient_clip_val=None, precision="32-true"
    )
    scaled = [group["lr"] for group in model.configure_optimizers().param_groups]
    model.lr_scaling = "none"
    plain = [group["lr"] for group in model.configure_optimizers().param_groups]
    assert len(plain) == 2 and scaled == pytest.approx([3 * lr for lr in plain])
