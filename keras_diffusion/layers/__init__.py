"""The blocks that networks are made of. Each works alone in any Keras model."""

from keras_diffusion.layers.adaptive_transformer_block import AdaptiveTransformerBlock
from keras_diffusion.layers.attention import Attention
from keras_diffusion.layers.attention_block import AttentionBlock
from keras_diffusion.layers.bottleneck import BOTTLENECKS, Bottleneck, FSQBottleneck, KLBottleneck, VQBottleneck
from keras_diffusion.layers.dit_block import DiTBlock
from keras_diffusion.layers.edm_block import EDMBlock, SmoothDownsample
from keras_diffusion.layers.flax_fourier_embedding import FlaxFourierEmbedding
from keras_diffusion.layers.flax_transformer_block import FlaxTransformerBlock
from keras_diffusion.layers.frames import AsOneVideo, PerFrame
from keras_diffusion.layers.group_normalization import GroupNormalization
from keras_diffusion.layers.label_embedding import LabelEmbedding
from keras_diffusion.layers.modulation import AdaLNParams
from keras_diffusion.layers.noise_map import NoiseMap
from keras_diffusion.layers.normalized_attention import NormalizedAttention
from keras_diffusion.layers.normalizer import Normalizer
from keras_diffusion.layers.patch_pyramid import PatchExpanding, PatchMerging
from keras_diffusion.layers.patches import PatchEmbedding, Unpatchify
from keras_diffusion.layers.position import LearnedPosition
from keras_diffusion.layers.resampling import Downsample, Upsample
from keras_diffusion.layers.residual_block import ResidualBlock
from keras_diffusion.layers.rms_normalization import RMSNormalization
from keras_diffusion.layers.sequence_attention import SequenceAttention
from keras_diffusion.layers.spatial_transformer import SpatialTransformer
from keras_diffusion.layers.ssm_block import SSMDiTBlock
from keras_diffusion.layers.state_space import StateSpace
from keras_diffusion.layers.temporal_convolution import TemporalConvolution
from keras_diffusion.layers.temporal_transformer import TemporalTransformer
from keras_diffusion.layers.time_embedding import FourierEmbedding, SinusoidalEmbedding, TimeProjection
from keras_diffusion.layers.transformer_block import TransformerBlock
from keras_diffusion.layers.uvit_block import UViTBlock

get_bottleneck, bottleneck_names = BOTTLENECKS.functions("bottleneck")

__all__ = [
    "AdaLNParams",
    "AdaptiveTransformerBlock",
    "AsOneVideo",
    "Attention",
    "AttentionBlock",
    "Bottleneck",
    "DiTBlock",
    "Downsample",
    "EDMBlock",
    "FSQBottleneck",
    "FlaxFourierEmbedding",
    "FlaxTransformerBlock",
    "FourierEmbedding",
    "GroupNormalization",
    "KLBottleneck",
    "LabelEmbedding",
    "LearnedPosition",
    "NoiseMap",
    "NormalizedAttention",
    "Normalizer",
    "PatchEmbedding",
    "PatchExpanding",
    "PatchMerging",
    "PerFrame",
    "RMSNormalization",
    "ResidualBlock",
    "SSMDiTBlock",
    "SequenceAttention",
    "SinusoidalEmbedding",
    "SmoothDownsample",
    "SpatialTransformer",
    "StateSpace",
    "TemporalConvolution",
    "TemporalTransformer",
    "TimeProjection",
    "TransformerBlock",
    "UViTBlock",
    "Unpatchify",
    "Upsample",
    "VQBottleneck",
    "bottleneck_names",
    "get_bottleneck",
]
__dir__ = __all__.copy
