"""The optimiser and scheduler that a model's config names."""

from typing import TYPE_CHECKING, Any

from torch import nn

from src.utils.build import build
from src.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from src.models.vae import VAE

LR_RULES = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


def build_optimizers(model: "VAE") -> Any:
    """What Lightning's ``configure_optimizers`` is to answer, from the model's config.

    A critic that the objective owns is a group of parameters of its own, with the settings of
    ``objective.critic_optimizer``.
    """
    trainer = model._trainer  # none in a training loop of one's own
    config, scheduler = dict(model.optimizer_config), model.scheduler_config
    if trainer and trainer.gradient_clip_val and "mixed" in str(trainer.precision):
        # A fused optimiser unscales gradients inside its kernel, too late to clip them.
        config |= {"fused": False} if config.get("fused") else {}
    optimizer = build(config, _groups(model, model.objective))
    for group in optimizer.param_groups:
        group["lr"] *= lr_factor(trainer, model.lr_scaling)
    if not scheduler:
        return optimizer
    curve = build(scheduler["curve"], optimizer)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": curve, "interval": scheduler["interval"]},
    }


def lr_factor(trainer: Any, rule: str) -> float:
    """What learning rates are multiplied by where a step sees k batches: processes × accumulated ones.

    Args:
        rule: ``none`` for 1; ``linear`` for k (Goyal et al. 2017, arXiv:1706.02677); ``sqrt`` for √k, which keeps the
            noise of adaptive optimisers (Malladi et al. 2022, arXiv:2205.10287).
    """
    batches = trainer.world_size * trainer.accumulate_grad_batches if trainer else 1
    return float(batches ** LR_RULES[rule])


def known_rule(rule: str) -> str:
    """``rule``, if it is one of ``lr_factor``.

    Raises:
        UserError: it is not.
    """
    if rule not in LR_RULES:
        raise UserError(f"model.lr_scaling={rule} is unknown{nearest(str(rule), LR_RULES)}")
    return rule


def _groups(model: nn.Module, objective: Any) -> list[Any]:
    """Parameters: what a part names ``undecayed`` has no weight decay, and a critic its own settings."""
    critic = [*objective.critic_parameters()] if hasattr(objective, "critic_parameters") else []
    undecayed = [
        getattr(part, name) for part in model.modules() for name in getattr(part, "undecayed", ())
    ]
    apart = {id(parameter) for parameter in [*critic, *undecayed]}
    others = [parameter for parameter in model.parameters() if id(parameter) not in apart]
    groups: list[Any] = [{"params": others}]
    if undecayed:
        groups.append({"params": undecayed, "weight_decay": 0.0})
    if critic:
        groups.append({"params": critic, **objective.critic_optimizer})
    return groups if len(groups) > 1 else others
