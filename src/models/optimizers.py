"""The optimiser and scheduler that a model's config names."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from src.utils.build import build


def build_optimizers(
    model: nn.Module,
    objective: nn.Module,
    config: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    clipped_late: bool,
) -> Any:
    """What Lightning's ``configure_optimizers`` is to answer.

    A critic that the objective owns is a group of parameters of its own, with the settings of
    ``objective.critic_optimizer``.

    Args:
        model: whose parameters are optimised.
        objective: the model's.
        config: of a ``torch.optim`` class.
        scheduler: ``curve`` and ``interval``; empty for a constant learning rate.
        clipped_late: gradients are clipped after a mixed precision has scaled them.
    """
    config = dict(config)
    if config.get("fused") and clipped_late:
        config["fused"] = (
            False  # a fused optimiser unscales gradients inside its kernel, too late to clip them
        )
    optimizer = build(config, _groups(model, objective))
    if not scheduler:
        return optimizer
    curve = build(scheduler["curve"], optimizer)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": curve, "interval": scheduler["interval"]},
    }


def _groups(model: nn.Module, objective: Any) -> list[Any]:
    if not hasattr(objective, "critic_parameters"):
        return list(model.parameters())
    critic = list(objective.critic_parameters())
    own = {id(parameter) for parameter in critic}
    others = [parameter for parameter in model.parameters() if id(parameter) not in own]
    return [{"params": others}, {"params": critic, **objective.critic_optimizer}]
