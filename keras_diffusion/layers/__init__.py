"""The blocks that networks are made of. Each works alone in any Keras model."""

from keras_diffusion.layers.attention import Attention
from keras_diffusion.layers.attention_block import AttentionBlock
from keras_diffusion.layers.label_embedding import LabelEmbedding
from keras_diffusion.layers.noise_map import NoiseMap
from keras_diffusion.layers.normalized_attention import NormalizedAttention
from keras_diffusion.layers.normalizer import Normalizer
from keras_diffusion.layers.resampling import Downsample, Upsample
from keras_diffusion.layers.residual_block import ResidualBlock
from keras_diffusion.layers.spatial_transformer import SpatialTransformer
from keras_diffusion.layers.time_embedding import FourierEmbedding, SinusoidalEmbedding, TimeProjection
from keras_diffusion.layers.transformer_block import TransformerBlock

__all__ = [
    "Attention",
    "AttentionBlock",
    "Downsample",
    "FourierEmbedding",
    "LabelEmbedding",
    "NoiseMap",
    "NormalizedAttention",
    "Normalizer",
    "ResidualBlock",
    "SinusoidalEmbedding",
    "SpatialTransformer",
    "TimeProjection",
    "TransformerBlock",
    "Upsample",
]
