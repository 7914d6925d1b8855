"""Structural similarity in the place of a likelihood."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import avg_pool2d

from src.models.likelihoods.base import AroundPicture, Likelihood
from src.utils.errors import UserError

# Wang et al. 2003: the weights of the scales from the finest on; 2004: the window and the constants.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
STABILISERS = 0.01**2, 0.03**2
# A similarity below this, which may be negative, gets the logarithm's tangent: its power has no gradient there.
SMALL = 0.05


class PseudoLikelihood(AroundPicture):
    """log p(x) = −energy(x, picture), which integrates to no known number and cannot be sampled.

    Args:
        picture: what is shown and compared with, (…, *shape).
        energy: (x, picture), both (…, *shape), → (…) nats.
        event_dim: how many axes the data has.
    """

    def __init__(
        self, picture: Tensor, energy: Callable[[Tensor, Tensor], Tensor], event_dim: int
    ) -> None:
        super().__init__(picture, event_dim)
        self.energy = energy

    def log_prob(self, value: Tensor) -> Tensor:
        return -self.energy(value.expand_as(self.loc), self.loc)


def ms_ssim(x: Tensor, y: Tensor, kernel: Tensor, weights: Sequence[float]) -> Tensor:
    """Multi-scale structural similarity of pictures in [0, 1], (N, C, H, W) → (N,).

    Π_j cs_j^(w_j) · ssim_M^(w_M): at all scales but the coarsest only contrast and structure are compared, each the
    mean over windows and channels.

    Args:
        kernel: the window's weights along one axis, (side,).
        weights: w, one for each scale from the finest on.
    """
    log_similarity = x.new_zeros(len(x))
    for scale, weight in enumerate(weights):
        if scale:
            x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
        luminance, structure = _compare(x, y, kernel)
        compared = structure if scale + 1 < len(weights) else luminance * structure
        log_similarity = log_similarity + weight * _log(compared.flatten(1).mean(1))
    return log_similarity.exp()


def _compare(x: Tensor, y: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast with structure, in every window that lies in the picture."""
    maps = torch.stack([x, y, x * x, y * y, x * y])
    rows, columns = (_windows(kernel, side) for side in x.shape[2:])
    # Products with a band matrix: on a CPU a convolution of one channel takes ten times as long.
    mean_x, mean_y, xx, yy, xy = rows @ (maps @ columns.mT)
    means, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    c1, c2 = STABILISERS
    luminance = (2 * means + c1) / (squares + c1)
    return luminance, (2 * (xy - means) + c2) / (xx + yy - squares + c2)


def _windows(kernel: Tensor, side: int) -> Tensor:
    """The matrix that takes an axis of ``side`` pixels to its weighted means, (side − window + 1, side)."""
    pixels = torch.eye(side, device=kernel.device, dtype=kernel.dtype)
    return pixels.unfold(0, len(kernel), 1) @ kernel


def _log(similarity: Tensor) -> Tensor:
    small = similarity < SMALL
    tangent = math.log(SMALL) + similarity / SMALL - 1
    return torch.where(small, tangent, torch.where(small, 1.0, similarity).log())


class MSSSIMLikelihood(Likelihood):
    r"""−log p(x | z) = weight · D · [(1 − l1) (1 − MS-SSIM(x, y)) + l1 · mean \|x − y\|], y = sigmoid(decoder(z)).

    D is the number of elements, over which other likelihoods sum. The measure is one of intensities from 0 on: it would
    take a negative picture, negative in luminance and in structure, for the picture itself. The window is 11 pixels
    wide as in Wang et al. 2004, less than half the side of smaller pictures, and there are as many scales, at most
    five, as it fits into. The similarity hardly sees a constant offset of a whole picture; the absolute error does.

    References:
        Snell et al. 2017, arXiv:1511.06409, have the similarity alone; Zhao et al. 2017, Loss Functions for Image
        Restoration with Neural Networks, arXiv:1511.08861, add the absolute error, in their code under the window of
        the coarsest scale, here without one. Wang et al. 2003, Multi-scale structural similarity.

    Args:
        shape: the data's shape, (…, C, H, W).
        weight: nats an element.
        l1: share of the absolute error, 0 to 1.
        parameters: decoder outputs an element, 1.

    Raises:
        UserError: the data is no picture, or smaller than 6×6.
    """

    normalised = False
    pseudo = True
    support = "unit"
    kinds = ("image", "sequence")
    kernel: Tensor

    def __init__(
        self, shape: Sequence[int], weight: float = 20.0, l1: float = 0.2, parameters: int = 1
    ) -> None:
        if len(shape) < 3 or min(shape[-2:]) < 6:
            raise UserError(
                f"model.likelihood msssim compares pictures of at least 6×6 pixels, and data.shape={list(shape)} is "
                "none; choose model/likelihood=gaussian or other data"
            )
        if not weight > 0 or not 0 <= l1 <= 1:
            raise UserError(
                f"model.likelihood: weight={weight} must be positive and l1={l1} in [0, 1]"
            )
        super().__init__(shape, parameters)
        self.weight, self.l1 = weight, l1
        side = min(shape[-2:])
        window = min(WINDOW, (side // 2 - 1) // 2 * 2 + 1)
        used = WEIGHTS[: int(math.log2(side // window)) + 1]
        self.weights = tuple(w / sum(used) for w in used)
        offsets = (torch.arange(window) - window // 2) * (WINDOW / window / SIGMA)
        self.register_buffer("kernel", torch.softmax(-0.5 * offsets.square(), 0), persistent=False)

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        (logits,) = self.parts(features)
        return PseudoLikelihood(logits.sigmoid(), self._energy, self.event_dim)

    def _energy(self, x: Tensor, y: Tensor) -> Tensor:
        # Variances are differences of products, which bf16 has no digits for.
        with torch.autocast(y.device.type, enabled=False):
            seen, shown = (value.reshape(-1, *value.shape[-3:]) for value in (x, y))
            similarity = ms_ssim(seen, shown, self.kernel, self.weights)
        batch = y.shape[: -self.event_dim]
        difference = 1 - similarity.view(*batch, -1).mean(-1)
        error = (x - y).abs().flatten(len(batch)).mean(-1)
        elements = y[(0,) * len(batch)].numel()
        return self.weight * elements * ((1 - self.l1) * difference + self.l1 * error)
