"""The density on [0, 1] that the Bernoulli likelihood of grey pictures lacks."""

import torch
from torch import Tensor, distributions
from torch.distributions import Distribution

from src.models.likelihoods.base import Likelihood

# Below this |η| the functions are taken from their series, whose next terms are beyond fp64.
SMALL = 0.1


class ContinuousBernoulli(distributions.ContinuousBernoulli):
    """p(x) ∝ λ^x (1−λ)^(1−x) on [0, 1], computed from the logit η = log λ/(1−λ) alone.

    log p(x) = η (x − ½) − log(sinh(η/2)/(η/2)), and the mean is ½ + ½ coth(η/2) − 1/η. torch computes both from λ,
    which in fp32 is 1 from η = 16 on, so that its density does not integrate to 1 there.
    """

    @property
    def mean(self) -> Tensor:
        near, eta = self._away_from_zero()
        small = self.logits
        square = small.square()
        series = small * (1 / 12 - square * (1 / 720 - square * (1 / 30240 - square / 1209600)))
        return 0.5 + torch.where(near, series, 0.5 / torch.tanh(eta / 2) - 1 / eta)

    def log_prob(self, value: Tensor) -> Tensor:
        near, eta = self._away_from_zero()
        size, square = eta.abs(), self.logits.square()
        series = square * (1 / 24 - square * (1 / 2880 - square / 181440))
        log_mass = size / 2 + torch.log(-torch.expm1(-size) / size)
        return self.logits * (value - 0.5) - torch.where(near, series, log_mass)

    def _away_from_zero(self) -> tuple[Tensor, Tensor]:
        """Where the series are to be used, and η with something harmless there, so that no gradient is 0/0."""
        near = self.logits.abs() < SMALL
        return near, torch.where(near, 1.0, self.logits)


class ContinuousBernoulliLikelihood(Likelihood):
    """p(x | z) = continuous Bernoulli(x; logits = decoder(z)), a normalised density of data in [0, 1].

    References:
        Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli, arXiv:1907.06845. The authors' code takes the
        normalising constant from λ, with a series around ½; here it comes from the logit, exact for any.

    Args:
        shape: the data's shape.
        parameters: decoder outputs an element, 1.
    """

    support = "unit"

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        (logits,) = self.parts(features)
        return self.over_data(ContinuousBernoulli(logits=logits, validate_args=False))
