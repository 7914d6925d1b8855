"""A latent vector of a data point whose class is given."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from src.models.draw import Draw
from src.models.latents.flat import FlatLatent
from src.utils.errors import UserError


class ConditionalLatent(FlatLatent):
    """q(z | x, c), p(z | c) and p(x | z, c) (Kingma et al. 2014, arXiv:1406.5298; Sohn et al. 2015, NeurIPS).

    The vector e(c) joins the encoder's features and z, and is what the prior gets as its condition. The class is always
    given, or counts as unknown; unlike in the papers it is never inferred.

    Args:
        condition: labels (…) → e(c) (…, width), with the e of no labels, and ``forget``, which hides some in training.
        parts: see ``Latent``; the posterior takes the encoder's features and width more, the decoder z and width more.
    """

    condition_key = "label"

    def __init__(self, condition: Any, **parts: Any) -> None:
        super().__init__(**parts)
        self.condition = condition
        encoder: Any = self.encoder
        head: Any = getattr(self.posterior, "head", None)
        if head is not None and head.in_features != encoder.out_features + condition.width:
            raise UserError(
                f"model/latent=conditional hands {condition.width} numbers of the label on to posterior and decoder, "
                "which must be that much wider; choose model=conditional_vae"
            )

    def check_condition(self, c: Tensor) -> None:
        """Refuse labels that no class has; −1 is an unknown one. Asked at the model's edge, not in a training step."""
        classes = self.condition.table.num_embeddings - 1
        if c.numel() and not (int(c.min()) >= -1 and int(c.max()) < classes):
            raise UserError(
                f"a label is one of 0 to {classes - 1}, or -1 where it is unknown, not {int(c.min())} to {int(c.max())}"
            )

    def _join(self, values: Tensor, c: Tensor | None) -> Tensor:
        """(…, F) beside e(c), whose labels are those of the last axes of …"""
        vector = self.condition(c)
        return torch.cat([values, vector.expand(*values.shape[:-1], vector.shape[-1])], -1)

    def encode_point(self, point: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z | x, c)."""
        return self.posterior(self._join(self.encoder(point), c))

    def prior_over_z(self, c: Tensor | None = None) -> Distribution | None:
        """p(z | c), batch shape that of c where the prior looks at it."""
        return None if self.prior is None else self.prior(self.condition(c))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x | z, c) for z (…, D) and c of any shape that broadcasts to …"""
        return super().decode(self._join(z, c))

    def infer(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Draw:
        """k samples of z for every x, in training with some of the labels hidden from all parts alike."""
        forget: Any = self.condition.forget
        return super().infer(x, None if c is None else forget(c), k)
