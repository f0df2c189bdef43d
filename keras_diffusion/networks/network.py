"""What all networks have in common: one dict goes in, a tensor of the sample's size comes out.

    {"x": (B, ..., C), "noise_level": (B,), "labels": (B,), "context": (B, M, D), "concat": (B, ..., K)}
        →  (B, ..., out_channels)

"labels", "context", "concat" and "augmentation" are there only where the network was built for them. "concat" is what
is known at every position (an image with a hole, a small image enlarged, a map of depths): K channels that the first
layer sees beside those of x, without noise. "augmentation" `(B, A)` says how a training picture was changed, and is
zeros in sampling. What the output means (noise, clean data, velocity) is the predictor's affair; so is the
number that stands for the noise level: log(σ/α)/4 by default.

A network is a functional Keras model in a class of its own. Its constructor checks the arguments and calls
`super().__init__(name, trainable, dtype)`, which asks the method `graph` for the output: so the weights exist at once,
and every layer has a fixed name. The arguments are attributes (see `configs.arguments`), from which `get_config` makes
copies: `Network.from_config(net.get_config())` of the network's own class. (`keras.models.clone_model` would return a
bare functional model.)
"""

import math

import keras
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.configs.registry import Registry
from keras_diffusion.layers import (
    FlaxFourierEmbedding,
    FourierEmbedding,
    LabelEmbedding,
    SinusoidalEmbedding,
    TimeProjection,
)
from keras_diffusion.layers.options import convolution, normalization, unbuilt_dense
from keras_diffusion.lora.network import LoRAMixin
from keras_diffusion.networks.arguments import check_arguments

NETWORKS = Registry("network")

TIME_EMBEDDINGS = ("fourier", "sinusoidal")
CONDITION_KEYS = ("labels", "context", "concat", "augmentation")
MASK_KEY = "context_mask"


