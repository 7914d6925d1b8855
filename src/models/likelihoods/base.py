"""What the likelihoods share.

Every one takes the decoder's output with its parameter axis in front of the data's axes, (…, P, *shape), sums
over the data's axes and answers in nats. Probabilities are computed in fp32 under autocast.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, constraints

from src.models.distributions import bounded, full_precision
from src.utils.errors import UserError

Scale = Literal["fixed", "learned", "per_pixel", "optimal"]
# An element of a picture within it counts as right.
PIXEL_TOLERANCE = 0.1


class AroundPicture(Distribution):
    """Base of the distributions over all of x at once that have their mean as a parameter.

    Args:
        mean: (…, *shape).
        event_dim: how many axes the data has.
    """

    arg_constraints = {"loc": constraints.real}

    def __init__(self, mean: Tensor, event_dim: int) -> None:
        self.loc = mean
        split = mean.dim() - event_dim
        super().__init__(mean.shape[:split], mean.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc


class Likelihood(nn.Module):
    """Base of the likelihoods.

    Attributes:
        normalised: whether p(x | z) integrates, or sums, to 1 over what it takes.
        discrete: whether log p(x | z) is the log-probability of grey levels and not a log-density. The two have
            different units of volume, so that their values do not compare.
        pseudo: a score that is no probability of x at all, so that there is no bound on log p(x).
        support: the data range it takes: ``unit`` for [0, 1], ``rotation`` for rotation vectors, ``real`` for any.
        undecayed: names of its parameters that weight decay is to leave alone.
        kinds: the kinds of data it takes; None for any.

    Args:
        shape: the data's shape.
        parameters: decoder outputs an element.
        needed: how many that must be.
    """

    normalised = True
    discrete = False
    pseudo = False
    support = "real"
    kinds: tuple[str, ...] | None = None
    undecayed: tuple[str, ...] = ()

    def __init__(self, shape: Sequence[int], parameters: int = 1, needed: int = 1) -> None:
        super().__init__()
        if parameters != needed:
            raise UserError(
                f"model.likelihood.parameters={parameters}: this likelihood has {needed}"
            )
        self.event_dim = len(shape)

    def keep(self, name: str, value: float, learned: bool) -> None:
        """Store a number as a parameter, or as a buffer that is the config's and not the checkpoint's."""
        if learned:
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))
        else:
            self.register_buffer(name, torch.tensor(value), persistent=False)

    def parts(self, features: Tensor) -> Sequence[Tensor]:
        """(…, P, *shape) → P tensors (…, *shape) in fp32 or fp64."""
        axis = -1 - self.event_dim
        values = full_precision(features)
        # One parameter is a view; unbind would copy the gradient on its way back.
        return [values.squeeze(axis)] if values.shape[axis] == 1 else values.unbind(axis)

    def over_data(self, elements: Distribution) -> Distribution:
        """Independent elements (…, *shape) as one distribution over x (*shape)."""
        return Independent(elements, self.event_dim, validate_args=False)

    def errors(self, x: Tensor, decoded: Distribution) -> dict[str, Tensor]:
        """How far the decoded mean is from x (B, *shape), by the names of metrics, each (B,)."""
        error = (decoded.mean - x).abs()
        found = {"mse": error.square().flatten(1).mean(1)}
        if is_picture(x):
            right = (error < PIXEL_TOLERANCE).flatten(1)
            found["pixel_accuracy"] = right.float().mean(1)
        return found

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        raise NotImplementedError


def is_picture(x: Tensor) -> bool:
    """Whether a batch is of pictures (B, C, H, W) or of sequences of them (B, T, C, H, W)."""
    return x.dim() in (4, 5)


class ScaledLikelihood(Likelihood):
    """Base of the likelihoods of a location, which the decoder predicts, and a scale.

    ``scale`` says where that comes from: ``fixed``; ``learned``, one number for all elements; ``per_pixel``, predicted
    by the decoder too, e⁻⁶ to e⁶ (needs ``parameters=2``).

    Attributes:
        scales: the choices of ``scale``.
        log_name: what the log-scale is called in a state dict.

    Args:
        shape: the data's shape.
        scale: see above.
        start: the fixed scale, or the one that learning starts from, in the data's units.
        parameters: decoder outputs an element: 2 for ``per_pixel``, else 1.
    """

    scales: tuple[Scale, ...] = ("fixed", "learned", "per_pixel")
    log_name = "log_scale"

    def __init__(self, shape: Sequence[int], scale: Scale, start: float, parameters: int) -> None:
        if scale not in self.scales:
            raise UserError(
                f"model.likelihood.scale='{scale}' is unknown; choices: {', '.join(self.scales)}"
            )
        needed = 2 if scale == "per_pixel" else 1
        if parameters != needed:
            raise UserError(f"model.likelihood.scale={scale} needs parameters={needed}")
        if not start > 0:
            raise UserError(f"model.likelihood: the scale {start} must be positive")
        super().__init__(shape, parameters, needed)
        self.scale = scale
        self.keep(self.log_name, float(torch.tensor(float(start)).log()), scale == "learned")

    def location_and_scale(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Both (…, *shape)."""
        location, *predicted = self.parts(features)
        if predicted:
            return location, bounded(predicted[0], 6.0).exp()
        log_scale: Tensor = getattr(self, self.log_name)
        return location, log_scale.exp().expand_as(location)
