"""The seam between how z is inferred and how it is scored."""

from dataclasses import dataclass, field

from torch import Tensor
from torch.distributions import Distribution


@dataclass
class Draw:
    """k latent samples for a batch, with what is needed to score them.

    The densities are computed when an objective first asks for them, so that a closed-form ELBO does not pay
    for a Monte-Carlo one. A latent whose density is cheap only at its own samples passes ``own_log_qz``; one whose z
    is not a sample of q, moved on by a flow or by dynamics, passes the densities that make the bound right.

    Attributes:
        x: the batch, (B, *shape).
        z: the samples, (k, B, …).
        q: the posterior, batch shape (B,).
        p: the prior, batch shape () or (B,).
        px: the likelihood at every sample, batch shape (k, B).
        own_log_qz: (k, B) nats, where the latent has computed it with the sample; no closed-form KL is taken then.
        own_log_pz: (k, B) nats, likewise.
        own_kl: (B,) nats, where the latent knows its KL better than the mean of log q − log p, as a sum over levels.
        c: the condition, (B,), where the model has one.
        aux: further per-sample terms of the latent, each (B,), which enter the loss with the weight that the objective
            has for them.
    """

    x: Tensor
    z: Tensor
    q: Distribution
    p: Distribution | None
    px: Distribution
    own_log_qz: Tensor | None = None
    own_log_pz: Tensor | None = None
    own_kl: Tensor | None = None
    c: Tensor | None = None
    aux: dict[str, Tensor] = field(default_factory=dict)
    # Not cached_property, whose lock (up to Python 3.11) breaks the graph of a compiled step.
    _known: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def log_px(self) -> Tensor:
        """log p(x | z), (k, B) nats."""
        if "px" not in self._known:
            self._known["px"] = self.px.log_prob(self.x)
        return self._known["px"]

    @property
    def log_pz(self) -> Tensor:
        """log p(z), (k, B) nats."""
        if self.p is None:
            raise NotImplementedError("this model has no prior over z: a deterministic autoencoder")
        if "pz" not in self._known:
            own = self.own_log_pz
            self._known["pz"] = self.p.log_prob(self.z) if own is None else own
        return self._known["pz"]

    @property
    def log_qz(self) -> Tensor:
        """log q(z | x), (k, B) nats."""
        if "qz" not in self._known:
            own = self.own_log_qz
            self._known["qz"] = self.q.log_prob(self.z) if own is None else own
        return self._known["qz"]
