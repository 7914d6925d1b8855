"""Bounds from several weighted samples. Letters: M groups of K samples, k = M·K of them, B batch."""

from collections.abc import Mapping
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from src.models.distributions import detached
from src.models.draw import Draw
from src.models.objectives.base import Objective, Terms
from src.models.objectives.frozen import frozen
from src.utils.errors import UserError


class ImportanceWeighted(Objective):
    r"""−(1/M) Σ_m log (1/K) Σ_i w_mi, with w = p(x | z) (p(z) / q(z | x))^β and z ~ q(z | x).

    M = 1 is the IWAE (Burda et al. 2016, arXiv:1509.00519), M > 1 the MIWAE, and an ``elbo_share`` s the CIWAE,
    (1 − s) times this bound plus s times the ELBO of the same samples (both Rainforth et al. 2018, arXiv:1802.04537).
    With β ≠ 1, as during a warm-up, it is no bound on log p(x), but what the β-VAE's objective, its K = 1, is to the
    ELBO. IWAE's authors draw binary pixels anew in each epoch; here the data are what the datamodule yields.

    A σ that is the optimal one of the batch fits all samples alike, where the weights favour the good ones, and ties
    them together. Hence ``scale: learned`` in the variants.

    Reported are ``negative_bound``, which is the loss, and of the same samples, unweighted, ``recon_nll`` and the
    Monte-Carlo ``kl``, which add up to the negative ELBO.

    Args:
        num_samples: K, samples a bound.
        groups: M, bounds that are averaged.
        elbo_share: s in [0, 1].
        beta: weight of log p(z) − log q(z | x) within the logarithm; the weight ``kl``.
        terms: weights of the latent's own terms, see ``ELBO``.

    Raises:
        UserError: an impossible setting.
    """

    needs_log_q = True

    def __init__(
        self,
        num_samples: int = 8,
        groups: int = 1,
        elbo_share: float = 0.0,
        beta: float = 1.0,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        if min(num_samples, groups) < 1 or not 0 <= elbo_share <= 1:
            raise UserError(
                f"model.objective: num_samples={num_samples} and groups={groups} must be at least 1, and "
                f"elbo_share={elbo_share} in [0, 1]"
            )
        super().__init__({"kl": beta}, num_samples * groups, terms)
        self.groups, self.elbo_share = groups, elbo_share
        # With one sample the weights are all 1, and a likelihood need only be right up to its normalisation.
        self.needs_probability = num_samples > 1

    def grouped(self, log_w: Tensor) -> Tensor:
        """(k, B) → (M, K, B)."""
        return log_w.unflatten(0, (self.groups, -1))

    def log_weights(self, draw: Draw) -> Tensor:
        """log w, (k, B) nats."""
        return draw.log_px + self.weight("kl") * (draw.log_pz - draw.log_qz)

    def bound(self, log_w: Tensor) -> Tensor:
        """(k, B) → (B,) nats."""
        bound = log_mean_exp(self.grouped(log_w), 1).mean(0)
        return bound.lerp(log_w.mean(0), self.elbo_share) if self.elbo_share else bound

    def forward(self, draw: Draw) -> Terms:
        return self.terms_of(draw, -self.bound(self.log_weights(draw)))

    def terms_of(self, draw: Draw, loss: Tensor) -> Terms:
        """What is reported of a draw whose loss is (B,) nats."""
        values = {
            "negative_bound": loss,
            "recon_nll": -draw.log_px.mean(0),
            "kl": (draw.log_qz - draw.log_pz).mean(0),
            **draw.aux,
        }
        return Terms(values, {"negative_bound": 1.0, **self.latent_weights(draw)})


class DoublyReparametrised(ImportanceWeighted):
    r"""The same bound with a gradient for the encoder that its own score does not disturb.

    K > 1 is DReG (Tucker et al. 2019, arXiv:1810.04152): log q has its parameters held fixed, and what reaches z_i is
    multiplied by its normalised weight a_i; for β ≠ 1, which the paper does not treat, by 1 − β + β a_i. K = 1, where
    a = 1, is sticking the landing (STL, Roeder et al. 2017, arXiv:1703.09194). In expectation both gradients are the
    bound's own, and at the true posterior every sample of the encoder's is 0. The decoder's is the bound's.

    The latent's own terms are only reported, because those that depend on z would be reweighted too.

    Args:
        num_samples, groups, beta: see ``ImportanceWeighted``.
    """

    needs_density_elsewhere = True
    needs_freezable = True
    needs_plain_samples = True

    def __init__(self, num_samples: int = 8, groups: int = 1, beta: float = 1.0) -> None:
        super().__init__(num_samples, groups, beta=beta)

    def log_weights(self, draw: Draw) -> Tensor:
        """log w, (k, B) nats, without a gradient for the parameters of q except through z."""
        log_qz = detached(draw.q).log_prob(draw.z)
        beta = self.weight("kl")
        log_w = draw.log_px + beta * (draw.log_pz - log_qz)
        if draw.z.requires_grad and log_w.shape[0] > self.groups:
            share = self.grouped(log_w.detach()).softmax(1).flatten(0, 1)
            factor = (1 - beta + beta * share).view(*share.shape, *[1] * (draw.z.dim() - 2))
            draw.z.register_hook(lambda gradient: gradient * factor)
        return log_w


class PartiallyImportanceWeighted(ImportanceWeighted):
    r"""PIWAE: the decoder learns from the IWAE's bound of all M·K samples, the encoder from the MIWAE's.

    Rainforth et al. 2018, arXiv:1802.04537: a tight bound helps the decoder and drowns the encoder's gradient in noise.
    The authors take one backward pass for each; here it is one,

        −Σ a log p(x, z) − Σ (ã − a) log p̄(x, z) + Σ ã β log q(z | x),

    where a and ã are the normalised weights of the two bounds, held fixed, and p̄ is p with its parameters held fixed,
    so that the decoder sees a, and z, in sum, ã. What is reported as ``negative_bound`` is the IWAE's.

    Args:
        num_samples, groups, beta, terms: see ``ImportanceWeighted``.
    """

    needs_plain_samples = True
    shardable = False

    def __init__(
        self,
        num_samples: int = 8,
        groups: int = 8,
        beta: float = 1.0,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(num_samples, groups, beta=beta, terms=terms)
        self.needs_probability = num_samples * groups > 1
        self._joint: tuple[nn.Module, ...] = ()

    def borrow_latent(self, latent: nn.Module) -> None:
        """Score samples with ``latent``, which the model owns."""
        self._joint = (_Joint(latent),)  # a module in a tuple is not registered a second time

    def forward(self, draw: Draw) -> Terms:
        log_w = self.log_weights(draw)
        loss = -log_mean_exp(log_w.detach(), 0)
        if draw.z.requires_grad:
            surrogate = self._surrogate(draw, log_w.detach())
            loss = (
                loss + surrogate - surrogate.detach()
            )  # the value of one, the gradient of the other
        return self.terms_of(draw, loss)

    def _surrogate(self, draw: Draw, log_w: Tensor) -> Tensor:
        """(B,), whose gradient is the one that is wanted."""
        decoder = log_w.softmax(0)
        encoder = self.grouped(log_w).softmax(1).flatten(0, 1) / self.groups
        beta = self.weight("kl")
        log_px, log_pz = frozen(self._joint[0])(draw)
        joint = decoder * (draw.log_px + beta * draw.log_pz)
        fixed = (encoder - decoder) * (log_px + beta * log_pz)
        return (encoder * beta * draw.log_qz - joint - fixed).sum(0)


class _Joint(nn.Module):
    """log p(x | z) and log p(z), (k, B), as a module, so that they can be had with other parameters."""

    def __init__(self, latent: nn.Module) -> None:
        super().__init__()
        self.latent = latent

    def forward(self, draw: Draw) -> tuple[Tensor, Tensor]:
        latent: Any = self.latent
        log_px = latent.decode(draw.z, draw.c).log_prob(draw.x)
        return log_px, latent.prior_over_z(draw.c).log_prob(draw.z)


def log_mean_exp(values: Tensor, axis: int) -> Tensor:
    """log of the mean of exp(values) along ``axis``."""
    return torch.logsumexp(values, axis) - log(values.shape[axis])
