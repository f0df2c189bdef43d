"""What the transformers share: the checks of their arguments, their first layers and their last ones.

image ── patches ──┐                                     ┌── norm ── dense (starts at 0) ── image
noise level, label ┼── conditions ──▶  blocks on tokens ─┘
context ───────────┘
"""

import keras

from keras_diffusion.layers import FourierEmbedding, LabelEmbedding, SinusoidalEmbedding, TimeProjection
from keras_diffusion.layers.activations import gelu_tanh
from keras_diffusion.layers.flax_fourier_embedding import FlaxFourierEmbedding
from keras_diffusion.layers.options import check_dropout, layer_normalization, unbuilt_dense
from keras_diffusion.layers.patch_order import check_patch_order
from keras_diffusion.layers.patches import PatchEmbedding, Unpatchify, patch_grid
from keras_diffusion.networks.network import check_positive_int, condition_inputs, seen, wide_dtype

TIME_EMBEDDINGS = ("fourier", "sinusoidal", "flax_partitionable", "flax_original")


def begin(
    name,
    input_shape,
    patch_size,
    order,
    dropout,
    num_classes,
    context_dim,
    policy,
    multiple=1,
    needs_context=False,
    concat_channels=0,
    **sizes,
):
    """Checks what all transformers have in common.

    Args:
        name: class of the network, for errors.
        input_shape: `(H, W, C)`.
        patch_size: side of a patch.
        order: one of `PATCH_ORDERS`.
        dropout: share of activations.
        num_classes: int or None.
        context_dim: int or None.
        policy: dtype policy.
        multiple: how many patches each axis must be a multiple of.
        needs_context: whether there must be a context.
        concat_channels: channels of "concat"; 0 for none.
        sizes: further arguments that must be integers ≥ 1.

    Returns:
        the dict of the network's inputs.

    Raises:
        ValueError: what cannot be.
    """
    if len(input_shape) != 3:
        raise ValueError(
            f"{name} takes images: `input_shape` must be (H, W, C), without the batch axis. Received: "
            f"input_shape={tuple(input_shape)}"
        )
    check_positive_int(channels=input_shape[-1], patch_size=patch_size, **sizes)
    patch_grid(input_shape[:2], patch_size * multiple)
    check_patch_order(order)
    check_dropout(dropout)
    if needs_context and context_dim is None:
        raise ValueError(f"{name} needs a context (a text, say). Received: context_dim=None. SimpleDiT does without")
    return condition_inputs(input_shape, num_classes, context_dim, policy, concat_channels)


def check_even(num_layers):
    """Raises ValueError unless as many blocks go down as up."""
    if num_layers % 2:
        raise ValueError(
            f"Half of the blocks go down, half go up: `num_layers` must be even. Received: num_layers={num_layers}"
        )


def embed_noise_level(inputs, features, hidden, dim, time_embedding, time_scale, num_classes, policy):
    """The vector `(B, dim)` of noise level and label: embedding, two dense layers, and a third one if `dim` is a
    number.

    In float32 under mixed precision too: the work is small, and rounding would blur neighbouring noise levels.
    """
    dtype = wide_dtype(policy)
    if time_embedding == "fourier":
        layer = FourierEmbedding(features, scale=1.0 if time_scale is None else time_scale, name="time_embedding")
    elif time_embedding == "sinusoidal":
        layer = SinusoidalEmbedding(features, scale=250.0 if time_scale is None else time_scale, name="time_embedding")
    elif time_embedding in TIME_EMBEDDINGS:
        layer = FlaxFourierEmbedding(features, time_embedding.removeprefix("flax_"), name="time_embedding")
    else:
        raise ValueError(f"Unknown time embedding: {time_embedding!r}. Known ones: {', '.join(TIME_EMBEDDINGS)}.")
    embedding = layer(inputs["noise_level"])
    if num_classes is not None:
        label = LabelEmbedding(num_classes, features, name="label_embedding", dtype=dtype)(inputs["labels"])
        embedding = keras.layers.Add(name="time_and_label", dtype=dtype)([embedding, label])
    embedding = TimeProjection(hidden, activation=gelu_tanh, name="time_projection", dtype=dtype)(embedding)
    return embedding if dim is None else unbuilt_dense(dim, name="time_out", dtype=dtype)(embedding)


def embed_context(inputs, dim, policy):
    """The mean of the context's vectors, as a vector `(B, dim)`."""
    dtype = wide_dtype(policy)
    mean = keras.layers.GlobalAveragePooling1D(name="context_mean", dtype=dtype)(inputs["context"])
    return unbuilt_dense(dim, name="context_projection", dtype=dtype)(mean)


def embed_patches(inputs, patch_size, dim, policy, **options):
    """The image, and "concat" beside it where there is one, as tokens `(B, N, dim)`."""
    return PatchEmbedding(patch_size, dim, name="patch_embedding", dtype=policy, **options)(seen(inputs, policy))


def finish(tokens, inputs, patch_size, channels, order, learn_sigma, first_only, norm_epsilon, policy):
    """Tokens as an image: norm, a dense layer that starts at 0, and patches laid out.

    The dense layer works in float32 under mixed precision too: sampling adds up many outputs, and 8 bits would show.
    """
    tokens = layer_normalization(epsilon=norm_epsilon, name="final_norm", dtype=policy)(tokens)
    units = patch_size**2 * channels * (2 if learn_sigma else 1)
    dtype = wide_dtype(policy)
    tokens = unbuilt_dense(units, kernel_initializer="zeros", name="final_proj", dtype=dtype)(tokens)
    return Unpatchify(patch_size, channels, order, first_only=first_only, name="unpatchify", dtype=dtype)(
        tokens, inputs["x"]
    )


def u_shape(tokens, num_layers, block, dim, policy):
    """Half of the blocks, a middle one, and the other half, each of which first receives what its twin gave.

    Args:
        tokens: `(B, N, dim)`.
        num_layers: even; the middle block comes on top.
        block: function of tokens and a name → tokens.
        dim: size of the tokens.
        policy: dtype policy.
    """
    skips = []
    for i in range(num_layers // 2):
        tokens = block(tokens, f"down_block_{i}")
        skips.append(tokens)
    tokens = block(tokens, "mid_block")
    for i in range(num_layers // 2):
        tokens = keras.layers.Concatenate(name=f"up_concat_{i}", dtype=policy)([tokens, skips.pop()])
        tokens = unbuilt_dense(dim, name=f"up_dense_{i}", dtype=policy)(tokens)
        tokens = block(tokens, f"up_block_{i}")
    return tokens
