"""DINOv2: features that were learnt without labels, and that human judgement of pictures follows more closely.

Reference: Oquab et al., "DINOv2: learning robust visual features without supervision", arXiv:2304.07193; as a measure:
Stein et al., "Exposing flaws of generative model evaluation metrics", arXiv:2306.04675.
"""

import math

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_whole
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, Extractor, config_of
from keras_diffusion.metrics.extractors.preprocessing import Preprocessing, bicubic_matrix, torch_bicubic_matrix
from keras_diffusion.metrics.extractors.vision_transformer import VisionTransformer, convolution_kernel, layer_sources
from keras_diffusion.metrics.extractors.weights import count_blocks, fill, open_weights, shape_of

WEIGHTS = (
    "https://huggingface.co/facebook/dinov2-large (a folder with config.json and model.safetensors; also -small, "
    "-base, -giant, and dinov2-with-registers-…)",
    "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
)
_EPSILON = 1e-6
_HEAD_DIM = 64  # of all four sizes

# Names of tensors: those of the original files, and of transformers. A block's begin with the last entry.
_ORIGINAL = {
    "class": "cls_token",
    "positions": "pos_embed",
    "registers": "register_tokens",
    "patches": "patch_embed.proj",
    "norm": "norm",
    "norm1": "norm1",
    "norm2": "norm2",
    "out": "attn.proj",
    "scale1": "ls1.gamma",
    "scale2": "ls2.gamma",
    "first": "mlp.fc1",
    "second": "mlp.fc2",
    "gated_first": "mlp.w12",
    "gated_second": "mlp.w3",
    "block": "blocks.{}.",
}
_TRANSFORMERS = {
    "class": "embeddings.cls_token",
    "positions": "embeddings.position_embeddings",
    "registers": "embeddings.register_tokens",
    "patches": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "norm1": "norm1",
    "norm2": "norm2",
    "out": "attention.output.dense",
    "scale1": "layer_scale1.lambda1",
    "scale2": "layer_scale2.lambda1",
    "first": "mlp.fc1",
    "second": "mlp.fc2",
    "gated_first": "mlp.weights_in",
    "gated_second": "mlp.weights_out",
    "block": "encoder.layer.{}.",
}
_IN_BLOCKS = {"norm1", "norm2", "out", "scale1", "scale2", "first", "second", "gated_first", "gated_second"}
_QUERIES = "attention.attention.{}"


@EXTRACTORS.register("dinov2")
class DINOv2Extractor(Extractor):
    """The class token of a DINOv2 vision transformer: small, base, large or giant, with registers or without.

    The size follows from the weights: 384, 768, 1024 or 1536 features.

    Args:
        weights: path of a folder of transformers (`facebook/dinov2-large`, …), of its `model.safetensors`, or of one of
            the original `.pth` files.
        preprocessing: "torch-fidelity" (default), "tensorflow", "pytorch" (as dgm-eval) or "clean"; see
            `Preprocessing`.
        size: height and width of what the network sees, a multiple of the patch. Default 224.
        positions: how the positions, learnt for 37×37 patches, are fitted to fewer: "original" (default) as the
            original code does, whose scale is off by a tenth of a patch, or "transformers".
        batch_size: pictures at a time. Default 32.

    Raises:
        ValueError: no weights: the message says where they are published.
        FileNotFoundError: nothing at that path.
        CheckpointError: a damaged file, or one of another network.

    Example:

    >>> extractor = kd.metrics.get_extractor("dinov2", weights="dinov2-large")
    >>> extractor(images).shape
    (16, 1024)

    Reference:
        Oquab et al., "DINOv2: learning robust visual features without supervision", arXiv:2304.07193.
    """

    name = "dinov2"

    def __init__(self, weights=None, preprocessing="torch-fidelity", size=224, positions="original", batch_size=32):
        check_choice("positions", positions, ("original", "transformers"))
        check_whole("size", size, 1)
        self.prepare = Preprocessing(preprocessing, size, "imagenet")
        with open_weights(weights, "DINOv2", WEIGHTS) as container:
            names = _names(container)
            self.network = _network(container, names, size)
            fill(container, _sources(self.network, container, names, positions))
        self.width = self.network.width
        self.name = f"dinov2 {self.network.width}" + (" with registers" if self.network.registers else "")

    def description(self):
        return {**super().description(), **config_of(self, "size", "positions")}


