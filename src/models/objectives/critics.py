"""Objectives that own a critic, which learns beside the model from the same draw.

The authors take turns: a step of the model, then one of the critic. Here both losses are summed and one backward pass
serves both: the model's loss holds the critic fixed, the critic's holds the draw fixed, so that every parameter gets
the gradient that it would get alone, and accumulation, clipping, compilation and distributed training stay those of any
other model. Letters: k samples, B batch, D latent dimensions.
"""

from collections.abc import Mapping, Sequence
from math import pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from src.models.distributions import full_precision
from src.models.draw import Draw
from src.models.objectives.base import Objective, Terms, prior_samples
from src.models.objectives.elbo import kl
from src.models.objectives.frozen import frozen


class Critic(nn.Module):
    """A network with one logit on top; positive for what is real.

    Args:
        body: (B, …) → features (B, ``out_features``).
    """

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(body.out_features, 1)

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,) and features (B, F)."""
        features = self.body(value)
        return full_precision(self.head(features)).squeeze(-1), full_precision(features)


class CriticObjective(Objective):
    """Base of the objectives with a critic.

    Args:
        critic: the critic's body, see ``Critic``.
        critic_optimizer: settings of the critic's parameters that differ from the model's, such as ``lr``.
        options: of ``Objective``.
    """

    shardable = False

    def __init__(
        self, critic: nn.Module, critic_optimizer: Mapping[str, Any], **options: Any
    ) -> None:
        super().__init__(**options)
        self.critic = Critic(critic)
        # Plain values: they go into the checkpoint with the optimiser's state.
        self.critic_optimizer = {
            name: [*value] if isinstance(value, Sequence) else value
            for name, value in critic_optimizer.items()
        }

    def critic_parameters(self) -> list[nn.Parameter]:
        """What only ``critic_loss`` teaches."""
        return list(self.critic.parameters())

    def critic_loss(self, draw: Draw) -> Tensor:
        """The critic's own loss, a mean over the batch; the draw gets no gradient from it."""
        raise NotImplementedError

    def tell_apart(self, real: Tensor, *fakes: Tensor) -> Tensor:
        """The mean binary cross-entropy of the critic on what is real and on each kind of what is not."""
        kinds = [kind.detach() for kind in (real, *fakes)]
        logits = self.critic(torch.cat(kinds))[0].split([len(kind) for kind in kinds])
        answers = [torch.full_like(part, float(i == 0)) for i, part in enumerate(logits)]
        sums = [
            binary_cross_entropy_with_logits(logit, answer, reduction="sum") / max(len(logit), 1)
            for logit, answer in zip(logits, answers, strict=True)
        ]
        return torch.stack(sums).sum()


def shuffled(z: Tensor) -> Tensor:
    """Every dimension of z (N, D) permuted over the rows by itself: a sample of the product of the marginals."""
    return z.gather(0, torch.rand_like(z).argsort(0))


