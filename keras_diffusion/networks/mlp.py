"""A small network for vectors: points in the plane, features, joint angles.

    e = condition vector of noise level, class and mean context
    h = W·x,   then `depth` times   h ← h + W₂·act(W₁·act(h) + V·e),   then   out = W·act(h)

No normalization: it would throw away the size of x, which says much about the noise. The last layer starts at 0.
"""

import keras

from keras_diffusion.layers.options import get_activation, unbuilt_dense
from keras_diffusion.networks.network import NETWORKS, Network, check_positive_int


@NETWORKS.register("mlp")
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
    >>> inputs = {"x": keras.ops.ones((8, 2)), "noise_level": keras.ops.zeros((8,))}
    >>> network({**inputs, "labels": keras.ops.zeros((8,), "int32")}).shape
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
        if len(input_shape) != 1:
            raise ValueError(
                f"MLP takes vectors: `input_shape` must be (features,). Received: input_shape={tuple(input_shape)}. "
                "Use UNet for (L, C) and (H, W, C)"
            )
        check_positive_int(features=input_shape[0], width=width, depth=depth)
        self.activation = get_activation(activation)
        super().__init__(name, trainable, dtype)

    def graph(self, inputs):
        embedding = self._embed(inputs)
        h = self._dense(self.width, "dense_in")(self.seen(inputs))
        for i in range(self.depth):
            step = self._dense(self.width, f"block_{i}_dense1")(self._activate(h, f"block_{i}_act1"))
            time = self._dense(self.width, f"block_{i}_time")(embedding)
            step = self._add(step, time, f"block_{i}_inject")
            step = self._dense(self.width, f"block_{i}_dense2")(self._activate(step, f"block_{i}_act2"))
            h = self._add(h, step, f"block_{i}_add")
        h = self._activate(h, "act_out")
        return self._dense(self.channels_out, "dense_out", kernel_initializer="zeros", dtype=self.wide)(h)

    def _embed(self, inputs):
        """The condition vector of noise level, label and mean context."""
        dim = self.width if self.embedding_dim is None else self.embedding_dim
        embedding = self.embed_conditions(inputs, dim)
        if "context" not in inputs:
            return embedding
        context = self._dense(dim, "context_projection", dtype=self.wide)(self.mean_context(inputs))
        return keras.layers.Add(name="time_and_context", dtype=self.wide)([embedding, context])

    def _dense(self, units, name, **options):
        return unbuilt_dense(units, **{"name": name, "dtype": self.policy, **options})

    def _activate(self, h, name):
        return keras.layers.Activation(self.activation, name=name, dtype=self.policy)(h)

    def _add(self, h, step, name):
        return keras.layers.Add(name=name, dtype=self.policy)([h, step])
