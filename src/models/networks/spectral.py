"""Networks whose layers cannot stretch."""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def normalise_spectra(network: nn.Module) -> None:
    """Give the weight of every linear and convolutional layer the spectral norm 1.

    Miyato et al. 2018, arXiv:1802.05957; a kernel counts as the matrix of its output channels, as in the paper. Layers
    that start at zero, the last ones of residual blocks, have no direction to keep; they start orthogonal instead.
    """
    for layer in [module for module in network.modules() if isinstance(module, LAYERS)]:
        if not layer.weight.any():
            nn.init.orthogonal_(layer.weight)
        spectral_norm(layer)
