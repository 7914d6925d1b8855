"""One latent vector a data point."""

from torch import Tensor
from torch.distributions import Distribution

from src.models.draw import Draw
from src.models.latents.base import Latent, sample_with_density


class FlatLatent(Latent):
    """x → encoder → posterior → z → decoder → likelihood; see ``Latent`` for the parts."""

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z) for z of any batch shape, (…, D)."""
        parameters = self.decoder(z.flatten(0, -2))
        return self.likelihood(parameters.view(*z.shape[:-1], *parameters.shape[1:]), c)

    def infer(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Draw:
        """k samples of z for every x, scored lazily."""
        q = self.encode(x, c)
        z, log_qz = sample_with_density(q, k)
        return Draw(x=x, z=z, q=q, p=self.prior_over_z(c), px=self.decode(z, c), own_log_qz=log_qz)
