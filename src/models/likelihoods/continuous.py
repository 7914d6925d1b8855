"""Likelihoods of real-valued and binary data.

Every one takes the decoder's output with its parameter axis in front of the data's axes, (…, P, *shape), sums
over the data's axes and answers in nats. Probabilities are computed in fp32 under autocast.
"""

from collections.abc import Sequence
from math import log, pi
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.distributions import Bernoulli, Distribution, Independent, Laplace, Normal, constraints
from torch.nn.functional import mse_loss

from src.models.distributions import bounded, full_precision
from src.utils.errors import UserError

Scale = Literal["fixed", "learned", "per_pixel", "optimal"]


class OptimalGaussian(Distribution):
    """N(x; mean, σ̂²) with σ̂² the mean squared error of the batch, its maximum-likelihood value.

    Args:
        mean: (…, *shape).
        likelihood: told of every σ̂², so that it can keep a running value for evaluation.
    """

    arg_constraints = {"loc": constraints.real}

    def __init__(self, mean: Tensor, likelihood: "GaussianLikelihood", event_dim: int) -> None:
        self.loc, self.likelihood = mean, likelihood
        split = mean.dim() - event_dim
        super().__init__(mean.shape[:split], mean.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        squares = (
            mse_loss(self.loc, value.expand_as(self.loc), reduction="none")
            .flatten(len(self.batch_shape))
            .sum(-1)
        )
        size = self.event_shape.numel()
        variance = _of_all_processes((squares.mean() / size).clamp_min(1e-6))
        self.likelihood.observe(variance.detach())
        score = torch.add(squares / variance, variance.log(), alpha=size)
        return -0.5 * (score + size * log(2 * pi))


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


class GaussianLikelihood(nn.Module):
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

    normalised = True
    support = "real"
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
        super().__init__()
        if scale not in ("fixed", "learned", "per_pixel", "optimal"):
            raise UserError(
                f"model.likelihood.scale='{scale}' is unknown; choices: fixed, learned, per_pixel, optimal"
            )
        if parameters != (2 if scale == "per_pixel" else 1):
            raise UserError(
                f"model.likelihood.scale={scale} needs parameters={2 if scale == 'per_pixel' else 1}"
            )
        self.event_dim, self.scale, self.momentum = len(shape), scale, momentum
        start = torch.tensor(float(sigma)).log()
        if scale == "learned":
            self.log_sigma = nn.Parameter(start)
        else:
            self.register_buffer("log_sigma", start, persistent=False)
        self.register_buffer(
            "running_variance", torch.tensor(float(sigma) ** 2), persistent=scale == "optimal"
        )

    def observe(self, variance: Tensor) -> None:
        """Move the running σ² towards a training batch's value."""
        if self.training:
            self.running_variance.lerp_(variance, self.momentum)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        axis = -1 - self.event_dim
        values = full_precision(features)
        # One parameter is a view; unbind would copy the gradient on its way back.
        parts = [values.squeeze(axis)] if values.shape[axis] == 1 else values.unbind(axis)
        if self.scale == "optimal" and self.training:
            return OptimalGaussian(parts[0], self, self.event_dim)
        if self.scale == "optimal":
            sigma = self.running_variance.sqrt()
        elif self.scale == "per_pixel":
            sigma = bounded(parts[1], 6.0).exp()
        else:
            sigma = self.log_sigma.exp()
        return Independent(
            Normal(parts[0], sigma.expand_as(parts[0]), validate_args=False),
            self.event_dim,
            validate_args=False,
        )


def _one_parameter(parameters: int) -> None:
    if parameters != 1:
        raise UserError(f"model.likelihood.parameters={parameters}: this likelihood has one")


class LaplaceLikelihood(nn.Module):
    """p(x | z) = Laplace(x; decoder(z), b), the absolute-error likelihood; b is one learned or fixed number.

    Args:
        shape: the data's shape.
        scale: ``learned`` or ``fixed``.
        b: (starting) scale, in the data's units.
        parameters: decoder outputs an element, 1.
    """

    normalised = True
    support = "real"
    log_b: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        scale: Literal["fixed", "learned"] = "learned",
        b: float = 0.1,
        parameters: int = 1,
    ) -> None:
        super().__init__()
        if scale not in ("fixed", "learned"):
            raise UserError(f"model.likelihood.scale='{scale}' is unknown; choices: fixed, learned")
        _one_parameter(parameters)
        self.event_dim = len(shape)
        start = torch.tensor(float(b)).log()
        if scale == "learned":
            self.log_b = nn.Parameter(start)
        else:
            self.register_buffer("log_b", start, persistent=False)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        loc = full_precision(features).squeeze(-1 - self.event_dim)
        return Independent(
            Laplace(loc, self.log_b.exp().expand_as(loc), validate_args=False),
            self.event_dim,
            validate_args=False,
        )


class BernoulliLikelihood(nn.Module):
    """p(x | z) = Bernoulli(x; logits = decoder(z)), for data in [0, 1].

    Grey values are read as probabilities: the log-probability is then the negative cross-entropy that the
    literature reports, which is not a normalised density over grey pictures.

    Args:
        shape: the data's shape.
        parameters: decoder outputs an element, 1.
    """

    normalised = False
    support = "unit"

    def __init__(self, shape: Sequence[int], parameters: int = 1) -> None:
        super().__init__()
        _one_parameter(parameters)
        self.event_dim = len(shape)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        logits = full_precision(features).squeeze(-1 - self.event_dim)
        return Independent(
            Bernoulli(logits=logits, validate_args=False), self.event_dim, validate_args=False
        )
