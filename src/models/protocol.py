"""What the rest of the code may ask of a model."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

from src.models.paths import Path


@runtime_checkable
class LatentModel(Protocol):
    """Every variant answers every call, or raises ``NotImplementedError`` saying why it cannot.

    x is (B, *shape), pictures float in [0, 1]; z is (B, D) for flat latents.
    """

    shape: Sequence[int]

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """The posterior over z."""

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """The likelihood over x; its ``.mean`` is the picture shown."""

    def prior(self, c: Tensor | None = None) -> Distribution:
        """The prior over z."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂, the likelihood's mean at the posterior's mean, (B, *shape)."""

    def sample(self, n: int) -> Tensor:
        """n pictures from the prior, (n, *shape)."""

    def interpolate(self, x_a: Tensor, x_b: Tensor, steps: int, path: Path = "linear") -> Tensor:
        """``steps`` pictures on the way from every x_a to its x_b, (steps, B, *shape)."""

    def log_likelihood(self, x: Tensor, k: int) -> Tensor:
        """k-sample importance-weighted bound on log p(x), (B,) nats."""

    def energy(self, x: Tensor) -> Tensor:
        """−ELBO at the posterior mean, (B,) nats; lower is more plausible."""
