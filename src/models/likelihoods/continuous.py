"""Gaussian, Laplace and Bernoulli likelihoods."""

from collections.abc import Sequence
from math import log, pi

import torch
from torch import Tensor, distributed
from torch.distributions import Bernoulli, Distribution, Independent, Laplace, Normal
from torch.nn.functional import mse_loss

from src.models.likelihoods.base import AroundPicture, Likelihood, Scale, ScaledLikelihood


class OptimalGaussian(AroundPicture):
    """N(x; mean, σ̂²) with σ̂² the mean squared error of the batch, its maximum-likelihood value.

    Args:
        mean: (…, *shape).
        likelihood: told of every σ̂², so that it can keep a running value for evaluation.
    """

    def __init__(self, mean: Tensor, likelihood: "GaussianLikelihood", event_dim: int) -> None:
        super().__init__(mean, event_dim)
        self.likelihood = likelihood

    def log_prob(self, value: Tensor) -> Tensor:
        squares = _squares(self.loc, value, len(self.event_shape))
        size = self.event_shape.numel()
        variance = _of_all_processes((squares.mean() / size).clamp_min(1e-6))
        self.likelihood.observe(variance.detach())
        score = torch.add(squares / variance, variance.log(), alpha=size)
        return -0.5 * (score + size * log(2 * pi))


class OneScaleGaussian(Independent):
    """N(x; mean, σ²I): with one σ the density takes two passes over the data, where a normal's takes six.

    Args:
        mean: (…, *shape).
        sigma: ().
        event_dim: axes of the data.
    """

    def __init__(self, mean: Tensor, sigma: Tensor, event_dim: int) -> None:
        elements = Normal(mean, sigma.expand_as(mean), validate_args=False)
        super().__init__(elements, event_dim, validate_args=False)
        self.sigma = sigma

    def log_prob(self, value: Tensor) -> Tensor:
        squares = _squares(self.base_dist.loc, value, len(self.event_shape))
        size = self.event_shape.numel()
        return -0.5 * (squares / self.sigma.square() + size * (2 * self.sigma.log() + log(2 * pi)))


def _squares(mean: Tensor, value: Tensor, event_dim: int) -> Tensor:
    """Σ (value − mean)² over the last ``event_dim`` axes."""
    mean, value = torch.broadcast_tensors(mean, value)
    return mse_loss(mean, value, reduction="none").flatten(-event_dim).sum(-1)


def _of_all_processes(variance: Tensor) -> Tensor:
    """The mean of a batch variance over the processes of a distributed training, itself where there is one process.

    It is then a constant: at its own optimum the likelihood does not change with it, so that the mean of the processes'
    gradients is that of one process with the whole batch.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return variance
    total = variance.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


class GaussianLikelihood(ScaledLikelihood):
    """p(x | z) = N(x; decoder(z), σ²).

    ``scale`` says where σ comes from: ``fixed`` at ``sigma``; ``learned``, one number for all elements
    (starting at ``sigma``); ``per_pixel``, predicted by the decoder (needs ``parameters=2``); ``optimal``, the
    maximum-likelihood value of each training batch and its running mean in evaluation, so that held-out data
    never choose their own σ (sigma-VAE, Rybkin et al. 2021, arXiv:2006.13202; the authors use the batch's own
    value in evaluation too).

    Args:
        shape: the data's shape.
        scale: see above.
        sigma: standard deviation, in the data's units.
        parameters: decoder outputs an element: 2 for ``per_pixel``, else 1.
        momentum: weight of the newest batch in the running σ² of ``optimal``.
    """

    scales = ("fixed", "learned", "per_pixel", "optimal")
    log_name = "log_sigma"
    running_variance: Tensor
    log_sigma: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        scale: Scale = "optimal",
        sigma: float = 0.1,
        parameters: int = 1,
        momentum: float = 0.05,
    ) -> None:
        super().__init__(shape, scale, sigma, parameters)
        self.momentum = momentum
        self.register_buffer(
            "running_variance", torch.tensor(float(sigma) ** 2), persistent=scale == "optimal"
        )

    def observe(self, variance: Tensor) -> None:
        """Move the running σ² towards a training batch's value."""
        if self.training:
            self.running_variance.lerp_(variance, self.momentum)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        if self.scale == "per_pixel":
            mean, sigma = self.location_and_scale(features)
            return self.over_data(Normal(mean, sigma, validate_args=False))
        mean = self.parts(features)[0]
        if self.scale == "optimal" and self.training:
            return OptimalGaussian(mean, self, self.event_dim)
        sigma = self.running_variance.sqrt() if self.scale == "optimal" else self.log_sigma.exp()
        return OneScaleGaussian(mean, sigma, self.event_dim)


class LaplaceLikelihood(ScaledLikelihood):
    """p(x | z) = Laplace(x; decoder(z), b), the absolute-error likelihood; b is one learned or fixed number.

    Args:
        shape: the data's shape.
        scale: ``learned`` or ``fixed``.
        b: (starting) scale, in the data's units.
        parameters: decoder outputs an element, 1.
    """

    scales = ("fixed", "learned")
    log_name = "log_b"

    def __init__(
        self, shape: Sequence[int], scale: Scale = "learned", b: float = 0.1, parameters: int = 1
    ) -> None:
        super().__init__(shape, scale, b, parameters)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        location, b = self.location_and_scale(features)
        return self.over_data(Laplace(location, b, validate_args=False))


class BernoulliLikelihood(Likelihood):
    """p(x | z) = Bernoulli(x; logits = decoder(z)), for data in [0, 1].

    Grey values are read as probabilities: the log-probability is then the negative cross-entropy that the
    literature reports, which is not a normalised density over grey pictures.

    Args:
        shape: the data's shape.
        parameters: decoder outputs an element, 1.
    """

    normalised = False
    support = "unit"

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        (logits,) = self.parts(features)
        return self.over_data(Bernoulli(logits=logits, validate_args=False))
