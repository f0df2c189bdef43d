"""A small network for vectors: points in the plane, features, joint angles.

    e = condition vector of noise level, class and mean context
    h = W·x,   then `depth` times   h ← h + W₂·act(W₁·act(h) + V·e),   then   out = W·act(h)

No normalization: it would throw away the size of x, which says much about the noise. The last layer starts at 0.
"""

import keras

from keras_diffusion.layers.options import activation_config, get_activation, unbuilt_dense
from keras_diffusion.networks.network import (
    Network,
    check_positive_int,
    condition_inputs,
    embed_conditions,
    networks,
    seen,
    wide_dtype,
)


@networks.register("mlp")
class MLP(Network):
    """Residual dense layers that know the noise level.

    Args:
        input_shape: `(features,)`. Default (2,), points in the plane.
        width: size of the hidden layers. Default 128.
        depth: number of residual steps, two dense layers each. Default 3.
        num_classes: number of classes, or None (default) for a network without labels.
        context_dim: size of the context's vectors, or None (default). The context enters as its mean over the tokens.
        out_channels: size of the output; None (default) for as many as the input.
        activation: name or function. Default "swish".
        time_embedding: "fourier" (default) or "sinusoidal".
        time_scale: scale of the embedding's frequencies; None (default) fits log(σ/α)/4: 1 for "fourier", 250 for
            "sinusoidal". Use "sinusoidal" with 1 for timesteps 0 … 999.
        embedding_dim: size of the condition vector, even; None (default) for `width`.
        concat_channels: numbers in "concat", what is known beside x; 0 (default) for a network without. The first layer
            sees features + concat_channels numbers, the output has those of x.

    Call arguments:
        inputs: dict: "x" `(B, features)`, "noise_level" `(B,)`, "labels" `(B,)` with `num_classes`, "context" `(B, M,
            D)` with `context_dim`, "concat" `(B, concat_channels)` with `concat_channels`.

    Returns:
        `(B, out_channels)`.

    Raises:
        ValueError: `input_shape` of another rank than 1; sizes < 1; unknown activation or time embedding.

    Example:

    >>> network = MLP((2,), num_classes=3)
    >>> network({"x": keras.ops.ones((8, 2)), "noise_level": keras.ops.zeros((8,)), "labels": keras.ops.zeros((8,), "int32")}).shape
    (8, 2)
    """

    def __init__(
        self,
        input_shape=(2,),
        width=128,
        depth=3,
        num_classes=None,
        context_dim=None,
        out_channels=None,
        activation="swish",
        time_embedding="fourier",
        time_scale=None,
        embedding_dim=None,
        concat_channels=0,
        name="mlp",
        trainable=True,
        dtype=None,
    ):
        policy = keras.dtype_policies.get(dtype)
        if len(input_shape) != 1:
            raise ValueError(
                f"MLP takes vectors: `input_shape` must be (features,). Received: input_shape={tuple(input_shape)}. "
                "Use UNet for (L, C) and (H, W, C)"
            )
        check_positive_int(features=input_shape[0], width=width, depth=depth)
        if out_channels is not None:
            check_positive_int(out_channels=out_channels)
        act = get_activation(activation)
        inputs = condition_inputs(input_shape, num_classes, context_dim, policy, concat_channels)
        dim = width if embedding_dim is None else embedding_dim
        embedding = embed_conditions(inputs, dim, time_embedding, time_scale, act, num_classes, policy)
        if context_dim is not None:
            mean = keras.layers.GlobalAveragePooling1D(name="context_mean", dtype=wide_dtype(policy))(inputs["context"])
            context = unbuilt_dense(dim, name="context_projection", dtype=wide_dtype(policy))(mean)
            embedding = keras.layers.Add(name="time_and_context", dtype=wide_dtype(policy))([embedding, context])

        h = unbuilt_dense(width, name="dense_in", dtype=policy)(seen(inputs, policy))
        for i in range(depth):
            step = keras.layers.Activation(act, name=f"block_{i}_act1", dtype=policy)(h)
            step = unbuilt_dense(width, name=f"block_{i}_dense1", dtype=policy)(step)
            time = unbuilt_dense(width, name=f"block_{i}_time", dtype=policy)(embedding)
            step = keras.layers.Add(name=f"block_{i}_inject", dtype=policy)([step, time])
            step = keras.layers.Activation(act, name=f"block_{i}_act2", dtype=policy)(step)
            step = unbuilt_dense(width, name=f"block_{i}_dense2", dtype=policy)(step)
            h = keras.layers.Add(name=f"block_{i}_add", dtype=policy)([h, step])
        h = keras.layers.Activation(act, name="act_out", dtype=policy)(h)
        channels = input_shape[0] if out_channels is None else out_channels
        output = unbuilt_dense(channels, kernel_initializer="zeros", name="dense_out", dtype=wide_dtype(policy))(h)

        arguments = {
            "input_shape": list(input_shape),
            "width": width,
            "depth": depth,
            "num_classes": num_classes,
            "context_dim": context_dim,
            "out_channels": out_channels,
            "activation": activation_config(act),
            "time_embedding": time_embedding,
            "time_scale": time_scale,
            "embedding_dim": embedding_dim,
            "concat_channels": concat_channels,
        }
        super().__init__((inputs, output), arguments, policy, name=name, trainable=trainable)
