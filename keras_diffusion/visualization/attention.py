"""What a network looks at: attention maps, and maps laid over a picture."""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.layers.attention_recording import recorded_attention
from keras_diffusion.visualization.grid import image_grid, to_numpy, to_uint8


def attention_maps(network, inputs):
    """The attention weights of every attention layer that a network calls, computed from its queries and keys.

    softmax(q·kᵀ/√d): how much position n of the picture takes from position, or word, m. The network runs once, not
    compiled.

    Args:
        network: `keras.Model`, such as `DiffusionModel.network` or `DiffusionModel.averaged_network()`.
        inputs: what it takes: a dict of "x" `(B, ...)`, "noise_level" `(B,)` and conditions;
            `DiffusionModel.inputs_at` makes one from clean samples.

    Returns:
        dict from paths of layers, in the order of their calls, to arrays `(B, heads, N, M)`, float32, whose rows sum to
        1. N is the number of positions of the picture, row by row; M that of the keys: positions, or rows of the
        context. A U-Net's blocks attend to the picture, and, under a path that ends in "/cross", to the context.

    Raises:
        ValueError: no layer of the network has attention.

    Example:

    >>> network = kd.networks.UNet((8, 8, 1), widths=(8,), num_res_blocks=1, context_dim=4)
    >>> inputs = {"x": np.ones((1, 8, 8, 1)), "noise_level": np.ones(1), "context": np.ones((1, 5, 4))}
    >>> maps = kd.visualization.attention_maps(network, inputs)
    >>> maps["middle_attention"].shape, maps["middle_attention/cross"].shape
    ((1, 4, 64, 64), (1, 4, 64, 5))

    Reference:
        Hertz et al. 2022, "Prompt-to-prompt image editing with cross-attention control", arXiv:2208.01626, section 3.
    """
    inputs = {key: ops.convert_to_tensor(value) for key, value in inputs.items()}
    with recorded_attention() as recorded:
        network(inputs, training=False)
    if not recorded:
        raise ValueError(f"The network must have attention. Received: {network.name!r}, which called no such layer.")
    return {
        name: _weights(*(None if part is None else to_numpy(part) for part in parts))
        for name, parts in recorded.items()
    }


def _weights(query, key, key_mask):
    """softmax(q·kᵀ/√d) of `(B, N, heads, d)` and `(B, M, heads, d)`; 0 for keys that the mask `(B, M)` hides."""
    query, key = query.astype("float32"), key.astype("float32")
    logits = np.einsum("bnhd,bmhd->bhnm", query, key) / math.sqrt(query.shape[-1])
    logits = logits if key_mask is None else np.where(key_mask[:, None, None, :], logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attention_overlay(image, weights, titles=None, strength=0.8, scale="auto", pad=4, background=255):
    """A picture, and beside it the same for each word, darkened where the picture does not look at that word.

    Args:
        image: `(H, W, C)`, float in [−1, 1] or uint8, C = 1 or 3.
        weights: `(heads, N, M)` or `(N, M)`: one sample of `attention_maps`, N = h·w positions of the picture's aspect;
            heads are averaged. Choose the columns of the words to show: `maps[path][0][..., [1, 4]]`.
        titles: M texts, such as the words; or None (default).
        strength: how dark the least attended position is, in [0, 1]. Default 0.8.
        scale, pad, background: as in `image_grid`.

    Returns:
        uint8 array, a grid of one row and 1 + M columns. Each word's map is stretched from its least to its greatest
        weight: brightness compares positions, not words.

    Raises:
        ValueError: positions that are no smaller copy of the picture, weights of another rank, or other titles.

    Example:

    >>> weights = np.random.default_rng(0).dirichlet(np.ones(3), size=16)
    >>> kd.visualization.attention_overlay(np.zeros((8, 8, 1)), weights, ["a", "red", "cat"]).shape
    (87, 276, 1)
    """
    image, weights = to_uint8(image), to_numpy(weights)
    strength = check_number("strength", strength, 0, 1)
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"image is one picture (H, W, 1 or 3). Received: shape={image.shape}")
    weights = weights.mean(axis=0) if weights.ndim == 3 else weights
    if weights.ndim != 2:
        raise ValueError(f"weights are (heads, N, M) or (N, M), of one sample. Received: shape={weights.shape}")
    height, width = _map_size(len(weights), *image.shape[:2])
    maps = weights.T.reshape(-1, height, width)
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    maps = np.where(high > low, (maps - low) / np.maximum(high - low, 1e-12), 1.0)
    maps = maps.repeat(image.shape[0] // height, axis=1).repeat(image.shape[1] // width, axis=2)[..., None]
    dimmed = np.round(image * (1.0 - strength * (1.0 - maps))).astype("uint8")
    titles = None if titles is None else ["", *titles]
    return image_grid(
        np.concatenate([image[None], dimmed]), rows=1, scale=scale, pad=pad, background=background, column_titles=titles
    )


def _map_size(positions, height, width):
    """(h, w) of a map of so many positions over a picture."""
    factor = math.isqrt(height * width // positions) if positions else 0
    if not factor or height % factor or width % factor or (height // factor) * (width // factor) != positions:
        raise ValueError(
            "A map has the picture's rows and columns divided by a whole number. Received: "
            f"{positions} positions for a picture {height}×{width}"
        )
    return height // factor, width // factor
