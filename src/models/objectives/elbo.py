"""The evidence lower bound and its weightings."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor
from torch.distributions import Independent

from src.models.distributions import closed_form_kl, factorised_kl
from src.models.draw import Draw
from src.models.objectives.base import Objective, Terms
from src.utils.errors import UserError


def kl_per_dimension(draw: Draw) -> Tensor:
    """KL(q(z_d | x) ‖ p(z_d)) in nats, (B, D), for a factorised posterior and prior; of a sequence (B, T·D)."""
    q, p = draw.q, draw.p
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise NotImplementedError(
            "the KL has no value per dimension here: posterior or prior is not factorised"
        )
    return factorised_kl(q, p)


def kl(draw: Draw) -> Tensor:
    """KL(q(z | x) ‖ p(z)) in nats, (B,): closed form where one is registered, else the Monte-Carlo mean over k.

    A draw that brings its own densities is not a plain sample of q, so that the closed form would be another model's.
    """
    if draw.own_kl is not None:
        return draw.own_kl
    if draw.p is not None and draw.own_log_qz is None:
        closed = closed_form_kl(draw.q, draw.p)
        if closed is not None:
            return closed
    return (draw.log_qz - draw.log_pz).mean(0)


class ELBO(Objective):
    r"""−E_q[log p(x | z)] + β KL(q(z | x) ‖ p(z)) (Kingma & Welling 2014, arXiv:1312.6114).

    β ≠ 1 gives the β-VAE (Higgins et al. 2017). ``free_bits`` λ replaces the KL by Σ_d max(λ, KL_d)
    (Kingma et al. 2016, arXiv:1606.04934), with KL_d of each sample (``per_sample``) or averaged over the
    batch (``batch_mean``, as in the paper). ``capacity`` C replaces it by |KL − C|, the batch's mean KL pulled
    to C nats with β as its strength (Burgess et al. 2018, arXiv:1804.03599); C is the weight ``capacity``, so a
    schedule can raise it. The reported ``kl`` is the plain KL in every case.

    Args:
        beta: weight of the KL.
        free_bits: λ in nats a dimension; 0 turns it off.
        free_bits_mode: see above.
        capacity: C in nats; null turns it off.
        num_samples: k.
        terms: weights of the latent's own terms by name, such as ``loop``; the others are only reported.
    """

    def __init__(
        self,
        beta: float = 1.0,
        free_bits: float = 0.0,
        free_bits_mode: Literal["per_sample", "batch_mean"] = "batch_mean",
        capacity: float | None = None,
        num_samples: int = 1,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        if free_bits_mode not in ("per_sample", "batch_mean"):
            raise UserError(
                f"model.objective.free_bits_mode='{free_bits_mode}' is unknown; choices: per_sample, batch_mean"
            )
        if free_bits and capacity is not None:
            raise UserError(
                "model.objective: free_bits and capacity both rewrite the KL; set one of them"
            )
        super().__init__(
            {"kl": beta} | ({} if capacity is None else {"capacity": capacity}), num_samples, terms
        )
        self.free_bits, self.free_bits_mode, self.has_capacity = (
            free_bits,
            free_bits_mode,
            capacity is not None,
        )

    def forward(self, draw: Draw) -> Terms:
        rate = kl(draw)
        values = {"recon_nll": -draw.log_px.mean(0), "kl": rate, **draw.aux}
        weights = {"recon_nll": 1.0, "kl": self.weight("kl"), **self.latent_weights(draw)}
        penalties = {}
        if self.free_bits:
            per_dimension = kl_per_dimension(draw)
            if self.free_bits_mode == "batch_mean":
                per_dimension = per_dimension.mean(0, keepdim=True).expand_as(per_dimension)
            penalties["kl"] = per_dimension.clamp_min(self.free_bits).sum(-1)
        elif self.has_capacity:
            penalties["kl"] = (rate.mean() - self.weight("capacity")).abs().expand_as(rate)
        return Terms(values, weights, penalties)


class Reconstruction(Objective):
    """−log p(x | z) alone: the objective of an autoencoder.

    Args:
        terms: weights of the latent's own terms, see ``ELBO``.
    """

    needs_density = False
    needs_prior = False

    def __init__(self, terms: Mapping[str, float] | None = None) -> None:
        super().__init__({}, terms=terms)

    def forward(self, draw: Draw) -> Terms:
        values = {"recon_nll": -draw.log_px.mean(0), **draw.aux}
        return Terms(values, {"recon_nll": 1.0, **self.latent_weights(draw)})
