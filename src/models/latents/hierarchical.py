"""Latents in levels, each conditioned on the one above.

Letters: k samples, B batch, L levels, D_l dimensions of level l, F features. Level L is the top, level 1 the one next
to x; z = [z_L … z_1] is (k, B, Σ D_l), so that whatever works with one latent vector works with a hierarchy.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from src.models.distributions import closed_form_kl
from src.models.draw import Draw
from src.models.latents.base import sample_with_density, terms_of
from src.models.latents.flat import FlatLatent
from src.models.networks.mlp import activation
from src.models.posteriors.gaussian import DiagonalGaussian
from src.utils.errors import UserError

Merge = Literal["precision", "residual"]


def _normal(mean: Tensor, sigma: Tensor) -> Distribution:
    return Independent(Normal(mean, sigma, validate_args=False), 1, validate_args=False)


class Level(nn.Module):
    """p(z_l | z_{l+1}) and q(z_l | z_{l+1}, x), both diagonal Gaussians.

    From x come μ̂, σ̂. With ``precision`` σ⁻² = σ̂⁻² + σ_p⁻² and μ = σ² (μ̂ σ̂⁻² + μ_p σ_p⁻²) (Sønderby et al. 2016,
    arXiv:1602.02282); with ``residual`` μ = μ_p + μ̂ and σ = σ_p σ̂, where μ̂ and σ̂ see z_{l+1} too (Vahdat & Kautz
    2020, arXiv:2007.03898).

    Args:
        above: D_{l+1}.
        dim: D_l.
        in_features: F.
        width: of the hidden layer between z_{l+1} and the prior's mean and σ.
        merge: see above.
        act: activation.
    """

    def __init__(
        self, above: int, dim: int, in_features: int, width: int, merge: Merge, act: str
    ) -> None:
        super().__init__()
        self.dim, self.merge = dim, merge
        self.down = nn.Sequential(nn.Linear(above, width), activation(act))
        self.generated = DiagonalGaussian(width, dim)
        seen = in_features + width if merge == "residual" else in_features
        self.recognised = DiagonalGaussian(seen, dim)

    def forward(
        self, above: Tensor, features: Tensor | None = None
    ) -> tuple[Distribution, Distribution]:
        """p(z_l | z_{l+1} = above), and what z_l is drawn from: q with features of x, (B, F), else p itself."""
        hidden = self.down(above)
        mean, sigma = self.generated.moments(hidden)
        p = _normal(mean, sigma)
        if features is None:
            return p, p
        if self.merge == "residual":
            wide = features.expand(*hidden.shape[:-1], features.shape[-1])
            shift, stretch = self.recognised.moments(torch.cat([hidden, wide], -1))
            return p, _normal(mean + shift, sigma * stretch)
        own_mean, own_sigma = self.recognised.moments(features)
        own_precision, precision = own_sigma.pow(-2), sigma.pow(-2)
        variance = 1 / (own_precision + precision)
        merged = variance * (own_mean * own_precision + mean * precision)
        return p, _normal(merged, variance.sqrt())


class Step(NamedTuple):
    """A level on the way down: its sample, the level's prior, what the sample was drawn from and its log-density."""

    z: Tensor
    p: Distribution
    own: Distribution
    log_own: Tensor

    @property
    def rate(self) -> Tensor:
        """KL(own ‖ p) given the sample above, (B,) nats; a Monte-Carlo one where there is no closed form."""
        closed = closed_form_kl(self.own, self.p)
        value = self.log_own - self.p.log_prob(self.z) if closed is None else closed
        return value.expand_as(self.log_own).mean(0)


class Ancestral(Distribution):
    """z = [z_L … z_1]: z_L from ``top``, every other level given the one above it.

    Args:
        top: over z_L.
        levels: those below, from the upper to the lower.
        features: what each of ``levels`` sees of x, (B, F); without them this is the prior.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(
        self, top: Distribution, levels: nn.ModuleList, features: Sequence[Tensor] = ()
    ) -> None:
        self.top, self.levels = top, levels
        self.features: Sequence[Tensor | None] = features or [None] * len(levels)
        below: Any = levels
        self.dims = [top.event_shape[0], *(level.dim for level in below)]
        event_shape = torch.Size([sum(self.dims)])
        super().__init__(top.batch_shape, event_shape, validate_args=False)

    def _below(self) -> Iterable[tuple[nn.Module, Tensor | None]]:
        return zip(self.levels, self.features, strict=True)

    def _descend(self, first: Tensor, choose: Callable[[Distribution], Tensor]) -> Tensor:
        """[z_L … z_1] where z_L is ``first`` and each other level is what ``choose`` takes of its distribution."""
        parts = [first]
        for level, features in self._below():
            parts.append(choose(level(parts[-1], features)[1]))
        return torch.cat(parts, -1)

    @property
    def mean(self) -> Tensor:
        """Every level's mean given the mean above. The expectation itself has no closed form."""
        return self._descend(self.top.mean, lambda level: level.mean)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            first = self.top.sample(torch.Size(sample_shape))
            return self._descend(first, lambda level: level.sample())

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        first = self.top.rsample(torch.Size(sample_shape))
        return self._descend(first, lambda level: level.rsample())

    def steps(self, k: int, prior: Distribution) -> list[Step]:
        """k samples, (k, B, …), from the top, whose prior is ``prior``, downwards."""
        z, log_own = sample_with_density(self.top, k)
        log_own = self.top.log_prob(z) if log_own is None else log_own
        found = [Step(z, prior, self.top, log_own)]
        for level, features in self._below():
            p, own = level(found[-1].z, features)
            z = own.rsample()
            found.append(Step(z, p, own, own.log_prob(z)))
        return found

    def rsample_and_log_prob(self, sample_shape: torch.Size) -> tuple[Tensor, Tensor]:
        """z (*sample_shape, B, ΣD) and its log-density."""
        steps = self.steps(sample_shape.numel(), self.top)
        z, log_prob = torch.cat([step.z for step in steps], -1), _sum(s.log_own for s in steps)
        return z.view(*sample_shape, *z.shape[1:]), log_prob.view(*sample_shape, *z.shape[1:-1])

    def log_prob(self, value: Tensor) -> Tensor:
        above, *rest = value.split(self.dims, -1)
        total = self.top.log_prob(above)
        for (level, features), z in zip(self._below(), rest, strict=True):
            total = total + level(above, features)[1].log_prob(z)
            above = z
        return total


