"""Deterministic autoencoders whose decoder is kept smooth."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from src.models.draw import Draw
from src.models.networks.spectral import normalise_spectra
from src.models.objectives.penalised import Penalised


class Regularised(Penalised):
    r"""RAE: −log p(x | z) + β ½‖z‖² + a penalty on the decoder (Ghosh et al. 2020, arXiv:1903.12436).

    The penalty is one of: the sum of its squared parameters (RAE-L2); ‖J‖_F² of its mean's Jacobian at z (RAE-GP),
    which one random vector v of signs estimates without bias as ‖Jᵀv‖², where the authors' code has v = 1; or none,
    each of its layers having spectral norm 1 (RAE-SN). The weights are in nats, the paper's divided by 2σ² of the
    likelihood.

    Args:
        embedding: β.
        decoder_l2: weight of the squared parameters; null for none.
        gradient_penalty: weight of the Jacobian; null for none.
        spectral: normalise the decoder's layers.
        terms: weights of the latent's own terms, see ``ELBO``.
    """

    needs_density = False
    needs_prior = False
    shardable = False

    def __init__(
        self,
        embedding: float = 0.1,
        decoder_l2: float | None = None,
        gradient_penalty: float | None = None,
        spectral: bool = False,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        weights = {
            "embedding": embedding,
            "decoder_l2": decoder_l2,
            "gradient_penalty": gradient_penalty,
        }
        super().__init__(weights, terms=terms)
        self.spectral = spectral
        self._latent: tuple[nn.Module, ...] = ()

    def borrow_latent(self, latent: Any) -> None:
        """Look at the decoder of ``latent``, which the model owns."""
        self._latent = (latent,)  # a module in a tuple is not registered a second time
        if self.spectral:
            normalise_spectra(latent.decoder)

    def penalties(self, draw: Draw) -> dict[str, Tensor]:
        found = {"embedding": 0.5 * draw.z.square().flatten(2).sum(-1).mean(0)}
        if "decoder_l2" in self.weighted:
            found["decoder_l2"] = squared_norm(self._latent[0].get_submodule("decoder"))
        if "gradient_penalty" in self.weighted:
            found["gradient_penalty"] = self._squared_jacobian(draw)
        return found

    def _squared_jacobian(self, draw: Draw) -> Tensor:
        """An estimate of ‖∂E[x | z]/∂z‖_F², (B,), in inference mode too."""
        latent: Any = self._latent[0]
        found: Any = torch.func.vjp(lambda z: latent.decode(z, draw.c).mean, draw.z)
        mean, pull_back = found
        (pulled,) = pull_back(torch.randn_like(mean).sign())
        return pulled.square().flatten(2).sum(-1).mean(0)


def squared_norm(module: nn.Module) -> Tensor:
    """The sum of all squared parameters, a number."""
    return torch.stack([parameter.square().sum() for parameter in module.parameters()]).sum()