def _names(container):
    for prefix in ("", "dinov2.", "dinov2_with_registers."):
        for names in (_ORIGINAL, _TRANSFORMERS):
            found = {key: value if key in _IN_BLOCKS else prefix + value for key, value in names.items()}
            if found["positions"] in container.tensors:
                return found
    raise CheckpointError(
        f"The file is none of DINOv2: it has neither {_ORIGINAL['positions']!r} nor {_TRANSFORMERS['positions']!r}.",
        container.path,
    )


def _network(container, names, size):
    """The network whose sizes the tensors and `config.json` tell."""
    width, _, patch, _ = shape_of(container, f"{names['patches']}.weight", 4)
    block = names["block"]
    depth = count_blocks(container, f"{block}{names['norm1']}.weight")
    gated = f"{block.format(0)}{names['gated_first']}.weight" in container.tensors
    _, hidden = shape_of(container, f"{block.format(0)}{names['gated_second' if gated else 'second']}.weight", 2)
    heads = (container.config_of() or {}).get("num_attention_heads", max(width // _HEAD_DIM, 1))
    heads = check_whole("num_attention_heads", heads, 1)
    registers = shape_of(container, names["registers"], 3)[1] if names["registers"] in container.tensors else 0
    if size % patch:
        raise ValueError(f"The network sees whole patches of {patch} pixels. Received: size={size}")
    sizes = (size, patch, width, depth, heads, hidden, "swish" if gated else "gelu")
    with zero_kernels():
        return VisionTransformer(*sizes, gated=gated, registers=registers, norm_epsilon=_EPSILON)


def _sources(network, container, names, positions):
    fit = _fitted(network, positions)
    yield network.patches.kernel, (f"{names['patches']}.weight",), convolution_kernel
    yield network.patches.bias, (f"{names['patches']}.bias",), np.asarray
    yield network.class_token, (names["class"],), np.asarray
    yield network.positions, (names["positions"],), fit
    if network.registers:
        yield network.register_tokens, (names["registers"],), np.asarray
    for i, block in enumerate(network.blocks):
        yield from _block_sources(block, names["block"].format(i), names, container)
    yield from layer_sources(network.norm, names["norm"])


def _block_sources(block, start, names, container):
    first, second = ("gated_first", "gated_second") if block.gated else ("first", "second")
    yield from layer_sources(block.norm1, start + names["norm1"])
    yield from layer_sources(block.norm2, start + names["norm2"])
    attention = block.attention
    for part, (layer, name) in enumerate(
        ((attention.to_q, "query"), (attention.to_k, "key"), (attention.to_v, "value"))
    ):
        if f"{start}attn.qkv.weight" in container.tensors:
            for variable, leaf in zip(layer.weights, ("weight", "bias")):
                yield variable, (f"{start}attn.qkv.{leaf}",), _third(part)
        else:
            yield from layer_sources(layer, start + _QUERIES.format(name))
    yield from layer_sources(attention.to_out, start + names["out"], start + names["scale1"])
    yield from layer_sources(block.feed_forward1, start + names[first])
    yield from layer_sources(block.feed_forward2, start + names[second], start + names["scale2"])


def _third(part):
    """Queries, keys or values of a kernel that holds all three."""
    return lambda value: np.split(value, 3)[part].T


def _fitted(network, positions):
    """A function that fits a table of positions to the network's patches, as one of two codes does it."""
    new = network.size // network.patch_size

    def fit(table):
        old = math.isqrt(table.shape[1] - 1)
        if old == new:
            return table
        if network.registers:
            matrix = bicubic_matrix(old, new)  # with registers both take the filter that is stretched
        else:
            matrix = torch_bicubic_matrix(old, new, old / (new + 0.1) if positions == "original" else None)
        grid = table[0, 1:].reshape(old, old, -1).astype("float64")
        grid = np.einsum("uh,hwc,vw->uvc", matrix, grid, matrix, optimize=True)
        return np.concatenate([table[:, :1], grid.reshape(1, new * new, -1)], axis=1)

    return fit
