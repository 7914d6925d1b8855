"""Aggregate posterior and prior, compared by samples."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from src.models.draw import Draw
from src.models.objectives.base import prior_samples
from src.models.objectives.elbo import kl
from src.models.objectives.penalised import Penalised
from src.utils.errors import UserError

Kernel = Literal["imq", "rbf"]


class MMDRegularised(Penalised):
    r"""−E_q[log p(x | z)] + β KL(q(z | x) ‖ p(z)) + λ MMD²(q(z), p(z)), q(z) the aggregate posterior.

    InfoVAE (Zhao et al. 2019, arXiv:1706.02262): with the paper's α and λ', β = 1 − α and λ = α + λ' − 1. WAE-MMD
    (Tolstikhin et al. 2018, arXiv:1711.01558): β null, which leaves the KL out, so that the encoder may be a point; λ
    is in nats here, the paper's divided by 2σ² of the likelihood. The kernel is the mean over s in ``scales`` of
    C/(C + ‖a − b‖²) (``imq``) or exp(−‖a − b‖²/C) (``rbf``), C = 2 D s, which for s = 1 is the expected squared
    distance of two draws of N(0, I). The estimate is unbiased, and so may be negative; InfoVAE's code has the biased
    one.

    Args:
        beta: weight of the KL; null drops it.
        mmd: λ.
        kernel: see above.
        scales: see above.
        num_samples: k; all k · B samples are compared with as many of the prior.
        terms: weights of the latent's own terms, see ``ELBO``.

    Raises:
        UserError: an unknown kernel, or scales that are not positive.
    """

    def __init__(
        self,
        beta: float | None = None,
        mmd: float = 500.0,
        kernel: Kernel = "imq",
        scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
        num_samples: int = 1,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        if kernel not in ("imq", "rbf"):
            raise UserError(f"model.objective.kernel='{kernel}' is unknown; choices: imq, rbf")
        if not scales or min(scales) <= 0:
            raise UserError(f"model.objective.scales={list(scales)} must be positive numbers")
        super().__init__({"kl": beta, "mmd": mmd}, num_samples, terms)
        self.kernel: Kernel = kernel
        self.scales, self.needs_density = tuple(scales), beta is not None
        self.teaches_prior = self.needs_density

    def penalties(self, draw: Draw) -> dict[str, Tensor]:
        inferred, prior = (
            draw.z.flatten(0, 1).flatten(1),
            prior_samples(draw, len(draw.z)).flatten(1),
        )
        found = {"mmd": squared_mmd(inferred, prior, self.kernel, self.scales)}
        return found | ({"kl": kl(draw)} if self.needs_density else {})


def squared_mmd(a: Tensor, b: Tensor, kernel: Kernel, scales: Sequence[float]) -> Tensor:
    """The unbiased estimate of MMD² (Gretton et al. 2012) from samples (n, D) and (m, D), a number."""

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        # Exact differences: the product form is off where points coincide, and those count most.
        squares = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        widths = squares.new_tensor(scales)[:, None, None] * 2 * a.shape[1]
        ratio = squares / widths
        return (1 / (1 + ratio) if kernel == "imq" else (-ratio).exp()).mean(0)

    def within(a: Tensor) -> Tensor:
        values, n = similarity(a, a), len(a)
        return (values.sum() - values.diagonal().sum()) / max(n * (n - 1), 1)

    return within(a) + within(b) - 2 * similarity(a, b).mean()
