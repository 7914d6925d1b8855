"""Likelihoods of grey levels: probabilities of the L values j/(L−1) that a stored picture can have.

Their log-probabilities are at most 0 and do not compare with log-densities, which grow with every halving of the unit
in which the data is measured. A value between two levels counts as the nearer one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints
from torch.nn.functional import cross_entropy, logsigmoid, softplus

from src.models.distributions import full_precision
from src.models.likelihoods.base import Likelihood, Scale, ScaledLikelihood
from src.utils.errors import UserError


def nearest_level(value: Tensor, levels: int) -> Tensor:
    """The number j, 0 to L−1, of the level j/(L−1) next to a value."""
    return (value * (levels - 1)).round().clamp(0, levels - 1)


class DiscretisedLogistic(Distribution):
    """P(j/(L−1)) = σ((j/(L−1) + h − m)/s) − σ((j/(L−1) − h − m)/s), h = ½/(L−1); the outer levels take the tails.

    Args:
        loc: m, (…).
        scale: s, (…).
        levels: L.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Tensor, scale: Tensor, levels: int) -> None:
        self.loc, self.scale, self.levels = loc, scale, levels
        super().__init__(loc.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """E clip(y, 0, 1) of the logistic y before it is rounded to a level, which moves the mean by at most h."""
        above_zero = softplus(self.loc / self.scale)
        above_one = softplus((self.loc - 1) / self.scale)
        return self.scale * (above_zero - above_one)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            uniform = torch.rand(self._extended_shape(torch.Size(sample_shape))).to(self.loc)
            logistic = self.loc + self.scale * uniform.logit(eps=1e-7)
            return nearest_level(logistic, self.levels) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        # σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a−b)): a product, so that no two nearly equal numbers are subtracted.
        last = self.levels - 1
        level = nearest_level(value, self.levels)
        offset, half = level / last - self.loc, 0.5 / last
        below = logsigmoid((half + offset) / self.scale).masked_fill(level == last, 0)
        above = logsigmoid((half - offset) / self.scale).masked_fill(level == 0, 0)
        width = torch.log(-torch.expm1(-1 / (last * self.scale)))
        inner = (level > 0) & (level < last)
        return below + above + torch.where(inner, width, 0)


class DiscretisedLogisticLikelihood(ScaledLikelihood):
    """P(x | z), the mass that a logistic around decoder(z) with scale s has in the bin of every grey level.

    References:
        Kingma et al. 2016, arXiv:1606.04934; Salimans et al. 2017, PixelCNN++, arXiv:1701.05517, whose code replaces
        the difference of two sigmoids by a density where it is small; here it is a product that never is.

    Args:
        shape: the data's shape.
        levels: L, the grey levels of the stored data.
        scale: ``learned``, ``fixed`` or ``per_pixel``, see ``ScaledLikelihood``.
        s: (starting) scale, in the data's units.
        parameters: decoder outputs an element: 2 for ``per_pixel``, else 1.
    """

    discrete = True
    support = "unit"

    def __init__(
        self,
        shape: Sequence[int],
        levels: int,
        scale: Scale = "learned",
        s: float = 0.1,
        parameters: int = 1,
    ) -> None:
        _at_least_two("levels", levels)
        super().__init__(shape, scale, s, parameters)
        self.levels = levels

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        location, s = self.location_and_scale(features)
        return self.over_data(DiscretisedLogistic(location, s, self.levels))


class GreyLevels(Distribution):
    """A probability for each of the levels j/(L−1) of each element.

    Args:
        logits: (…, L, *shape), the levels where the decoder has them: to move that axis is to copy it.
        event_dim: how many axes the data has.
    """

    arg_constraints = {"logits": constraints.real}

    def __init__(self, logits: Tensor, event_dim: int) -> None:
        self.logits, self.axis = logits, logits.dim() - event_dim - 1
        self.levels = logits.shape[self.axis]
        batch, event = logits.shape[: self.axis], logits.shape[self.axis + 1 :]
        super().__init__(batch, event, validate_args=False)

    @property
    def mean(self) -> Tensor:
        grey = torch.arange(self.levels, device=self.logits.device) / (self.levels - 1)
        grey = grey.to(self.logits.dtype).view(-1, *[1] * len(self.event_shape))
        return (self.logits.softmax(self.axis) * grey).sum(self.axis)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        level = Categorical(logits=self.logits.movedim(self.axis, -1)).sample(
            torch.Size(sample_shape)
        )
        return level.to(self.logits.dtype) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        event = self.event_shape
        batch = torch.broadcast_shapes(value.shape[: value.dim() - len(event)], self.batch_shape)
        level = nearest_level(value, self.levels).long().expand(*batch, *event)
        logits = self.logits.expand(*batch, self.levels, *event)
        nats = cross_entropy(
            logits.reshape(-1, self.levels, *event), level.reshape(-1, *event), reduction="none"
        )
        return -nats.flatten(1).sum(1).view(batch)


class CategoricalLikelihood(Likelihood):
    """P(x | z) = softmax(decoder(z)) over the grey levels of every element, which need not be ordered or unimodal.

    References:
        van den Oord et al. 2016, Pixel Recurrent Neural Networks, arXiv:1601.06759, section 3.

    Args:
        shape: the data's shape.
        parameters: L, the grey levels of the stored data: the decoder gives a logit for each.
    """

    discrete = True
    support = "unit"

    def __init__(self, shape: Sequence[int], parameters: int) -> None:
        _at_least_two("parameters", parameters)
        super().__init__(shape, parameters, parameters)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        return GreyLevels(full_precision(features), self.event_dim)


def _at_least_two(key: str, levels: int) -> None:
    if levels < 2:
        raise UserError(f"model.likelihood.{key}={levels}: there must be at least 2 grey levels")