@NETWORKS.base
class Network(ArgumentsMixin, LoRAMixin, keras.Model):
    """Base class of networks. A subclass has a constructor with the argument `input_shape`, and `graph`.

    Args:
        name, trainable: as in `keras.Model`.
        dtype: dtype policy of the layers.

    Attributes:
        sample_shape: shape of one sample, without the batch axis.
        num_classes: number of classes, or None.
        null_labels: the label that means "no class" (= `num_classes`), or None.
        any_size: whether samples of other sizes than `sample_shape` run as well.
        context_dim: size of the context's vectors, or None.
        concat_channels: K, number of known channels that the network sees beside those of x; 0 for none.
        augmentation_dim: A, length of the vectors that say how training pictures were changed, or None.
        condition_keys: names of the conditions that the network takes, a tuple: of "labels", "context", "concat" and
            "augmentation".
        takes_context_mask: whether "context_mask" may be given beside "context".
        policy, wide: dtype policy of the layers, and the dtype of what must not be rounded to half precision.

    Call arguments:
        inputs: dict: "x" `(B, *sample_shape)`, "noise_level" `(B,)`, and the conditions: "labels" `(B,)` integers,
            "context" `(B, M, D)`, "concat" `(B, *sample_shape[:-1], K)`, "augmentation" `(B, A)`. With a context
            perhaps "context_mask", booleans `(B, M)`: which of its vectors are seen, the others being padding. A row
            that hides all shows all.
        training: whether dropout drops.

    Returns:
        `(B, *sample_shape[:-1], out_channels)`, float32 under mixed precision.

    Raises:
        ValueError: an input that the network does not take, or that lacks.
    """

    any_size = False
    size_multiple = 1
    # Arguments that not every network has.
    num_classes = context_dim = out_channels = augmentation_dim = None
    concat_channels = 0
    null_class = True
    pooled_context = False
    late_arguments = ("augmentation_dim", "pooled_context")
    hides_padding = True  # whether a context may have a mask

    def __new__(cls, *args, **kwargs):
        check_arguments(cls, args, kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, name=None, trainable=True, dtype=None):
        self.policy = keras.dtype_policies.get(dtype)
        self.wide = wide_dtype(self.policy)
        self.sample_shape = self._argument("input_shape")
        size = (None,) * (len(self.sample_shape) - 1) if self.any_size else self.sample_shape[:-1]
        inputs = self._inputs((*size, self.sample_shape[-1]))
        super().__init__(inputs=inputs, outputs=self.graph(inputs), name=name, trainable=trainable)
        self.dtype_policy = self.policy
        self.null_labels = self.num_classes if self.null_class else None
        self.condition_keys = tuple(key for key in CONDITION_KEYS if key in inputs)
        self.takes_context_mask = MASK_KEY in inputs
        # Keras would ask for the mask, which may be left out: `call` puts None in its place.
        self.input_spec = [spec for spec in self.input_spec if spec.name != MASK_KEY]

    def graph(self, inputs):
        """The layers of the network. Runs once, within the constructor.

        Args:
            inputs: dict of Keras tensors: "x" `(None, *sample_shape)`, "noise_level" `(None,)`, and the conditions that
                the network takes; see the call arguments.

        Returns:
            the output, a Keras tensor `(None, *sample_shape[:-1], channels_out)`.

        Raises:
            ValueError: arguments of the constructor that do not fit each other, such as an unknown time embedding.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement graph(inputs)")

    def call(self, inputs, training=None, mask=None):
        known = ("x", "noise_level", *self.condition_keys)
        mask_key = {MASK_KEY} if self.takes_context_mask else set()
        if not isinstance(inputs, dict) or set(inputs) - mask_key != set(known):
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
                f"`x` must be (B, {', '.join(map(str, expected))}), as this "
                f"network was built. Received: x.shape={shape}"
            )
        if self.concat_channels:
            check_beside("concat", inputs["concat"].shape, shape, self.concat_channels)
        # Axes of free size (None in `input_shape`) are known only now.
        check_size(self.halved_axes(shape[1:-1]), self.size_multiple)
        if self.takes_context_mask:
            inputs = {**inputs, MASK_KEY: _seen(inputs)}
        return super().call(inputs, training=training, mask=mask)

    def halved_axes(self, size):
        """The axes that the levels halve: all of them unless a subclass says so.

        Args:
            size: a sample's axes without the channels, a tuple of ints or None.

        Returns:
            tuple, those of them that must be multiples of `size_multiple`.
        """
        return size

    def check_levels(self, rank=3):
        """Checks that `input_shape` and `widths` fit: every level but the last halves the size.

        Args:
            rank: of `input_shape`, 3 for (H, W, C) (default); None for any.

        Raises:
            ValueError: another rank, a width < 1, or an axis that is not a multiple of 2^(levels − 1).
        """
        input_shape, widths = self._argument("input_shape"), self.widths
        if rank and len(input_shape) != rank:
            raise ValueError(
                f"{type(self).__name__} takes images: `input_shape` must be (H, W, C), without the batch axis. "
                f"Received: input_shape={input_shape}. Use UNet for sequences and MLP for vectors"
            )
        check_positive_int(channels=input_shape[-1], levels=len(widths))
        check_positive_int(**{f"widths[{i}]": width for i, width in enumerate(widths)})
        self.size_multiple = 2 ** (len(widths) - 1)
        check_size(self.halved_axes(input_shape[:-1]), self.size_multiple)

    # Parts of graphs that several networks have.

    def _inputs(self, shape):
        """The dict of `keras.Input`s, for samples of `shape`."""
        inputs = {
            "x": keras.Input(shape, name="x", dtype=self.wide),
            "noise_level": keras.Input((), name="noise_level", dtype=self.wide),
        }
        if self.num_classes is not None:
            inputs["labels"] = keras.Input((), name="labels", dtype="int32")
        if self.context_dim is not None:
            rule = "`context_dim` must be an integer ≥ 1, or None for no context"
            dim = check_whole("context_dim", self.context_dim, 1, rule=rule)
            inputs["context"] = keras.Input((None, dim), name="context", dtype=self.wide)
            if self.hides_padding:
                inputs[MASK_KEY] = keras.Input((None,), name=MASK_KEY, dtype="bool", optional=True)
        rule = "`concat_channels` must be an integer ≥ 0; 0 is none"
        if check_whole("concat_channels", self.concat_channels, 0, rule=rule):
            inputs["concat"] = keras.Input((*shape[:-1], self.concat_channels), name="concat", dtype=self.wide)
        rule = "`augmentation_dim` must be an integer ≥ 1, or None for a network that is told of no augmentation"
        if check_whole("augmentation_dim", self.augmentation_dim, 1, rule=rule, optional=True):
            inputs["augmentation"] = keras.Input((self.augmentation_dim,), name="augmentation", dtype=self.wide)
        return inputs

    def seen(self, inputs):
        """What the first layer sees: x, and the channels of "concat" behind its own where the network takes some.

        Args:
            inputs: the dict of `graph`.

        Returns:
            Keras tensor `(None, *sample_shape[:-1], C + concat_channels)`.
        """
        if "concat" not in inputs:
            return inputs["x"]
        return keras.layers.Concatenate(name="x_and_concat", dtype=self.wide)([inputs["x"], inputs["concat"]])

    def context_of(self, inputs):
        """The context and its mask, as layers with cross-attention take them.

        Args:
            inputs: the dict of `graph`.

        Returns:
            dict of Keras tensors, with the keys "context" and "context_mask"; {} for a network without a context.
        """
        return {key: inputs[key] for key in ("context", MASK_KEY) if key in inputs}

    def mean_context(self, inputs):
        """The mean of the context's vectors, of those that are seen.

        Args:
            inputs: the dict of `graph`, with "context" `(None, M, context_dim)`.

        Returns:
            Keras tensor `(None, context_dim)`.
        """
        mean = keras.layers.GlobalAveragePooling1D(name="context_mean", dtype=self.wide)
        return mean(inputs["context"], mask=inputs.get(MASK_KEY))

    def join(self, h, skip, name):
        """Puts the channels of one tensor behind those of another.

        Args:
            h, skip: Keras tensors of the same shape but for the channels.
            name: of the layer.

        Returns:
            Keras tensor with the channels of both, those of `h` first.
        """
        return keras.layers.Concatenate(name=name, dtype=self.policy)([h, skip])

    def add_label(self, embedding, inputs):
        """The embedded noise level plus the vectors of the label, the augmentation and the pooled context, where the
        network takes them.

        Args:
            embedding: Keras tensor `(None, dim)`.
            inputs: the dict of `graph`.

        Returns:
            Keras tensor `(None, dim)`.
        """
        dim = embedding.shape[-1]
        if self.num_classes is not None:
            layer = LabelEmbedding(self.num_classes, dim, self.null_class, name="label_embedding", dtype=self.wide)
            add = keras.layers.Add(name="time_and_label", dtype=self.wide)
            embedding = add([embedding, layer(inputs["labels"])])
        if "augmentation" in inputs:  # without a bias: zeros add nothing
            layer = unbuilt_dense(dim, use_bias=False, name="augmentation_embedding", dtype=self.wide)
            add = keras.layers.Add(name="and_augmentation", dtype=self.wide)
            embedding = add([embedding, layer(inputs["augmentation"])])
        if self.pooled_context:
            layer = unbuilt_dense(dim, use_bias=False, name="context_embedding", dtype=self.wide)
            add = keras.layers.Add(name="and_context", dtype=self.wide)
            embedding = add([embedding, layer(self.mean_context(inputs))])
        return embedding

    def embed_conditions(self, inputs, dim):
        """The condition vector of noise level and label.

        Both go through the same two dense layers, so that the network may treat a class differently at different noise
        levels. In float32 under mixed precision too: the work is small, and rounding would blur neighbouring noise
        levels.

        Args:
            inputs: the dict of `graph`.
            dim: size of the vector, even.

        Returns:
            Keras tensor `(None, dim)`.

        Raises:
            ValueError: an unknown time embedding.
        """
        embedding = noise_embedding(self.time_embedding, dim, self.time_scale)(inputs["noise_level"])
        embedding = self.add_label(embedding, inputs)
        return TimeProjection(dim, activation=self.activation, name="time_projection", dtype=self.wide)(embedding)

    def finish(self, h, norm, activation, kernel_size=3, kernel_initializer="zeros"):
        """The end of a U-Net: norm, activation, and a convolution that starts at 0.

        The convolution works in float32 under mixed precision too: sampling adds up many outputs, and 8 bits would
        show.

        Args:
            h: features `(B, ..., channels)`.
            norm: (kind, groups, epsilon); see `layers.options.normalization`.
            activation: name or function.
            kernel_size, kernel_initializer: of the convolution.

        Returns:
            Keras tensor `(None, ..., channels_out)`.

        Raises:
            ValueError: an unknown kind of norm.
        """
        kind, groups, epsilon = norm
        h = normalization(kind, h.shape[-1], groups, epsilon, "norm_out", self.policy)(h)
        h = keras.layers.Activation(activation, name="act_out", dtype=self.policy)(h)
        options = {"kernel_initializer": kernel_initializer, "name": "conv_out", "dtype": self.wide}
        return convolution(len(self.sample_shape) - 1, self.channels_out, kernel_size, **options)(h)

    def passed(self, *names, **options):
        """Options of a layer, collected from the network's own arguments.

        Args:
            *names: arguments of the network that the layer has by the same names.
            **options: further ones, which win.

        Returns:
            dict of them, with the dtype policy under "dtype".
        """
        return {**{name: getattr(self, name) for name in names}, "dtype": self.policy, **options}

    @property
    def channels_out(self):
        """Channels of the output: `out_channels`, or as many as those of x."""
        return self.sample_shape[-1] if self.out_channels is None else self.out_channels


def _seen(inputs):
    """The mask of a network's context as booleans `(B, M)`, where at least one of each row is true; None for none."""
    mask = inputs.get(MASK_KEY)
    if mask is None:
        return None
    context, shape = tuple(inputs["context"].shape), tuple(mask.shape)
    if len(shape) != 2 or any(None not in pair and pair[0] != pair[1] for pair in zip(shape, context)):
        raise ValueError(
            "A mask says which vectors of the context are seen, and has its shape (B, M). Received: context_mask.shape="
            f"{shape}, context.shape={context}"
        )
    mask = ops.cast(mask, "bool")
    return ops.logical_or(mask, ops.logical_not(ops.any(mask, axis=1, keepdims=True)))


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
            f"`{name}` lies beside the samples, with their size and {channels} channels of its own, as this "
            f"network was built: (B, {', '.join(map(str, expected[1:]))}). Received: {name}.shape={shape}, "
            f"samples of the shape {tuple(sample_shape)}"
        )


