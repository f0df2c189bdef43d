"""What all networks have in common: one dict goes in, a tensor of the sample's size comes out.

    {"x": (B, ..., C), "noise_level": (B,), "labels": (B,), "context": (B, M, D), "concat": (B, ..., K)}  →  (B, ..., out_channels)

"labels", "context" and "concat" are there only where the network was built for them. "concat" is what is known at every
position (an image with a hole, a small image enlarged, a map of depths): K channels that the first layer sees beside
those of x, without noise. What the output means (noise, clean data, velocity) is the predictor's affair; so is the
number that stands for the noise level: log(σ/α)/4 by default.

A network is a functional Keras model in a class of its own: the graph is built in `__init__`, so the weights exist at
once and every layer has a fixed name; the class adds the arguments that made it, for saving and for copies:
`Network.from_config(net.get_config())` of the network's own class. (`keras.models.clone_model` would return a bare
functional model.)
"""

import math

import keras

from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.configs.registry import Registry
from keras_diffusion.core.precision import policy_config
from keras_diffusion.layers import FourierEmbedding, LabelEmbedding, SinusoidalEmbedding, TimeProjection
from keras_diffusion.lora.network import LoRAMixin, adapters_config
from keras_diffusion.networks.arguments import check_arguments

networks = Registry("network")

TIME_EMBEDDINGS = ("fourier", "sinusoidal")
CONDITION_KEYS = ("labels", "context", "concat")


@networks.base
class Network(LoRAMixin, keras.Model):
    """Base class of networks.

    Args:
        graph: `(inputs, output)`: dict of Keras tensors as `condition_inputs` makes it, and the output tensor.
        arguments: dict of the subclass's constructor arguments, JSON-like: `get_config` gives them back.
        dtype: dtype policy of the layers.

    Attributes:
        sample_shape: shape of one sample, without the batch axis.
        num_classes: number of classes, or None.
        null_labels: the label that means "no class" (= `num_classes`), or None.
        any_size: whether samples of other sizes than `sample_shape` run as well.
        context_dim: size of the context's vectors, or None.
        concat_channels: K, number of known channels that the network sees beside those of x; 0 for none.
        condition_keys: names of the conditions that the network takes, a tuple: of "labels", "context" and "concat".

    Call arguments:
        inputs: dict: "x" `(B, *sample_shape)`, "noise_level" `(B,)`, and the conditions: "labels" `(B,)` integers,
            "context" `(B, M, D)`, "concat" `(B, *sample_shape[:-1], K)`.
        training: whether dropout drops.

    Returns:
        `(B, *sample_shape[:-1], out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: an input that the network does not take, or that lacks.
    """

    size_multiple = 1

    def __new__(cls, *args, **kwargs):
        check_arguments(cls, args, kwargs)
        return super().__new__(cls, *args, **kwargs)

    any_size = False

    def __init__(self, graph, arguments, dtype, name=None, trainable=True):
        inputs, output = graph
        super().__init__(inputs=inputs, outputs=output, name=name, trainable=trainable)
        self.dtype_policy = dtype
        self._arguments = arguments
        self.sample_shape = tuple(arguments["input_shape"])
        self.num_classes = self.null_labels = arguments.get("num_classes")
        self.context_dim = arguments.get("context_dim")
        self.concat_channels = arguments.get("concat_channels") or 0
        self.condition_keys = tuple(key for key in CONDITION_KEYS if key in inputs)

    def call(self, inputs, training=None, mask=None):
        known = ("x", "noise_level", *self.condition_keys)
        if not isinstance(inputs, dict) or set(inputs) != set(known):
            received = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
            raise ValueError(
                f"This network takes a dict with the keys {', '.join(known)}, no more and no less. Received: {received}"
            )
        shape = tuple(inputs["x"].shape)
        # Keras itself lets an axis of size 1 pass for any other.
        expected = (*(None if self.any_size else n for n in self.sample_shape[:-1]), self.sample_shape[-1])
        if len(shape) != len(expected) + 1 or any(
            None not in pair and pair[0] != pair[1] for pair in zip(shape[1:], expected)
        ):
            raise ValueError(
                f"`x` must be (B, {', '.join(map(str, expected))}), as this network was built. Received: "
                f"x.shape={shape}"
            )
        if self.concat_channels:
            check_beside("concat", inputs["concat"].shape, shape, self.concat_channels)
        # Axes of free size (None in `input_shape`) are known only now.
        check_size(self.halved_axes(shape[1:-1]), self.size_multiple)
        return super().call(inputs, training=training, mask=mask)

    def halved_axes(self, size):
        """Those axes of a sample's `size`, a tuple without the channels, that the levels halve: all of them unless a
        subclass says so.
        """
        return size

    def get_config(self):
        policy = policy_config(self.dtype_policy)
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": policy,
            **self._arguments,
            **adapters_config(self),
        }


