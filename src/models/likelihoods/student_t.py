"""The likelihood with heavy tails."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, distributions
from torch.distributions import Distribution

from src.models.distributions import bounded
from src.models.likelihoods.base import Scale, ScaledLikelihood
from src.utils.errors import UserError

# ν − 2 lies between e⁻⁶ and e⁶: the variance exists, and lgamma(ν/2) has its digits in fp32.
LIMIT = 6.0


class StudentT(distributions.StudentT):
    """Student's t with one ν for all elements: its two log Γ are computed once, where torch computes them for each."""

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(df, loc, scale, validate_args=False)
        self.shared_df = df

    def log_prob(self, value: Tensor) -> Tensor:
        df = self.shared_df
        constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * torch.log(math.pi * df)
        squares = ((value - self.loc) / self.scale).square()
        return constant - self.scale.log() - (df + 1) / 2 * torch.log1p(squares / df)


class StudentTLikelihood(ScaledLikelihood):
    """p(x | z) = Student-t(x; decoder(z), s, ν), robust against outlying elements.

    log p = log Γ((ν+1)/2) − log Γ(ν/2) − ½ log(πν) − log s − (ν+1)/2 log(1 + ((x − m)/s)²/ν); its variance is
    s² ν/(ν − 2), and ν → ∞ gives N(m, s²).

    References:
        Takahashi et al. 2018, Student-t Variational Autoencoder for Robust Density Estimation, IJCAI. The authors'
        decoder predicts s and ν of every element; here ν is one number, and s too unless ``scale`` is ``per_pixel``.

    Args:
        shape: the data's shape.
        scale: ``learned``, ``fixed`` or ``per_pixel``, see ``ScaledLikelihood``.
        s: (starting) scale, in the data's units.
        df: (starting) degrees of freedom ν, from 2.01 to 400.
        learn_df: learn ν.
        parameters: decoder outputs an element: 2 for ``per_pixel``, else 1.
    """

    raw_df: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        scale: Scale = "learned",
        s: float = 0.1,
        df: float = 5.0,
        learn_df: bool = True,
        parameters: int = 1,
    ) -> None:
        if not 2.01 <= df <= 400:
            raise UserError(
                f"model.likelihood.df={df} must lie between 2.01, below which there is no variance, and 400, which is "
                "as good as model/likelihood=gaussian"
            )
        super().__init__(shape, scale, s, parameters)
        self.keep("raw_df", LIMIT * math.atanh(math.log(df - 2) / LIMIT), learn_df)

    @property
    def df(self) -> Tensor:
        """ν."""
        return 2 + torch.exp(bounded(self.raw_df, LIMIT))

    def forward(self, features: Tensor, condition: Tensor | None = None) -> Distribution:
        location, s = self.location_and_scale(features)
        return self.over_data(StudentT(self.df, location, s))