def wide_dtype(policy):
    """The policy's variable dtype, at least float32: for what must not be rounded to half precision."""
    return policy.variable_dtype if policy.variable_dtype in ("float32", "float64") else "float32"


def noise_embedding(kind, dim, scale=None, kinds=TIME_EMBEDDINGS):
    """The layer that makes sines and cosines of the noise level.

    Args:
        kind: one of `kinds`: "fourier", "sinusoidal", "flax_partitionable" or "flax_original".
        dim: size of the embedding.
        scale: of the frequencies; None (default) fits log(σ/α)/4.
        kinds: those that the network knows.

    Raises:
        ValueError: a kind that the network does not know.
    """
    if kind not in kinds:
        raise ValueError(
            f"Unknown time embedding: {shown(kind)}. Known ones: {', '.join(kinds)}. "
            f"Received: time_embedding={shown(kind)}"
        )
    if kind == "fourier":
        return FourierEmbedding(dim, scale=1.0 if scale is None else scale, name="time_embedding")
    if kind == "sinusoidal":
        return SinusoidalEmbedding(dim, scale=250.0 if scale is None else scale, name="time_embedding")
    return FlaxFourierEmbedding(dim, kind.removeprefix("flax_"), name="time_embedding")


def sinusoidal_embedding(dim, freq_shift, cos_first, scale=1.0):
    """`SinusoidalEmbedding` with frequencies scale·10000^(−k/(dim/2 − freq_shift))."""
    half = dim // 2
    if not half > freq_shift:
        raise ValueError(
            f"An embedding of {dim} numbers has {half} frequencies, more than `freq_shift`. Received: "
            f"freq_shift={freq_shift}"
        )
    period = 10000.0 ** (half / (half - freq_shift))
    return SinusoidalEmbedding(dim, period, scale=scale, cos_first=cos_first, name="time_embedding")


def check_positive_int(**values):
    """Raises ValueError unless each value is an integer ≥ 1."""
    for name, value in values.items():
        check_whole(name, value, 1)