def _sum(values: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, values)


class LadderLatent(FlatLatent):
    """z_L … z_1 in a hierarchy, inferred bottom-up and merged top-down (Sønderby et al. 2016, arXiv:1602.02282).

    d_1 = encoder(x), d_{l+1} = MLP(d_l); the parts ``posterior`` and ``prior`` are those of the top level, q(z_L | d_L)
    and p(z_L), and ``Level`` has the others. The KL is Σ_l KL(q(z_l | z_{l+1}, x) ‖ p(z_l | z_{l+1})), in closed form
    given the sample above, which is less noisy than log q − log p at the samples; ``kl_level_1`` … report every level.
    The authors' networks have batch normalisation, these have not; one hidden layer leads from one level to the next
    where theirs have two.

    Args:
        dim: D_L, of the posterior and prior.
        lower: D_1, D_2, …: the levels below the top, from the bottom.
        in_features: width of the encoder's output, and of every d_l.
        width: of the hidden layer between a level and the prior of the next.
        merge: ``precision`` or ``residual``, see ``Level``.
        skip: the decoder sees all levels, [z_L … z_1]; z_1 only as in the paper if not.
        act: activation.
        parts: see ``Latent``.
    """

    one_vector = False

    def __init__(
        self,
        dim: int,
        lower: Sequence[int],
        in_features: int,
        width: int = 128,
        merge: Merge = "precision",
        skip: bool = False,
        act: str = "relu",
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        if merge not in ("precision", "residual"):
            raise UserError(
                f"model.latent.merge='{merge}' is unknown; choices: precision, residual"
            )
        if any(size < 1 for size in lower):
            raise UserError(
                f"model.latent.lower={list(lower)}: every level needs at least one dimension"
            )
        sizes = [dim, *reversed(lower)]
        self.lowest, self.skip = sizes[-1], skip
        self.up = nn.ModuleList(
            nn.Sequential(nn.Linear(in_features, in_features), activation(act)) for _ in lower
        )
        self.levels = nn.ModuleList(
            Level(above, size, in_features, width, merge, act)
            for above, size in zip(sizes, sizes[1:], strict=False)
        )

    def encode_point(self, point: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z_L | x) of the top level, which is what a prior of the top level may be made of."""
        return self.posterior(self._features(point)[0], c)

    def _features(self, point: Tensor) -> list[Tensor]:
        """d_L … d_1, each (B, F)."""
        found = [self.encoder(point)]
        for layer in self.up:
            found.insert(0, layer(found[0]))
        return found

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z_L … z_1 | x)."""
        top, *lower = self._features(self.point(x))
        return Ancestral(self.posterior(top, c), self.levels, lower)

    def prior_over_z(self, c: Tensor | None = None) -> Distribution | None:
        """p(z_L … z_1)."""
        top = super().prior_over_z(c)
        return None if top is None else Ancestral(top, self.levels)

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z) for z = [z_L … z_1] of any batch shape, (…, ΣD)."""
        return super().decode(z if self.skip else z[..., -self.lowest :], c)

    def infer(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Draw:
        """k samples of all levels for every x."""
        q, p = self.encode(x, c), self.prior_over_z(c)
        assert isinstance(q, Ancestral) and isinstance(p, Ancestral)  # compat.py refuses others
        steps = q.steps(k, p.top)
        z = torch.cat([step.z for step in steps], -1)
        rates = [step.rate for step in steps]
        names = [f"kl_level_{level}" for level in range(len(rates), 0, -1)]
        return Draw(
            *(x, z, q, p, self.decode(z, c)),
            own_log_qz=_sum(step.log_own for step in steps),
            own_log_pz=_sum(step.p.log_prob(step.z) for step in steps),
            own_kl=_sum(rates),
            aux=terms_of(q.top) | dict(zip(names, rates, strict=True)),
            c=c,
        )
