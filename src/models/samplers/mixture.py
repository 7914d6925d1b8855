"""A mixture of Gaussians with full covariances, by expectation maximisation."""

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from src.models.samplers.base import HELD_OUT, Sampler


class MixtureSampler(Sampler):
    """Σ_k π_k N(μ_k, Σ_k), fitted by scikit-learn; what regularised autoencoders sample from (Ghosh et al. 2020).

    Args:
        dim: D.
        components: K; fewer where there are not ten codes for each.
        regularization: added to the diagonals, in units of the mean variance of a dimension.
    """

    logits: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, dim: int, components: int = 10, regularization: float = 1e-4) -> None:
        super().__init__()
        self.regularization = regularization
        self.register_buffer("logits", torch.zeros(components))
        self.register_buffer("means", torch.zeros(components, dim))
        self.register_buffer("factors", torch.eye(dim).repeat(components, 1, 1))

    def _fit(self, z: Tensor, x: Tensor) -> dict[str, float]:
        # Not as they come: a folder of pictures is sorted by class.
        codes = z.detach()[torch.randperm(len(z), device=z.device)].cpu().double().numpy()
        count = min(len(self.logits), len(codes) // 10)
        held = max(1, int(HELD_OUT * len(codes)))
        floor = self.regularization * float(codes.var(0).mean())
        mixture = GaussianMixture(count, reg_covar=floor, random_state=0)
        nll = -float(mixture.fit(codes[held:]).score(codes[:held]))
        mixture.fit(codes)
        self.logits.fill_(-torch.inf)[:count] = (
            torch.from_numpy(mixture.weights_).log().to(self.logits)
        )
        self.means[:count] = torch.from_numpy(mixture.means_).to(self.means)
        factors = torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))
        self.factors[:count] = factors.to(self.factors)
        return {"nll": nll}

    def _density(self) -> Distribution:
        self._ask()
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False),
            MultivariateNormal(self.means, scale_tril=self.factors, validate_args=False),
            validate_args=False,
        )

    def log_prob(self, z: Tensor) -> Tensor:
        return self._density().log_prob(z)

    def sample(self, n: int) -> Tensor:
        return self._density().sample(torch.Size((n,)))
