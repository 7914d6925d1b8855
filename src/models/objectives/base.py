"""What every objective shares: named terms, and weights that a callback may move."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from src.models.draw import Draw
from src.utils.errors import UserError, nearest


@dataclass
class Terms:
    """Named per-sample terms.

    Attributes:
        values: what is reported, each (B,) nats.
        weights: what each is multiplied by in the loss; a term without one is only reported.
        penalties: what enters the loss in a term's place where that differs from what is reported, as with free bits.
    """

    values: dict[str, Tensor]
    weights: dict[str, Tensor | float]
    penalties: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """The weighted sum; the batch mean is taken here and nowhere else."""
        means = [
            weight * self.penalties.get(name, self.values[name]).mean()
            for name, weight in self.weights.items()
        ]
        return torch.stack(means).sum()


class Objective(nn.Module):
    """Base of the objectives.

    A weight has a target, from the config, and a current value, which schedules move during training. Evaluation
    always uses the targets, so that the validation losses of a warm-up can be compared with those after it.

    Args:
        weights: name → target.
        num_samples: k, latent samples a data point in training.
    """

    current: Tensor
    target: Tensor

    def __init__(self, weights: dict[str, float], num_samples: int = 1) -> None:
        super().__init__()
        self.names = list(weights)
        self.num_samples = num_samples
        self.register_buffer(
            "target", torch.tensor([float(w) for w in weights.values()]), persistent=False
        )
        self.register_buffer("current", self.target.clone(), persistent=False)

    def weight(self, name: str) -> Tensor:
        """The weight in force: scheduled in training, the target in evaluation."""
        return (self.current if self.training else self.target)[self.names.index(name)]

    def set_weight(self, name: str, fraction: float) -> None:
        """Set a weight to ``fraction`` of its target.

        Raises:
            UserError: there is no weight of that name.
        """
        if name not in self.names:
            raise UserError(
                f"{type(self).__name__} has no weight '{name}' to schedule{nearest(name, self.names)}"
            )
        index = self.names.index(name)
        self.current[index] = self.target[index] * fraction

    def forward(self, draw: Draw) -> Terms:
        raise NotImplementedError
