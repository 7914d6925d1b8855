"""Codes of held-out data with what is known of the data, and codes that are typed.

Letters: N samples, D latent dimensions, F factors.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from src.evaluation.codes import informative
from src.utils.errors import UserError


@dataclass(frozen=True)
class Codes:
    """What an encoder makes of held-out data.

    Attributes:
        z: posterior means, (N, D).
        kl: of every dimension, (D,) nats, or None where posterior or prior is not factorised.
        rows: of the test split, (N,).
        labels: (N,), or None.
        factors: (N, F), or None.
    """

    z: Tensor
    kl: Tensor | None
    rows: Tensor
    labels: Tensor | None
    factors: Tensor | None

    @property
    def information(self) -> Tensor:
        """How much every dimension says, (D,)."""
        return informative(self.z, self.kl)[0]

    @property
    def unit(self) -> str:
        """Of ``information``: nats of KL, or the variance of the means."""
        return informative(self.z, self.kl)[1]

    @property
    def order(self) -> list[int]:
        """All dimensions, the most informative first."""
        return self.information.argsort(descending=True).tolist()

    def told(self, dimension: int) -> str:
        """A dimension's name and how informative it is, on two lines of a plotly figure."""
        value = f"{float(self.information[dimension]):.2g}"
        return f"z {dimension}<br>" + (f"{value} nats" if self.unit == "nats" else f"var {value}")


def parsed(text: str, dim: int) -> Tensor:
    """A z (D,) that was typed, its numbers apart by spaces, commas or semicolons.

    Raises:
        UserError: these are not ``dim`` finite numbers.
    """
    words = [word for word in re.split(r"[\s,;\[\]()]+", text) if word]
    try:
        z = torch.tensor([float(word) for word in words])
    except ValueError as error:
        raise UserError(
            f"z takes {dim} numbers such as 0.5 -1.2, and this is none: {error}"
        ) from error
    if len(z) != dim:
        raise UserError(f"this model's z has {dim} finite numbers, and {len(z)} were given")
    if not bool(z.isfinite().all()):
        raise UserError("this model's z has finite numbers, and one of these is none")
    return z
