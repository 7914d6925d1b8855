"""Latents of sequences: a chain of flows over time, or one vector a frame.

Letters: B batch, T frames, D latent dimensions, P likelihood parameters.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from src.models.draw import Draw
from src.models.latents.base import Latent, sample_with_density, terms_of


class FrameSequence(Latent):
    """What the latents of sequences share: networks that see one frame, a likelihood over all of them."""

    kinds: tuple[str, ...] = ("sequence",)

    def trajectory(self, z: Tensor) -> Tensor:
        """The latent state of every frame, (…, T, D), of a z that ``infer`` or the prior has drawn."""
        raise NotImplementedError

    def decode_states(self, states: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z_0 … z_{T−1}) for states (…, T, D), batch shape (…)."""
        parameters = self.decoder(states.flatten(0, -2))
        parameters = parameters.view(*states.shape[:-1], *parameters.shape[1:])
        frames_axis = states.dim() - 2
        return self.likelihood(parameters.transpose(frames_axis, frames_axis + 1), c)

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z), z as the prior draws it."""
        return self.decode_states(self.trajectory(z), c)

    def decode_frames(self, states: Tensor) -> Tensor:
        """Single frames (…, *frame), the likelihood's mean, of single latent states (…, D)."""
        # The likelihood wants sequences: every state becomes a sequence of one frame.
        return self.decode_states(states[..., None, :]).mean.squeeze(states.dim() - 1)

    def diagnostics(self, x: Tensor, mean: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        """How far the last frame is from the first, of the reconstruction and in latent space."""
        states = self.trajectory(mean)
        return super().diagnostics(x, mean, decoded) | {
            "cyclicity_error": _first_to_last(decoded, 1),
            "latent_cyclicity_error": _first_to_last(states, 1),
        }


def _first_to_last(values: Tensor, axis: int) -> Tensor:
    """Mean squared difference of the first and the last of (…, T, …) along ``axis``, (B,) or (k, B)."""
    difference = values.select(axis, -1) - values.select(axis, 0)
    return difference.square().flatten(axis).mean(-1)


class SequenceLatent(FrameSequence):
    """z_0 inferred from the first frame, the others by a chain of flows: z_{t+1} = f_t(z_t).

    With a prior on z_0 and a deterministic chain no log-determinant enters the ELBO. The term ``loop`` is
    the mean squared distance of z_{T−1} from z_0, both as the chain left them, for sequences that close.

    Args:
        chain: the flows.
        parts: see ``Latent``.
    """

    def __init__(self, chain: nn.Module, **parts: Any) -> None:
        super().__init__(**parts)
        self.chain = chain

    def point(self, x: Tensor) -> Tensor:
        """The first frame."""
        return x[:, 0]

    def trajectory(self, z: Tensor) -> Tensor:
        """z_0 (…, D) → (…, T, D)."""
        return self.chain(z)[0]

    def infer(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Draw:
        """k samples of z_0 for every sequence."""
        q = self.encode(x, c)
        z, log_qz = sample_with_density(q, k)
        return self._draw(x, z, q, log_qz, c)

    def _draw(
        self, x: Tensor, z: Tensor, q: Distribution, log_qz: Tensor | None, c: Tensor | None
    ) -> Draw:
        states = self.trajectory(z)
        loop = _first_to_last(states, 2).mean(0)
        px = self.decode_states(states, c)
        return Draw(
            x=x,
            z=z,
            q=q,
            p=self.prior_over_z(c),
            px=px,
            own_log_qz=log_qz,
            aux={"loop": loop, **terms_of(q)},
        )


class LongitudinalLatent(SequenceLatent):
    """The same, inferred in training from a frame j drawn for the batch (Chadebec & Allassonnière 2023).

    z_0 is reached by walking back with the exact inverses, so that
    log q(z_0 | x_j) = log q(z_j | x_j) − Σ_{t<j} log|det ∂f_t⁻¹|, and the ELBO gets the log-determinants with
    this sign. Evaluation infers from the first frame, so that it is the same every time.
    """

    def infer(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Draw:
        """k samples of z_0 for every sequence."""
        j = int(torch.randint(x.shape[1], ())) if self.training else 0
        if j == 0:
            return super().infer(x, c, k)
        q = self.encode_point(x[:, j], c)
        z_j, log_q = sample_with_density(q, k)
        log_q = q.log_prob(z_j) if log_q is None else log_q
        back: Any = self.chain.back
        z_0, log_det = back(z_j, j)
        return self._draw(x, z_0, q, log_q - log_det, c)


class FramesLatent(FrameSequence):
    """One latent vector a frame, z (T, D), all frames inferred apart; a prior over one frame serves each of them.

    A prior whose event is (T, D), such as a Gaussian process, ties the frames together.

    Args:
        length: T.
        parts: see ``Latent``.
    """

    one_vector = False

    def __init__(self, length: int, **parts: Any) -> None:
        super().__init__(**parts)
        self.length = length

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x), event (T, D)."""
        features = self.encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return Independent(self.posterior(features, c), 1, validate_args=False)

    def point(self, x: Tensor) -> Tensor:
        """All frames, one after another: (B·T, *frame)."""
        return x.flatten(0, 1)

    def trajectory(self, z: Tensor) -> Tensor:
        """z is its own trajectory, (…, T, D)."""
        return z

    def prior_over_z(self, c: Tensor | None = None) -> Distribution | None:
        """p(z), event (T, D): a prior over one frame repeated, one over a sequence as it is."""
        prior = super().prior_over_z(c)
        if prior is None or len(prior.event_shape) == 2:
            return prior
        return Independent(prior.expand(torch.Size((self.length,))), 1, validate_args=False)
