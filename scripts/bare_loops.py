"""Training steps as one would write them by hand, for scripts/training_benchmark.py."""

import math
import time
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.models.geometry import rotations
from src.models.networks.background import teach
from src.utils.build import build


class BareLoop:
    """What one would write by hand for the same networks: floats in memory, one gather a batch, no framework.

    The loss is the ELBO in closed form, with the batch's optimal σ: D/2 (log 2πe + log MSE) + KL.
    """

    optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam

    @classmethod
    def of(cls, cfg: DictConfig, data: Any) -> "BareLoop":
        """The loop over the networks of a config and the training data of a datamodule."""
        latent = build(cfg.model, compile=False).latent
        teach(latent, data, "fit")
        return cls(latent, data.floats("train"), data.batch_size, cfg.model.optimizer.lr)

    def __init__(self, latent: nn.Module, x: Tensor, batch_size: int, lr: float) -> None:
        self.x, self.batch_size = self.prepared(latent, x), batch_size
        parts = self.parts(latent)
        self.encoder, self.head, self.decoder = parts[:3]
        parameters = [p for part in parts for p in part.parameters()]
        self.optimizer = self.optimizer_class(parameters, lr=lr, fused=True)
        self.order: list[Tensor] = []

    def parts(self, latent: nn.Module) -> list[nn.Module]:
        """What learns, encoder, head and decoder first."""
        return [latent.encoder, latent.posterior.head, latent.decoder]

    def prepared(self, latent: nn.Module, x: Tensor) -> Tensor:
        """The training data as the loop keeps them."""
        return x

    def steps(self, n: int) -> float:
        """Take n steps; the seconds they took."""
        begin = time.perf_counter()
        for _ in range(n):
            self._step()
        return time.perf_counter() - begin

    def _step(self) -> None:
        if not self.order:
            self.order = list(torch.randperm(len(self.x)).split(self.batch_size))
        x = self.made(self.x.index_select(0, self.order.pop()))
        mean, log_sigma = self.head(self.encoder(x)).chunk(2, dim=-1)
        z = mean + log_sigma.exp() * torch.randn_like(mean)
        kl = (0.5 * (mean.square() + (2 * log_sigma).exp() - 1) - log_sigma).sum(-1).mean()
        self.optimizer.zero_grad()
        (self.recon_nll(self.decoder(z), x) + kl).backward()
        self.optimizer.step()

    def made(self, x: Tensor) -> Tensor:
        """What a step needs of a batch."""
        return x

    def recon_nll(self, decoded: Tensor, x: Tensor) -> Tensor:
        """The batch's mean, of the decoder's output and the data that it is to give."""
        mse = nn.functional.mse_loss(decoded.squeeze(1), x)
        return x[0].numel() / 2 * (mse.log() + math.log(2 * math.pi) + 1)


class BarePoses(BareLoop):
    """The same for poses under a Gaussian of their own mean and variance, standardised once and for all."""

    optimizer_class = torch.optim.AdamW

    def parts(self, latent: nn.Module) -> list[nn.Module]:
        self.correlation = latent.likelihood.correlation.weight
        return [latent.encoder.net, latent.posterior.head, latent.decoder, latent.likelihood]

    def prepared(self, latent: nn.Module, x: Tensor) -> Tensor:
        return latent.encoder.standardise(x).flatten(1)

    def recon_nll(self, decoded: Tensor, x: Tensor) -> Tensor:
        location, raw = decoded.flatten(2).unbind(1)
        # Starts at -1.5, within [-8, 4].
        s = 6 * torch.tanh((raw + 6 * math.atanh(0.5 / 6)) / 6) - 2
        error = freed((x - location) * (-0.5 * s).exp(), self.correlation)
        return 0.5 * (error.square() + s + math.log(2 * math.pi)).sum(-1).mean()


class BareRotations(BareLoop):
    """The same for rotations: a Gaussian with a σ for each axis in the tangent space of the decoder's rotation.

    A batch is turned into matrices once a step, of which the columns are seen and the errors taken; made once for all,
    they and their volumes would take five times the data's memory. The maps of SO(3) and the bound of σ are ours.
    """

    optimizer_class = torch.optim.AdamW

    def parts(self, latent: nn.Module) -> list[nn.Module]:
        self.columns, self.sigma = latent.likelihood.standardise, latent.likelihood.sigma
        self.mean, self.std = self.columns.mean.flatten(1), self.columns.std.flatten(1)
        self.correlation = latent.likelihood.correlation.weight
        encoder = nn.Sequential(First(6), nn.Flatten(), latent.encoder.net)
        return [encoder, latent.posterior.head, latent.decoder, latent.likelihood]

    def made(self, x: Tensor) -> Tensor:
        """Of every joint the standardised columns, the matrix and its own volume, (B, J, 16)."""
        matrix = rotations.exp(x)
        seen = (rotations.to_6d(matrix).flatten(2) - self.mean) / self.std
        volume = rotations.log_volume(x.norm(dim=-1))[..., None]
        return torch.cat([seen, matrix.flatten(2), volume], 2)

    def recon_nll(self, decoded: Tensor, x: Tensor) -> Tensor:
        first, second, offset = decoded.unbind(1)
        turned = rotations.from_6d(self.columns.inverse(torch.stack([first, second], -2)))
        phi = rotations.log(rotations.between(turned, x[..., 6:15].unflatten(-1, (3, 3))))
        sigma = self.sigma(offset)
        error = freed((phi / sigma).flatten(1), self.correlation)
        scores = 0.5 * error.square() + sigma.log().flatten(1) + 0.5 * math.log(2 * math.pi)
        volume = rotations.log_volume(phi.norm(dim=-1)) - x[..., 15]
        return (scores.sum(-1) + volume.sum(-1)).mean()


class First(nn.Module):
    """The first ``size`` numbers of every row."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.size]


def freed(error: Tensor, weight: Tensor) -> Tensor:
    """Errors (B, D), each less what those before it foretell."""
    return error + error @ weight.tril(-1).T
