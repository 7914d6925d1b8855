"""Networks: tensors in, tensors out. Sizes come from the data's shape."""

from src.models.networks.amortised_flows import PlanarFlow, RadialFlow
from src.models.networks.background import BackgroundDecoder, BackgroundEncoder
from src.models.networks.condition import LabelEmbedding
from src.models.networks.conv import ConvDecoder, ConvEncoder, ResNetDecoder, ResNetEncoder
from src.models.networks.flows import AutoregressiveFlow, Flow, FlowChain, Inverted, SplineFlow
from src.models.networks.mlp import MLPDecoder, MLPEncoder
from src.models.networks.poses import PoseEncoder, ResidualMLPDecoder
from src.models.networks.standardise import StandardiseDecoder, StandardiseEncoder

__all__ = [
    "AutoregressiveFlow",
    "BackgroundDecoder",
    "BackgroundEncoder",
    "ConvDecoder",
    "ConvEncoder",
    "Flow",
    "FlowChain",
    "Inverted",
    "LabelEmbedding",
    "MLPDecoder",
    "MLPEncoder",
    "PlanarFlow",
    "PoseEncoder",
    "RadialFlow",
    "ResNetDecoder",
    "ResNetEncoder",
    "ResidualMLPDecoder",
    "SplineFlow",
    "StandardiseDecoder",
    "StandardiseEncoder",
]
