"""Networks: tensors in, tensors out. Sizes come from the data's shape."""

from src.models.networks.conv import ConvDecoder, ConvEncoder, ResNetDecoder, ResNetEncoder
from src.models.networks.flows import AutoregressiveFlow, FlowChain
from src.models.networks.mlp import MLPDecoder, MLPEncoder

__all__ = [
    "AutoregressiveFlow",
    "ConvDecoder",
    "ConvEncoder",
    "FlowChain",
    "MLPDecoder",
    "MLPEncoder",
    "ResNetDecoder",
    "ResNetEncoder",
]
