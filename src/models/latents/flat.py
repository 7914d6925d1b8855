"""One latent vector a data point."""

from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.draw import Draw


class FlatLatent(nn.Module):
    """x → encoder → posterior → z → decoder → likelihood.

    Args:
        encoder: x (B, *shape) → features (B, F).
        posterior: features → q(z | x).
        prior: → p(z); None for a deterministic autoencoder.
        decoder: z (N, D) → likelihood parameters (N, P, *shape).
        likelihood: parameters → p(x | z).
    """

    def __init__(
        self,
        encoder: nn.Module,
        posterior: nn.Module,
        prior: nn.Module | None,
        decoder: nn.Module,
        likelihood: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder, self.posterior, self.prior, self.decoder, self.likelihood = (
            encoder,
            posterior,
            prior,
            decoder,
            likelihood,
        )

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x)."""
        return self.posterior(self.encoder(x), c)

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z) for z of any batch shape, (…, D)."""
        parameters = self.decoder(z.flatten(0, -2))
        return self.likelihood(parameters.view(*z.shape[:-1], *parameters.shape[1:]), c)

    def infer(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Draw:
        """k samples of z for every x, scored lazily."""
        q = self.encode(x, c)
        z = q.rsample((k,))
        return Draw(
            x=x, z=z, q=q, p=None if self.prior is None else self.prior(c), px=self.decode(z, c)
        )
