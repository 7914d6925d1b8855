"""What the objectives share that add penalties to the reconstruction."""

from collections.abc import Mapping

from torch import Tensor

from src.models.draw import Draw
from src.models.objectives.base import Objective, Terms


class Penalised(Objective):
    """−E_q[log p(x | z)] + Σ weight · penalty, the penalties being of each sample or of the batch.

    Those of the batch depend on its size, and in a distributed training each process has its own.

    Args:
        weights: penalty → weight; None leaves it out.
        num_samples: k.
        terms: weights of the latent's own terms, see ``ELBO``.
    """

    def __init__(
        self,
        weights: Mapping[str, float | None],
        num_samples: int = 1,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        chosen = {name: weight for name, weight in weights.items() if weight is not None}
        super().__init__(chosen, num_samples, terms)
        self.weighted = tuple(chosen)

    def penalties(self, draw: Draw) -> dict[str, Tensor]:
        """The penalties, (B,) or () for one of the batch; what has no weight is reported."""
        raise NotImplementedError

    def forward(self, draw: Draw) -> Terms:
        found = {name: value.expand(len(draw.x)) for name, value in self.penalties(draw).items()}
        values = {"recon_nll": -draw.log_px.mean(0), **found, **draw.aux}
        weights = {name: self.weight(name) for name in self.weighted}
        return Terms(values, {"recon_nll": 1.0, **weights, **self.latent_weights(draw)})
