"""One latent vector a data point."""

from torch import Tensor
from torch.distributions import Distribution

from src.models.latents.base import Latent


class FlatLatent(Latent):
    """x → encoder → posterior → z → decoder → likelihood; see ``Latent`` for the parts."""

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z) for z of any batch shape, (…, D)."""
        parameters = self.decoder(z.flatten(0, -2))
        return self.likelihood(parameters.view(*z.shape[:-1], *parameters.shape[1:]), c)
