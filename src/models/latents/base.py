"""What every latent has: its parts, and who borrows what from whom."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from src.models.draw import Draw


class Latent(nn.Module):
    """Base of the latents: how z is inferred and turned back into a distribution over x.

    A prior or posterior that works with the latent metric, a prior made of posteriors, and a decoder that undoes its
    encoder borrow them here; what is borrowed is registered once, where it belongs.

    Args:
        encoder: x (B, *shape) → features (B, F).
        posterior: features → q(z | x).
        prior: → p(z); None for a deterministic autoencoder.
        decoder: z (N, D) → likelihood parameters (N, P, *shape).
        likelihood: parameters → p(x | z).
        metric: the Riemannian metric of the latent space; None for a Euclidean one.
    """

    # What the datamodule must yield; None for whatever the networks take.
    kinds: tuple[str, ...] | None = None
    # The batch's column that the parts are conditioned on; None for a model without a condition.
    condition_key: str | None = None
    # Whether z is one vector (D,) a data point, D the size that posterior and prior are given.
    one_vector = True
    # Whether one sample of z gives log p(x) itself, so that more of them give the same.
    exact = False
    # Whether the networks' weights may be divided among processes: nothing but their output is asked for.
    shardable = True

    def __init__(
        self,
        encoder: nn.Module,
        posterior: nn.Module,
        prior: nn.Module | None,
        decoder: nn.Module,
        likelihood: nn.Module,
        metric: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.posterior, self.prior = encoder, posterior, prior
        self.decoder, self.likelihood, self.metric = decoder, likelihood, metric
        for part in (posterior, prior):
            borrow: Any = getattr(part, "borrow_metric", None)
            if borrow and metric is not None:
                borrow(metric)
        for method, lent in (("borrow_posterior", self.encode_point), ("borrow_codes", posterior)):
            borrow = getattr(prior, method, None)
            if borrow:
                borrow(lent)
        for part in (decoder, likelihood):
            borrow = getattr(part, "borrow_encoder", None)
            if borrow:
                borrow(encoder)

    def check_condition(self, c: Tensor) -> None:
        """Refuse what is no condition of this model, at its edge and not in a training step."""
        raise NotImplementedError(
            "this model is unconditional: none of its parts takes a condition"
        )

    def point(self, x: Tensor) -> Tensor:
        """What the encoder sees of x (B, *shape): (B, *point shape)."""
        return x

    def encode_point(self, point: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | point)."""
        return self.posterior(self.encoder(point), c)

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x)."""
        return self.encode_point(self.point(x), c)

    def prior_over_z(self, c: Tensor | None = None) -> Distribution | None:
        """p(z); None for a deterministic autoencoder."""
        return None if self.prior is None else self.prior(c)

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z) for z of any batch shape."""
        raise NotImplementedError

    @property
    def has_bound(self) -> bool:
        """Whether log p(x) has a bound here: a prior, and a posterior with a density."""
        return self.prior is not None and getattr(self.posterior, "density", True)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """``decode``, as what ``torch.func.functional_call`` calls with other parameters."""
        return self.decode(z, c)

    def infer(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Draw:
        """k samples of z for every x, scored lazily."""
        q = self.encode(x, c)
        z, log_qz = sample_with_density(q, k)
        return Draw(
            x=x,
            z=z,
            q=q,
            p=self.prior_over_z(c),
            px=self.decode(z, c),
            own_log_qz=log_qz,
            aux=terms_of(q),
            c=c,
        )

    def diagnostics(self, x: Tensor, mean: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        """Further numbers of an evaluation, each (B,).

        Args:
            x: (B, *shape).
            mean: the posterior's mean.
            decoded: the likelihood's mean there, (B, *shape).
        """
        if self.metric is None or not self.metric.is_fitted:
            return {}
        point = self.metric().at(mean)
        found = {
            "metric_half_logdet_inverse": point.half_logdet_inverse,
            "metric_log10_condition": point.log10_condition(),
        }
        # Where every frame has a code of its own, the mean over them.
        return {name: value.view(len(x), -1).mean(1) for name, value in found.items()}

    @torch.no_grad()
    def refresh_metric(self, points: Tensor | None, means: Tensor, seed: int = 0) -> None:
        """Let the metric follow the encodings.

        Args:
            points: (N, *point shape), for a metric that is learned from them.
            means: posterior means of those points, (N, D).
        """
        assert self.metric is not None
        refresh: Any = self.metric.refresh
        refresh(means, points, seed)
        self.metric_changed()

    def metric_changed(self) -> None:
        """Tell the prior, which may depend on the metric."""
        changed: Any = getattr(self.prior, "metric_changed", None)
        if changed:
            changed()


def terms_of(q: Distribution) -> dict[str, Tensor]:
    """The terms that a posterior brings along, such as the commitment of a quantiser, each (B,).

    Where every frame has a code of its own, the mean over them.
    """
    if isinstance(q, Independent):
        return {name: value.mean(-1) for name, value in getattr(q.base_dist, "terms", {}).items()}
    return dict(getattr(q, "terms", {}))


def sample_with_density(q: Distribution, k: int) -> tuple[Tensor, Tensor | None]:
    """k reparametrised samples, and their log-density where it comes cheaper with the sample than afterwards."""
    shape = torch.Size((k,))
    both: Any = getattr(q, "rsample_and_log_prob", None)
    if both:
        return both(shape)
    inner: Any = q.base_dist if isinstance(q, Independent) else None
    if hasattr(inner, "rsample_and_log_prob"):
        z, log_prob = inner.rsample_and_log_prob(shape)
        return z, log_prob.flatten(1 + len(q.batch_shape)).sum(-1)
    return q.rsample(shape), None