class FactorVAE(CriticObjective):
    r"""−ELBO + γ TC(z), TC = KL(q(z) ‖ Π_d q(z_d)) ≈ E_q[logit D(z)] (Kim & Mnih 2018, arXiv:1802.05983).

    D tells samples of the aggregate posterior from shuffled ones; the one half of the batch serves as the former, the
    other, shuffled, as the latter, where the authors draw a second batch.

    Args:
        critic, critic_optimizer: see ``CriticObjective``.
        gamma: γ.
        beta: weight of the KL.
        terms: weights of the latent's own terms.
    """

    needs_vector = True

    def __init__(
        self,
        critic: nn.Module,
        critic_optimizer: Mapping[str, Any],
        gamma: float = 6.0,
        beta: float = 1.0,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        weights = {"kl": beta, "total_correlation": gamma}
        super().__init__(critic, critic_optimizer, weights=weights, terms=terms)

    def forward(self, draw: Draw) -> Terms:
        logits, _ = frozen(self.critic)(draw.z[0])
        values = {
            "recon_nll": -draw.log_px.mean(0),
            "kl": kl(draw),
            "total_correlation": logits,
            **draw.aux,
        }
        weights = {name: self.weight(name) for name in ("kl", "total_correlation")}
        return Terms(values, {"recon_nll": 1.0, **weights, **self.latent_weights(draw)})

    def critic_loss(self, draw: Draw) -> Tensor:
        # Of a batch of one the first half is empty, and teaches nothing.
        other, joint = draw.z[0].detach().tensor_split(2)
        return self.tell_apart(joint, shuffled(other)) / 2


class AdversarialAutoencoder(CriticObjective):
    r"""−log p(x | z) + λ softplus(−logit D(z)): the aggregate posterior is to look like the prior.

    Makhzani et al. 2016, arXiv:1511.05644. D tells the prior's samples from the encoder's; the term is the
    non-saturating loss of the encoder as a generator. Any posterior will do, a point mass too.

    Args:
        critic, critic_optimizer: see ``CriticObjective``.
        adversarial: λ.
        terms: weights of the latent's own terms.
    """

    needs_density = False
    needs_vector = True
    teaches_prior = False

    def __init__(
        self,
        critic: nn.Module,
        critic_optimizer: Mapping[str, Any],
        adversarial: float = 1.0,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            critic, critic_optimizer, weights={"adversarial": adversarial}, terms=terms
        )

    def forward(self, draw: Draw) -> Terms:
        logits, _ = frozen(self.critic)(draw.z[0])
        values = {"recon_nll": -draw.log_px.mean(0), "adversarial": softplus(-logits), **draw.aux}
        weights = {"adversarial": self.weight("adversarial"), **self.latent_weights(draw)}
        return Terms(values, {"recon_nll": 1.0, **weights})

    def critic_loss(self, draw: Draw) -> Tensor:
        return self.tell_apart(prior_samples(draw, 1), draw.z[0]) / 2


class VAEGAN(CriticObjective):
    r"""KL + −log N(D_l(x); D_l(x̃), σ²), with an adversarial loss of the decoder (Larsen et al. 2016, arXiv:1512.09300).

    The likelihood lives in the features D_l of a critic that tells pictures from reconstructions x̃ and samples x_p.
    Three routes: the encoder gets KL + features, the decoder γ · features + the adversarial terms of x̃ and x_p, the
    critic its own loss. What the encoder must not get from the live decoder's loss is taken back by one that holds the
    decoder fixed. ``recon_nll``, in pixels, is only reported. The authors' generator losses saturate, these do not;
    their σ is 1, which leaves the scale of the features to the critic and the codes to the KL, here σ² is the batch's
    maximum-likelihood value, in evaluation too. No likelihood of pixels is learned, so that there is no NLL.

    Args:
        critic, critic_optimizer: see ``CriticObjective``; the critic's body sees pictures.
        gamma: γ, the features' weight in the decoder's loss.
        beta: weight of the KL.
        terms: weights of the latent's own terms.
    """

    teaches_likelihood = False

    def __init__(
        self,
        critic: nn.Module,
        critic_optimizer: Mapping[str, Any],
        gamma: float = 1.0,
        beta: float = 1.0,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(critic, critic_optimizer, weights={"kl": beta}, terms=terms)
        self.gamma = gamma
        self._latent: tuple[nn.Module, ...] = ()

    def borrow_latent(self, latent: nn.Module) -> None:
        """Use ``latent``, which the model owns, to decode."""
        self._latent = (latent,)  # a module in a tuple is not registered a second time

    def forward(self, draw: Draw) -> Terms:
        judge = frozen(self.critic)
        seen = judge(draw.x)[1].detach()
        logits, squares = self._judged(judge, draw.px, seen)
        fixed_logits, fixed_squares = self._judged(
            judge, frozen(self._latent[0])(draw.z, draw.c), seen
        )
        size = seen.shape[1]
        variance = squares.detach().mean().clamp_min(1e-6) / size
        constant = 0.5 * size * (2 * pi * variance).log()
        live, fixed = (0.5 * value / variance + constant for value in (squares, fixed_squares))
        adversarial = softplus(-logits) + softplus(-judge(self._pictures_of_prior(draw))[0])
        values = {
            "recon_nll": -draw.log_px.mean(0),
            "kl": kl(draw),
            "feature_nll": live,
            "adversarial": adversarial,
            **draw.aux,
        }
        penalties = {
            "feature_nll": self.gamma * live + (1 - self.gamma) * fixed,
            "adversarial": adversarial - softplus(-fixed_logits),
        }
        weights = {"kl": self.weight("kl"), **self.latent_weights(draw)}
        return Terms(values, {"feature_nll": 1.0, "adversarial": 1.0, **weights}, penalties)

    def _judged(self, judge: Any, px: Distribution, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,) and ‖D_l(x) − D_l(x̃)‖² (B,) of the first sample's reconstruction."""
        logits, features = judge(px.mean[0])
        return logits, (features - seen).square().sum(-1)

    def _pictures_of_prior(self, draw: Draw) -> Tensor:
        return self._latent[0](prior_samples(draw, 1), draw.c).mean

    def critic_loss(self, draw: Draw) -> Tensor:
        with torch.no_grad():
            samples = self._pictures_of_prior(draw)
        return self.tell_apart(draw.x, draw.px.mean[0], samples) / 3