def check_size(size, multiple):
    """Raises ValueError unless every known axis of `size` is a multiple of `multiple`."""
    if all(n is None or (n % multiple == 0 and n > 0) for n in size):
        return
    below = tuple(n if n is None else max(n // multiple, 1) * multiple for n in size)
    above = tuple(n if n is None else max(math.ceil(n / multiple), 1) * multiple for n in size)
    works = f"{below}" if below == above else f"{below} or {above}"
    raise ValueError(
        f"Every level but the last halves the size, so each axis must be a multiple of {multiple} = 2^(levels − 1). "
        f"Received: size={tuple(size)}. Sizes that work: {works}; or use fewer levels"
    )


def check_beside(name, shape, sample_shape, channels):
    """Raises ValueError unless `shape` is that of `channels` channels beside samples of `sample_shape`, batch axes
    included.
    """
    shape, expected = tuple(shape), (*sample_shape[:-1], channels)
    if len(shape) != len(expected) or any(None not in pair and pair[0] != pair[1] for pair in zip(shape, expected)):
        raise ValueError(
            f"`{name}` lies beside the samples, with their size and {channels} channels of its own, as this network "
            f"was built: "
            f"(B, {', '.join(map(str, expected[1:]))}). Received: {name}.shape={shape}, samples of the shape "
            f"{tuple(sample_shape)}"
        )


def wide_dtype(policy):
    """The policy's variable dtype, at least float32: for what must not be rounded to half precision."""
    return policy.variable_dtype if policy.variable_dtype in ("float32", "float64") else "float32"


def condition_inputs(input_shape, num_classes, context_dim, policy, concat_channels=0):
    """The dict of a network's `keras.Input`s."""
    dtype = wide_dtype(policy)
    inputs = {
        "x": keras.Input(input_shape, name="x", dtype=dtype),
        "noise_level": keras.Input((), name="noise_level", dtype=dtype),
    }
    if num_classes is not None:
        inputs["labels"] = keras.Input((), name="labels", dtype="int32")
    if context_dim is not None:
        if isinstance(context_dim, bool) or not isinstance(context_dim, int) or context_dim < 1:
            raise ValueError(
                f"`context_dim` must be an integer ≥ 1, or None for no context. Received: context_dim={context_dim!r}"
            )
        inputs["context"] = keras.Input((None, context_dim), name="context", dtype=dtype)
    concat_channels = check_whole(
        "concat_channels", concat_channels, 0, rule="`concat_channels` must be an integer ≥ 0; 0 is none"
    )
    if concat_channels:
        inputs["concat"] = keras.Input((*input_shape[:-1], concat_channels), name="concat", dtype=dtype)
    return inputs


def seen(inputs, policy):
    """What the first layer sees: x, and the channels of "concat" behind its own where the network takes some."""
    if "concat" not in inputs:
        return inputs["x"]
    return keras.layers.Concatenate(name="x_and_concat", dtype=wide_dtype(policy))([inputs["x"], inputs["concat"]])


def embed_conditions(inputs, dim, time_embedding, time_scale, activation, num_classes, policy):
    """The condition vector `(B, dim)` of noise level and label.

    Both go through the same two dense layers, so that the network may treat a class differently at different noise
    levels. In float32 under mixed precision too: the work is small, and rounding would blur neighbouring noise levels.
    """
    dtype = wide_dtype(policy)
    if time_embedding == "fourier":
        scale = 1.0 if time_scale is None else time_scale
        embedding = FourierEmbedding(dim, scale=scale, name="time_embedding")(inputs["noise_level"])
    elif time_embedding == "sinusoidal":
        scale = 250.0 if time_scale is None else time_scale
        embedding = SinusoidalEmbedding(dim, scale=scale, name="time_embedding")(inputs["noise_level"])
    else:
        raise ValueError(
            f"Unknown time embedding: {shown(time_embedding)}. Known ones: {', '.join(TIME_EMBEDDINGS)}. "
            f"Received: time_embedding={shown(time_embedding)}"
        )
    if num_classes is not None:
        label = LabelEmbedding(num_classes, dim, name="label_embedding", dtype=dtype)(inputs["labels"])
        embedding = keras.layers.Add(name="time_and_label", dtype=dtype)([embedding, label])
    return TimeProjection(dim, activation=activation, name="time_projection", dtype=dtype)(embedding)


def check_positive_int(**values):
    """Raises ValueError unless each value is an integer ≥ 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be an integer ≥ 1. Received: {name}={value!r}")
