"""The likelihood of a model whose code is the data itself."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.likelihoods.base import AroundPicture, Likelihood


class Exact(AroundPicture):
    """x is the mean. Its density is that of the change of variables: log p(x | z) = −ln |det ∂x/∂z|.

    Args:
        mean: (…, *shape).
        event_dim: axes of the data.
        log_volume: ln |det ∂x/∂z|, () nats.
    """

    def __init__(self, mean: Tensor, event_dim: int, log_volume: Tensor) -> None:
        super().__init__(mean, event_dim)
        self.log_volume = log_volume

    def log_prob(self, value: Tensor) -> Tensor:
        """The same for every sample, (…); ``value`` is taken to be the mean."""
        return -self.log_volume.expand(self.batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc.expand(*sample_shape, *self.loc.shape)


class ExactLikelihood(Likelihood):
    """p(x | z) where x is a function of z that has an inverse; only for ``IdentityLatent``, which lends its encoder.

    Args:
        shape: the data's shape.
        parameters: decoder outputs an element, 1.
    """

    def __init__(self, shape: Sequence[int], parameters: int = 1) -> None:
        super().__init__(shape, parameters)
        self._encoder: tuple[Any, ...] = ()

    def borrow_encoder(self, encoder: nn.Module) -> None:
        """Count the volume that this encoder takes away."""
        self._encoder = (encoder,)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        (mean,) = self.parts(features)
        return Exact(mean, self.event_dim, self._encoder[0].log_volume())
