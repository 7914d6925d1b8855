"""The latent space of an opened run as one moves in it: points z (D,), from data and prior, and back to data.

Letters: N samples, D latent dimensions, T frames.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from src.evaluation.codes import encoded
from src.evaluation.exploring.charts import chart_of
from src.evaluation.exploring.codes import Codes
from src.evaluation.opened import OpenedRun
from src.models.latents import FramesLatent, LadderLatent
from src.utils.errors import UserError
from src.utils.seeding import isolated_rng

# Points decoded at once.
DECODED = 256
# What is shown of the prior by default, in its own standard deviations.
PRIOR_REACH = 3.0


@dataclass(frozen=True)
class LatentSpace:
    """Where a run's z lie, and what is decoded from them.

    Where the frames of a sequence are inferred apart, z is that of the frame; where they follow from the first one, z
    is z_0. What is decoded of a sequence is one frame.

    Attributes:
        opened: the run.
        frame: which frame of a sequence.
    """

    opened: OpenedRun
    frame: int = 0

    @property
    def latent(self) -> Any:
        """The model's."""
        return self.opened.model.latent

    @property
    def per_frame(self) -> bool:
        """Whether every frame has a z of its own."""
        return isinstance(self.latent, FramesLatent)

    @property
    def frames(self) -> int:
        """Of a sequence; 1 where samples are none."""
        return self.opened.model.shape[0] if self.opened.is_sequence else 1

    @property
    def classes(self) -> int | None:
        """How many the model can be conditioned on; None for an unconditional one."""
        return self.opened.classes

    @property
    def metric(self) -> Any:
        """The latent metric at work, or None: there is none, or it has not been fitted."""
        part = self.latent.metric
        return part() if part is not None and part.is_fitted else None

    @property
    def curved(self) -> Any:
        """The prior of a curved latent space, which knows its geodesics and distances; None in R^D."""
        return self.latent.prior if hasattr(self.latent.prior, "geodesic") else None

    @property
    def notes(self) -> list[str]:
        """What has to be known of this model's z before it is moved, in sentences."""
        posterior, found = self.latent.posterior, []
        if self.curved is not None:
            found.append(
                f"z lies in this space: {posterior.support}; a point elsewhere is brought into it."
            )
        elif told := chart_of(posterior).told:
            found.append(told)
        found += hierarchy_notes(self.latent)
        if self.per_frame:
            found.append("Every frame has a z of its own; this is that of the frame shown.")
        elif self.opened.is_sequence:
            found.append("z is that of the first frame, and the other frames follow from it.")
        return found

    @property
    def held_out(self) -> int:
        """How many samples the test split has.

        Raises:
            UserError: the data are not on this machine.
        """
        return len(self.opened.data.splits["test"]["x"])

    @cached_property
    def dim(self) -> int:
        """D."""
        return latent_shape(self.opened.model)[-1]

    def sample(self, row: int) -> tuple[Tensor, int | None]:
        """A row of the test split as it is shown, (*shape), and its label.

        Raises:
            UserError: there is no such row.
        """
        x, label = self.whole_sample(row)
        return (x[self.frame] if self.opened.is_sequence else x), label

    @torch.no_grad()
    def code_of(self, row: int) -> Tensor:
        """The posterior's mean of a row of the test split, (D,), given its label where the model wants one.

        Raises:
            UserError: there is no such row.
        """
        x, label = self.whole_sample(row)
        mean = self.opened.model.encode(x[None], condition(self.opened.model, label, 1)).mean[0]
        return mean[self.frame] if self.per_frame else mean

    @torch.no_grad()
    def codes(self, count: int) -> Codes:
        """Codes of at most ``count`` samples spread over the test split.

        Raises:
            UserError: the data are not on this machine, or the model makes NaN of them.
        """
        x, labels, rows = self.opened.held_out(count)
        given = labels if self.classes is not None else None
        z, _, kl = encoded(self.opened.model, x, c=given)
        if not bool(z.isfinite().all()):
            raise UserError("codes of this model are NaN or infinite: its training has diverged")
        if self.per_frame:
            kl = None if kl is None else kl.view(z.shape[1:])[self.frame]
            z = z[:, self.frame]
        factors = self.opened.data.factors("test")
        return Codes(z, kl, rows, labels, None if factors is None else factors[rows])

    @torch.no_grad()
    def posterior_draws(self, rows: Tensor, seed: int) -> Tensor:
        """One draw of z for each of ``rows`` of the test split, (N, D), always the same for a seed."""
        x, labels = self.opened.data.rows("test", rows), self.opened.data.labels("test")
        given = labels[rows] if self.classes is not None else None
        drawn = []
        with isolated_rng(seed):
            for start in range(0, len(x), DECODED):
                part = slice(start, start + DECODED)
                q = self.opened.model.encode(x[part], None if given is None else given[part])
                drawn.append(q.sample())
        z = torch.cat(drawn)
        return z[:, self.frame] if self.per_frame else z

    @property
    def source(self) -> str | None:
        """What new z are drawn from, in words; None where there is nothing to draw from."""
        model = self.opened.model
        if not model.can_sample:
            return None
        if model.sampler is not None:
            return "the density fitted to the codes after the training"
        return "the prior p(z)"

    def draws(self, count: int, seed: int, label: int | Tensor | None = None) -> Tensor:
        """New z (N, D) from ``source``; see the function ``draws``."""
        z = draws(self.opened.model, count, seed, label)
        return z[:, self.frame] if self.per_frame else z

    @torch.no_grad()
    def prior_mean(self, label: int | None = None) -> Tensor:
        """(D,).

        Raises:
            UserError: there is no prior, or it has no mean that is a point of the space.
        """
        if self.latent.prior is None:
            raise UserError("this model has no prior, and so no prior mean; choose another centre")
        prior = self.opened.model.prior(condition(self.opened.model, label, 1))
        try:
            mean = prior.mean
        except NotImplementedError as error:
            raise UserError(f"the prior's mean is not known: {error}") from error
        mean = (mean[self.frame] if self.per_frame else mean).reshape(-1)
        if "sphere" in str(getattr(self.latent.posterior, "support", "")):
            raise UserError(
                "the mean of a prior on a sphere is no point of it; choose another centre"
            )
        return mean

    @torch.no_grad()
    def prior_moments(self) -> Tensor | None:
        """Mean and sd of every dimension, (2, D), where new z are from a factorised Gaussian; None elsewhere."""
        model = self.opened.model
        if model.sampler is not None or self.latent.prior is None or self.classes is not None:
            return None
        p: Distribution = model.prior()
        while isinstance(p, Independent):
            p = p.base_dist
        if not isinstance(p, Normal):
            return None
        moments = torch.stack([p.mean, p.stddev])
        return moments[:, self.frame] if self.per_frame else moments

    def project(self, z: Tensor) -> Tensor:
        """The nearest z (…, D) of the space: a code, or a point of a curved space; R^D leaves z as it is."""
        return chart_of(self.latent.posterior).nearest(self.latent.posterior, z)

    @torch.no_grad()
    def decode(self, z: Tensor, label: int | None = None) -> Tensor:
        """What is shown of z (…, D), the likelihood's mean, (…, *shape); of a sequence one frame.

        Args:
            label: the class that a conditional decoder is given; None where it is unknown.
        """
        flat = z.reshape(-1, z.shape[-1])
        found = torch.cat([self._decode(part, label) for part in flat.split(DECODED)])
        return found.view(*z.shape[:-1], *found.shape[1:])

    def _decode(self, z: Tensor, label: int | None) -> Tensor:
        if not self.opened.is_sequence:
            model = self.opened.model
            return model.decode(z, condition(model, label, len(z))).mean
        state = z if self.per_frame else self.latent.trajectory(z)[:, self.frame]
        return self.latent.decode_frames(state)

    def whole_sample(self, row: int) -> tuple[Tensor, int | None]:
        """A row of the test split, of a sequence with all its frames, (*shape), and its label.

        Raises:
            UserError: there is no such row.
        """
        data, size = self.opened.data, self.held_out
        if not 0 <= row < size:
            raise UserError(f"sample {row} is not one of the held-out samples 0 to {size - 1}")
        labels = data.labels("test")
        x = data.rows("test", torch.tensor([row]))[0]
        return x, None if labels is None else int(labels[row])


