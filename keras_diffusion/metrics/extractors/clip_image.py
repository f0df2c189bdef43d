"""CLIP's image encoder: pictures as vectors in the space of texts.

Reference: Radford et al., "Learning transferable visual models from natural language supervision", arXiv:2103.00020; as
a measure: Jayasumana et al., "Rethinking FID: towards a better evaluation metric for image generation" (CMMD),
arXiv:2401.09603.
"""

import math

import numpy as np

from keras_diffusion.configs.checks import check_number, check_whole
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, Extractor
from keras_diffusion.metrics.extractors.preprocessing import Preprocessing
from keras_diffusion.metrics.extractors.vision_transformer import VisionTransformer, convolution_kernel, layer_sources
from keras_diffusion.metrics.extractors.weights import count_blocks, fill, open_weights, shape_of

WEIGHTS = (
    "https://huggingface.co/openai/clip-vit-large-patch14-336 (a folder with config.json and model.safetensors; also "
    "clip-vit-base-patch32, …)",
    "a pipeline's image_encoder folder",
)
_HEAD_DIM = 64
_EPSILON = 1e-5
_VISION = "vision_model."


@EXTRACTORS.register("clip")
class CLIPImageExtractor(Extractor):
    """CLIP's vision transformer with its projection: the picture's embedding, not normalized.

    Args:
        weights: path of a folder of transformers with CLIPModel or CLIPVisionModelWithProjection, of its
            `model.safetensors`, or of the `image_encoder` of a diffusers pipeline.
        preprocessing: "clean" (default), "torch-fidelity", "tensorflow" or "pytorch"; see `Preprocessing`. Pictures
            that are not square are squeezed, where CLIP's own code would cut them.
        batch_size: pictures at a time. Default 32.

    Raises:
        ValueError: no weights: the message says where they are published.
        FileNotFoundError: nothing at that path.
        CheckpointError: a damaged file, or one of another network.

    Example:

    >>> extractor = kd.metrics.get_extractor("clip", weights="clip-vit-large-patch14-336")
    >>> extractor(images).shape
    (16, 768)

    Reference:
        Radford et al., "Learning transferable visual models from natural language supervision", arXiv:2103.00020.
    """

    name = "clip"

    def __init__(self, weights=None, preprocessing="clean", batch_size=32):
        with open_weights(weights, "CLIP's image encoder", WEIGHTS) as container:
            start, root = _place(container)
            self.network = _network(container, start, root)
            fill(container, _sources(self.network, start))
        self.prepare = Preprocessing(preprocessing, self.network.size, "clip")
        self.width = self.network.projection or self.network.width


def _place(container):
    """What the tensors' names begin with, before "vision_model.", and the component that they are in."""
    last = "embeddings.class_embedding"
    for root in container.roots:
        start = f"{root}/" if root else ""
        for prefix in (_VISION, ""):
            if f"{start}{prefix}{last}" in container.tensors:
                return (start, prefix), root
    raise CheckpointError(f"The file is none of CLIP's image encoder: it lacks '{_VISION}{last}'.", container.path)


def _network(container, start, root):
    prefix = "".join(start)
    width, _, patch, _ = shape_of(container, f"{prefix}embeddings.patch_embedding.weight", 4)
    side = math.isqrt(shape_of(container, f"{prefix}embeddings.position_embedding.weight", 2)[0] - 1)
    depth = count_blocks(container, f"{prefix}encoder.layers.{{}}.layer_norm1.weight")
    hidden, _ = shape_of(container, f"{prefix}encoder.layers.0.mlp.fc1.weight", 2)
    told = container.config_of(root) or {}
    told = {**told, **(told.get("vision_config") or {})}
    heads = check_whole("num_attention_heads", told.get("num_attention_heads", max(width // _HEAD_DIM, 1)), 1)
    epsilon = check_number("layer_norm_eps", told.get("layer_norm_eps", _EPSILON), above=0)
    name = f"{start[0]}visual_projection.weight"
    projection = shape_of(container, name, 2)[0] if name in container.tensors else None
    sizes = (side * patch, patch, width, depth, heads, hidden, told.get("hidden_act", "quick_gelu"))
    options = {"patch_bias": False, "norm_first": True, "projection": projection}
    with zero_kernels():
        return VisionTransformer(*sizes, norm_epsilon=epsilon, **options)


def _sources(network, start):
    prefix = "".join(start)
    yield network.patches.kernel, (f"{prefix}embeddings.patch_embedding.weight",), convolution_kernel
    yield network.class_token, (f"{prefix}embeddings.class_embedding",), lambda value: value[None, None]
    yield network.positions, (f"{prefix}embeddings.position_embedding.weight",), lambda value: value[None]
    yield from layer_sources(network.norm_before, f"{prefix}pre_layrnorm")  # the name is misspelt in the files
    for i, block in enumerate(network.blocks):
        layer, attention = f"{prefix}encoder.layers.{i}", block.attention
        parts = {"q_proj": attention.to_q, "k_proj": attention.to_k, "v_proj": attention.to_v}
        for name, part in {**parts, "out_proj": attention.to_out}.items():
            yield from layer_sources(part, f"{layer}.self_attn.{name}")
        parts = {"layer_norm1": block.norm1, "layer_norm2": block.norm2}
        for name, part in {**parts, "mlp.fc1": block.feed_forward1, "mlp.fc2": block.feed_forward2}.items():
            yield from layer_sources(part, f"{layer}.{name}")
    yield from layer_sources(network.norm, f"{prefix}post_layernorm")
    if network.project is not None:
        yield network.project.kernel, (f"{start[0]}visual_projection.weight",), np.transpose
