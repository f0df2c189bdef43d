"""The vision transformer of CLIP and DINOv2: a picture as one vector.

    h = [class, registers, patches] (+ positions)    registers: tokens without a position, with nothing to say
    h ← h + attention(norm1(h))
    h ← h + W₂·f(norm2(h))                           f: act(W₁·y), or gated, swish(W₁·y)·(V·y)
    features = P·norm(h[class])                      P: CLIP's projection to where its texts are; DINOv2 has none

DINOv2 multiplies each branch by a vector (layer scale): reading the weights puts it into the branch's last kernel.

References: Dosovitskiy et al., arXiv:2010.11929; registers: Darcet et al., arXiv:2309.16588; layer scale: Touvron et
al., arXiv:2103.17239.
"""

import keras
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_whole
from keras_diffusion.layers.attention import Attention
from keras_diffusion.layers.initializers import Zeros
from keras_diffusion.layers.layer import Layer, built
from keras_diffusion.layers.options import convolution, get_activation, layer_normalization


class VisionBlock(Layer):
    """Attention and a feed-forward step, each after a layer norm and added to its input.

    Args:
        num_heads: number of heads; divides the channels.
        hidden_dim: channels within the feed-forward step.
        activation: of the feed-forward step.
        gated: whether it is gated; [W₁ V] is then one kernel of 2·hidden_dim channels. Default False.
        norm_epsilon: of the norms. Default 1e-6.

    Call arguments:
        x: `(B, L, C)`.

    Returns:
        `(B, L, C)`.
    """

    def __init__(self, num_heads, hidden_dim, activation, gated=False, norm_epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.activation = get_activation(activation)

    def build(self, x_shape):
        channels = x_shape[-1]
        norm = {"epsilon": self.norm_epsilon, "dtype": self.dtype_policy}
        self.norm1 = built(layer_normalization(name="norm1", **norm), x_shape)
        self.attention = Attention(self.num_heads, channels // self.num_heads, use_bias=True, name="attention")
        self.attention.build(x_shape)
        self.norm2 = built(layer_normalization(name="norm2", **norm), x_shape)
        self.feed_forward1 = self._dense((1 + self.gated) * self.hidden_dim, channels, "feed_forward1")
        self.feed_forward2 = self._dense(channels, self.hidden_dim, "feed_forward2")

    def call(self, x):
        x = x + self.attention(self.norm1(x))
        hidden = self.feed_forward1(self.norm2(x))
        if self.gated:
            gate, hidden = ops.split(hidden, 2, axis=-1)
            hidden = self.activation(gate) * hidden
        else:
            hidden = self.activation(hidden)
        return x + self.feed_forward2(hidden)


class VisionTransformer(ArgumentsMixin, keras.Model):
    """Transformer from pictures to vectors.

    Args:
        size: height and width of the pictures, a multiple of `patch_size`.
        patch_size: side of a patch.
        width: channels of a token.
        depth: number of blocks.
        num_heads: heads per block; divides `width`.
        hidden_dim: channels within the feed-forward steps.
        activation: of the feed-forward steps.
        gated: whether they are gated. Default False.
        registers: number of register tokens. Default 0.
        patch_bias: whether patches have a bias. Default True.
        norm_first: whether tokens are normalized before the first block. Default False.
        projection: length of the projected vector; None (default) for no projection.
        norm_epsilon: of the norms. Default 1e-6.

    Call arguments:
        pictures: `(B, size, size, 3)`.

    Returns:
        `(B, projection or width)`.

    Raises:
        ValueError: sizes < 1, or that do not divide each other.

    Example:

    >>> VisionTransformer(28, 14, 32, 2, 2, 64, "gelu", registers=4)(keras.ops.zeros((1, 28, 28, 3))).shape
    (1, 32)
    """

    def __init__(
        self,
        size,
        patch_size,
        width,
        depth,
        num_heads,
        hidden_dim,
        activation,
        gated=False,
        registers=0,
        patch_bias=True,
        norm_first=False,
        projection=None,
        norm_epsilon=1e-6,
        name="vision_transformer",
        trainable=True,
        dtype=None,
    ):
        super().__init__(name=name, trainable=trainable, dtype=dtype)
        for key in ("size", "patch_size", "width", "num_heads", "hidden_dim"):
            check_whole(key, getattr(self, key), 1)
        if size % patch_size or width % num_heads:
            raise ValueError(
                "Patches cut a picture, and heads the channels, into equal parts. Received: "
                f"{size=}, {patch_size=}, {width=}, {num_heads=}"
            )
        norm = {"epsilon": norm_epsilon}
        self.patches = convolution(
            2, width, patch_size, strides=patch_size, padding="valid", use_bias=patch_bias, name="patches"
        )
        self.patches.build((None, size, size, 3))
        tokens = (None, None, width)
        count = (size // patch_size) ** 2
        self.class_token = self._token("class_token", 1)
        self.positions = self._token("positions", 1 + count)
        self.register_tokens = self._token("registers", registers) if registers else None
        self.norm_before = built(layer_normalization(name="norm_before", **norm), tokens) if norm_first else None
        options = (num_heads, hidden_dim, activation, gated, norm_epsilon)
        self.blocks = [built(VisionBlock(*options, name=f"block_{i}"), tokens) for i in range(depth)]
        self.norm = built(layer_normalization(name="norm", **norm), (None, width))
        self.project = None
        if projection is not None:
            dense = keras.layers.Dense(projection, use_bias=False, kernel_initializer=Zeros(), name="projection")
            self.project = built(dense, (None, width))
        self.built = True

    def _token(self, name, count):
        return self.add_weight(shape=(1, count, self.width), initializer=Zeros(), name=name)

    def call(self, pictures):
        patches = self.patches(pictures)
        batch, count = ops.shape(patches)[0], self.positions.shape[1] - 1
        tokens = [self._repeated(self.class_token, batch), ops.reshape(patches, (batch, count, self.width))]
        h = ops.concatenate(tokens, axis=1) + self.positions
        if self.register_tokens is not None:
            h = ops.concatenate([h[:, :1], self._repeated(self.register_tokens, batch), h[:, 1:]], axis=1)
        h = h if self.norm_before is None else self.norm_before(h)
        for block in self.blocks:
            h = block(h)
        vector = self.norm(h[:, 0])
        return vector if self.project is None else self.project(vector)

    def _repeated(self, tokens, batch):
        return ops.broadcast_to(tokens, (batch, *tokens.shape[1:]))

    def compute_output_shape(self, pictures_shape):
        return (pictures_shape[0], self.width if self.projection is None else self.projection)


def layer_sources(layer, name, scale=None):
    """Where a dense layer's or a norm's weights come from, with PyTorch's names.

    Args:
        layer: built dense layer or layer norm.
        name: of the layer in the file.
        scale: name of the tensor of a layer scale that the layer's output is multiplied by, or None.
    """
    for variable, leaf in zip(layer.weights, ("weight", "bias")):
        names = (f"{name}.{leaf}", *([scale] if scale else []))
        yield variable, names, _scaled


def _scaled(value, scale=1.0):
    return value.T * scale


def convolution_kernel(kernel):
    """PyTorch's (out, in, h, w) as (h, w, in, out)."""
    return kernel.transpose(2, 3, 1, 0)
