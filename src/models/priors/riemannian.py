"""The prior that the volume of the latent metric gives."""

import logging

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from src.models.geometry import RiemannianDensity, log_normaliser
from src.utils.errors import UserError

log = logging.getLogger(__name__)
# Effective samples below which the constant, and with it KL and NLL, deserves a warning.
FEW_SAMPLES = 200


class RiemannianPrior(nn.Module):
    """p(z) = √det G⁻¹(z) N(z; 0, I) / Z: high where the metric has seen data, proper because of the Gaussian.

    √det G⁻¹ alone (Chadebec et al. 2021, arXiv:2105.00026) has no finite mass, since G⁻¹ → λI far away. Z depends on
    the metric only and is estimated whenever that is fitted, so that the KL and the NLL are those of a density. The
    metric is the latent's; while it is Euclidean this is the standard normal.

    Args:
        samples: of the estimate of log Z.
        steps, leapfrog_steps, step_size: of the Hamiltonian Monte Carlo that draws samples; see ``RiemannianDensity``.
    """

    factorised = False
    log_z: Tensor

    def __init__(
        self,
        samples: int = 2**15,
        steps: int = 30,
        leapfrog_steps: int = 10,
        step_size: float | None = None,
    ) -> None:
        super().__init__()
        if samples < 2 or steps < 1 or leapfrog_steps < 1:
            raise UserError(
                f"model.prior: steps={steps} and leapfrog_steps={leapfrog_steps} must be at least 1, "
                f"samples={samples} at least 2"
            )
        self.samples = samples
        self.steps, self.leapfrog_steps, self.step_size = steps, leapfrog_steps, step_size
        self.register_buffer("log_z", torch.zeros(()))
        self._metric: tuple[nn.Module, ...] = ()

    def borrow_metric(self, metric: nn.Module) -> None:
        """Use ``metric``, which the latent owns."""
        self._metric = (metric,)  # a module in a tuple is not registered a second time

    def metric_changed(self) -> None:
        """Estimate log Z anew."""
        log_z, error, effective = log_normaliser(self._metric[0](), self.samples)
        self.log_z.copy_(torch.as_tensor(log_z))
        tell = log.warning if float(effective) < FEW_SAMPLES else log.info
        tell(
            "prior: log Z = %.3f ± %.3f nats (%.0f effective of %d samples)",
            float(log_z),
            float(error),
            float(effective),
            self.samples,
        )

    def forward(self, condition: Tensor | None = None) -> Distribution:
        if not self._metric:
            raise UserError(
                "model/prior=riemannian needs a latent metric; choose model/metric=fitted"
            )
        return RiemannianDensity(
            self._metric[0](), self.log_z, self.steps, self.leapfrog_steps, self.step_size
        )
