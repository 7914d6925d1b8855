"""Encoder and decoder as two factorisations of one joint density."""

from collections.abc import Mapping

from torch import Tensor

from src.models.draw import Draw
from src.models.objectives.base import Objective, Terms


class MutualInformationMachine(Objective):
    r"""A-MIM: −½ E_q[log p(x | z) + log p(z) + log q(z | x)] (Livne et al. 2019, arXiv:1910.03175).

    The cross-entropy of the encoder's joint density q(x, z) with the even mixture of encoder and decoder, by Jensen's
    inequality; the data's own density, a constant, is left out. Where the ELBO rewards an encoder's entropy this
    charges for it, so that codes inform about x: posteriors become as narrow as they can be. MIM itself also takes
    samples of the decoder, whose likelihood must then be sampled with a gradient; this is its asymmetric form.

    Args:
        num_samples: k.
        terms: weights of the latent's own terms, see ``ELBO``.
    """

    needs_log_q = True
    needs_plain_samples = True

    def __init__(self, num_samples: int = 1, terms: Mapping[str, float] | None = None) -> None:
        super().__init__({}, num_samples, terms)

    def forward(self, draw: Draw) -> Terms:
        values: dict[str, Tensor] = {
            "recon_nll": -draw.log_px.mean(0),
            "prior_nll": -draw.log_pz.mean(0),
            "encoder_nll": -draw.log_qz.mean(0),
        }
        half: dict[str, Tensor | float] = dict.fromkeys(values, 0.5)
        values |= {"kl": values["prior_nll"] - values["encoder_nll"], **draw.aux}
        return Terms(values, half | self.latent_weights(draw))