@torch.no_grad()
def latent_shape(model: Any) -> tuple[int, ...]:
    """The shape of one z: (D,), or (T, D) where every frame has its own."""
    return tuple(model.encode(torch.zeros(1, *model.shape)).mean.shape[1:])


def condition(model: Any, label: int | Tensor | None, count: int) -> Tensor | None:
    """Labels as a conditional model takes them, (N,), −1 where unknown; None for every other model."""
    if model.latent.condition_key is None:
        return None
    if isinstance(label, Tensor):
        return label
    return torch.full((count,), -1 if label is None else label)


@torch.no_grad()
def draws(model: Any, count: int, seed: int, label: int | Tensor | None = None) -> Tensor:
    """New z (N, *``latent_shape``), as ``model.sample`` decodes them; always the same for a seed.

    Args:
        label: the class that a conditional prior is given, or one for every draw; None where it is unknown.

    Raises:
        UserError: there is nothing to draw from.
    """
    if not model.can_sample:
        raise UserError("this model has no prior, and no density fitted to its codes")
    with isolated_rng(seed):
        return model.sample_z(count, condition(model, label, count))


def hierarchy_notes(latent: Any) -> list[str]:
    """That some dimensions reach no picture, in a sentence; nothing where all of them do."""
    if not isinstance(latent, LadderLatent) or latent.skip:
        return []
    return [
        f"The decoder of this hierarchy looks at its lowest level only, the last {latent.lowest} numbers of z: moving "
        "another changes no picture."
    ]


def reach(space: LatentSpace, codes: Codes) -> float:
    """How far from 0 a dimension is shown by default: what holds nearly all of the prior, or of the codes.

    The codes' own spread counts where z lies in a curved space, is a code, or has no prior.
    """
    support = getattr(space.latent.posterior, "support", "euclidean")
    if space.latent.prior is not None and support == "euclidean":
        return PRIOR_REACH
    largest = float(codes.z.abs().quantile(0.99))
    return max(0.1, float(f"{1.2 * largest:.1g}"))
