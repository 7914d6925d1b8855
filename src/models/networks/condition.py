"""What a model is conditioned on, as a vector."""

import torch
from torch import Tensor, nn

from src.utils.errors import UserError

UNKNOWN = -1


class LabelEmbedding(nn.Module):
    """A learned vector for every class, and one for a class that is not known: label −1, or no labels at all.

    Args:
        classes: how many; what the data publishes.
        width: of the vectors.
        dropout: the probability with which a training label counts as unknown, as in classifier-free guidance (Ho &
            Salimans 2022, arXiv:2207.12598), so that the model has seen what no label means.
    """

    def __init__(self, classes: int | None, width: int = 16, dropout: float = 0.3) -> None:
        super().__init__()
        if classes is None or classes < 1:
            raise UserError(
                "model/latent=conditional needs data with labels, data.classes of them; data=digits has 10"
            )
        if width < 1 or not 0 <= dropout <= 1:
            raise UserError(
                f"model.latent.condition: width={width} must be at least 1 and dropout={dropout} in [0, 1]"
            )
        self.width, self.dropout = width, dropout
        self.table = nn.Embedding(classes + 1, width)  # the first row is the unknown class

    def forget(self, labels: Tensor) -> Tensor:
        """The labels (…), in training some of them unknown."""
        if not self.training or self.dropout == 0:
            return labels
        lost = torch.rand(labels.shape, device=labels.device) < self.dropout
        return labels.masked_fill(lost, UNKNOWN)

    def forward(self, labels: Tensor | None = None) -> Tensor:
        """(…, width) of labels (…) int64; (width,) without."""
        return self.table.weight[0] if labels is None else self.table(labels + 1)
