"""The KL, taken apart. Letters: k samples, B batch, D latent dimensions, N training samples."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from src.models.draw import Draw
from src.models.objectives.elbo import kl
from src.models.objectives.penalised import Penalised


class TotalCorrelation(Penalised):
    r"""β-TCVAE: E_q[−log p(x | z)] + α I(x; z) + β TC(z) + γ Σ_d KL(q(z_d) ‖ p(z_d)).

    Chen et al. 2018, arXiv:1802.04942. With q(z) = (1/N) Σ_n q(z | x_n), the aggregate posterior, the three terms are
    the means of log q(z | x)/q(z), of log q(z)/Π_d q(z_d) and of log Π_d q(z_d)/p(z); of the same samples they add up
    to the Monte-Carlo KL, whatever q(z) is taken to be.

    q(z) is estimated from the batch: a sample's own posterior has the weight 1/N and the others share the rest. This
    is the authors' stratified sampling without its special last sample: the weights add up to 1, so that a batch that
    is the data set gives q(z) exactly. (Their weighted sampling, the default of their code, divides by N·B throughout,
    which moves each term by a constant.) The estimate of q(z) is unbiased, its logarithm is not: the terms depend on
    the batch size. Evaluation keeps N that of training; where it is unknown, the batch is the data set.

    Args:
        alpha, beta, gamma: weights of ``mutual_information``, ``total_correlation`` and ``dimension_kl``.
        num_samples: k.
        terms: weights of the latent's own terms, see ``ELBO``.
    """

    needs_density_elsewhere = True
    needs_factorised = True
    needs_plain_samples = True

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        num_samples: int = 1,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        weights = {"mutual_information": alpha, "total_correlation": beta, "dimension_kl": gamma}
        super().__init__(weights, num_samples, terms)

    def penalties(self, draw: Draw) -> dict[str, Tensor]:
        log_densities = cross_densities(draw.q, draw.z)
        log_shares = aggregate_shares(len(draw.x), self.num_train.to(draw.z))
        log_qz = (log_densities.sum(-1) + log_shares).logsumexp(2)
        log_product = (log_densities + log_shares[..., None]).logsumexp(2).sum(-1)
        return {
            "kl": kl(draw),
            "mutual_information": (draw.log_qz - log_qz).mean(0),
            "total_correlation": (log_qz - log_product).mean(0),
            "dimension_kl": (log_product - draw.log_pz).mean(0),
        }


def cross_densities(q: Distribution, z: Tensor) -> Tensor:
    """log q(z_d | x_j) of every dimension of every sample under every posterior, (k, B, B, D), nats."""
    while isinstance(q, Independent):
        q = q.base_dist
    return q.log_prob(z.unsqueeze(2)).flatten(3)


def aggregate_shares(batch: int, num_train: Tensor) -> Tensor:
    """The logarithms of the weights of the batch's posteriors in q(z), (B, B): a row a sample, adding up to 1."""
    n = torch.where(num_train > 0, num_train, torch.full_like(num_train, batch))
    own, others = -n.log(), ((n - 1) / (n * max(batch - 1, 1))).log()
    return torch.where(torch.eye(batch, dtype=torch.bool, device=n.device), own, others)
