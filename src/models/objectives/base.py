"""What every objective shares: named terms, and weights that a callback may move."""

import functools
from collections.abc import Mapping
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
        means: the batch means of what is reported.
    """

    values: dict[str, Tensor]
    weights: dict[str, Tensor | float]
    penalties: dict[str, Tensor] = field(default_factory=dict)
    means: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.means = {name: value.mean() for name, value in self.values.items()}

    @property
    def loss(self) -> Tensor:
        """The weighted sum of the batch means."""
        weighted = []
        for name, weight in self.weights.items():
            mean = self.penalties[name].mean() if name in self.penalties else self.means[name]
            weighted.append(mean if isinstance(weight, float) and weight == 1 else weight * mean)
        return functools.reduce(torch.add, weighted)


def prior_samples(draw: Draw, k: int) -> Tensor:
    """k samples of the prior for every row of the batch, (k · B, …); they get no gradient."""
    assert draw.p is not None  # src/models/compat.py refuses a model without
    shape = torch.Size((k,) if draw.p.batch_shape else (k, len(draw.x)))
    with torch.no_grad():
        return draw.p.sample(shape).flatten(0, 1)


class Objective(nn.Module):
    """Base of the objectives.

    A weight has a target, from the config, and a current value, which schedules move during training. Evaluation
    always uses the targets, so that the validation losses of a warm-up can be compared with those after it.

    An objective that needs more of the model than a draw has a method ``borrow_latent(latent)``. One that owns a critic
    has ``critic_loss(draw)`` and ``critic_parameters()``; see ``src.models.objectives.critics``.

    What an objective asks of the parts is told by class attributes, which ``src.models.compat`` reads:
    ``needs_density`` of the posterior, also ``needs_density_elsewhere`` than at its own samples, ``needs_factorised``
    into dimensions, and ``needs_freezable``: rebuilt with its parameters detached; ``needs_prior``;
    ``needs_probability`` likelihood; ``needs_vector``: one code (D,) a data point; ``needs_plain_samples`` of q(z | x),
    and ``needs_log_q`` at them, where a closed-form KL will not do; ``needs_standard_normal`` as prior.
    ``teaches_prior`` is false for one that only draws from the prior, ``teaches_likelihood`` for one that leaves
    p(x | z) alone; ``shardable`` for one that asks more of the networks than their output, so that all of their
    weights must lie in one process.

    Attributes:
        num_train: samples of the training split; 0 until a training or a test has begun.

    Args:
        weights: name → target.
        num_samples: k, latent samples a data point in training.
        terms: weights of the latent's own terms by name; the others are only reported.
    """

    needs_density = True
    needs_density_elsewhere = False
    needs_factorised = False
    needs_freezable = False
    needs_prior = True
    needs_probability = False
    needs_vector = False
    needs_plain_samples = False
    needs_log_q = False
    needs_standard_normal = False
    teaches_prior = True
    teaches_likelihood = True
    shardable = True
    num_train: Tensor

    def __init__(
        self,
        weights: dict[str, float],
        num_samples: int = 1,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.terms = tuple(terms or ())
        weights = weights | dict(terms or {})
        self.num_samples = num_samples
        self.register_buffer("num_train", torch.zeros(()), persistent=False)
        # On the host whatever the device, which takes them like numbers; tensors, because a compiled step would be
        # compiled anew for every number.
        self.target = {name: torch.tensor(float(weight)) for name, weight in weights.items()}
        self.current = {name: weight.clone() for name, weight in self.target.items()}

    def weight(self, name: str) -> Tensor:
        """The weight in force: scheduled in training, the target in evaluation."""
        return (self.current if self.training else self.target)[name]

    def latent_weights(self, draw: Draw) -> dict[str, Tensor | float]:
        """The weights of the latent's own terms.

        Raises:
            UserError: one is given for a term that the latent does not have.
        """
        if missing := [name for name in self.terms if name not in draw.aux]:
            raise UserError(
                f"model.objective.terms.{missing[0]} is no term of this model's latent{nearest(missing[0], draw.aux)}"
            )
        return {name: self.weight(name) for name in self.terms}

    def set_weight(self, name: str, fraction: float) -> None:
        """Set a weight to ``fraction`` of its target.

        Raises:
            UserError: there is no weight of that name.
        """
        if name not in self.target:
            raise UserError(
                f"{type(self).__name__} has no weight '{name}' to schedule{nearest(name, self.target)}"
            )
        self.current[name].copy_(self.target[name] * fraction)

    def forward(self, draw: Draw) -> Terms:
        raise NotImplementedError
