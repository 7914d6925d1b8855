"""The aggregate posterior's covariance, drawn to the prior's."""

from collections.abc import Mapping

import torch
from torch import Tensor

from src.models.draw import Draw
from src.models.objectives.elbo import kl
from src.models.objectives.penalised import Penalised


class MomentMatching(Penalised):
    r"""DIP-VAE: the β-ELBO + λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii − 1)² (Kumar et al. 2018, arXiv:1711.00848).

    C is the batch's covariance of the posterior means in DIP-VAE-I; in DIP-VAE-II the mean posterior variance is added
    to its diagonal, which makes it that of the aggregate posterior. As in the authors' code the batch's covariance is
    divided by B.

    Args:
        off_diagonal, diagonal: λ_od and λ_d.
        total: C of DIP-VAE-II instead of I.
        beta: weight of the KL.
        num_samples: k.
        terms: weights of the latent's own terms, see ``ELBO``.
    """

    needs_standard_normal = True

    def __init__(
        self,
        off_diagonal: float = 10.0,
        diagonal: float = 100.0,
        total: bool = False,
        beta: float = 1.0,
        num_samples: int = 1,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        weights = {"kl": beta, "dip_off_diagonal": off_diagonal, "dip_diagonal": diagonal}
        super().__init__(weights, num_samples, terms)
        self.total = total
        self.needs_factorised = total  # only then is the mean of the covariances the variances

    def penalties(self, draw: Draw) -> dict[str, Tensor]:
        mean = draw.q.mean.flatten(1)
        centred = mean - mean.mean(0)
        with torch.autocast(mean.device.type, enabled=False):
            covariance = centred.T @ centred / len(mean)
        variances = covariance.diagonal()
        off_diagonal = covariance.square().sum() - variances.square().sum()
        if self.total:
            variances = variances + draw.q.variance.flatten(1).mean(0)
        return {
            "kl": kl(draw),
            "dip_off_diagonal": off_diagonal,
            "dip_diagonal": (variances - 1).square().sum(),
        }
