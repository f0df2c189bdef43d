"""What goes into a `DiffusionModel`: batches for training, conditions and start images for generation.

Shapes are checked wherever a batch passes. Values (NaN, label range) are checked in `training_data.py`, before and
during training.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_array, check_whole, shown
from keras_diffusion.configs.labels import labels_of
from keras_diffusion.models.arguments import check_image_values
from keras_diffusion.networks.network import MASK_KEY
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.compile import of_shape

SAMPLE_KEY = "images"
#: What may stand in place of pictures where there is an autoencoder: what it has made of them, before its scale.
MOMENTS_KEY, LATENTS_KEY = "moments", "latents"
CONCAT_KEY = "concat"
WEIGHT_KEY = "sample_weight"
AUGMENTATION_KEY = "augmentation"
CONDITION_KEYS = ("labels", "context", CONCAT_KEY, AUGMENTATION_KEY)


def sample_key(data):
    """The key under which a batch, or arrays, hold their samples: "images", unless they hold latents.

    Args:
        data: samples, or a dict.
    """
    held = data if isinstance(data, dict) else {}
    return next((key for key in (MOMENTS_KEY, LATENTS_KEY) if key in held and SAMPLE_KEY not in held), SAMPLE_KEY)


def unpack_batch(data, sample_shape, condition_keys, augmentation_dim=None, key=SAMPLE_KEY):
    """A batch as (samples, conditions).

    Args:
        data: samples `(B, *sample_shape)`, or a dict with them under "images" (or another `key`) and
            conditions under "labels", "context", "concat" and "augmentation", and the context's mask under
            "context_mask"; perhaps with weights under "sample_weight", which are no condition.
        sample_shape: shape of one sample, None where any size goes.
        condition_keys: conditions that the batch holds for the network.
        augmentation_dim: length of the vectors under "augmentation"; where there are none, nothing was changed: zeros.
        key: of the samples.

    Returns:
        (samples, dict of conditions): uint8 samples, and known channels, scaled to [−1, 1].

    Raises:
        ValueError: missing or unknown keys, samples of another rank or shape, or integers other than uint8.
    """
    if not isinstance(data, dict):
        data = {SAMPLE_KEY: data}
    if AUGMENTATION_KEY in condition_keys and AUGMENTATION_KEY not in data and key in data:
        rows = ops.shape(ops.convert_to_tensor(data[key]))[0]
        data = {**data, AUGMENTATION_KEY: ops.zeros((rows, augmentation_dim), "float32")}
    known = {key, *condition_keys}
    if set(data) - {WEIGHT_KEY} != known:
        told = AUGMENTATION_KEY in data and AUGMENTATION_KEY not in known
        of_latents = key != sample_key(data)
        missing, unknown = sorted(known - set(data)), sorted(set(data) - known - {WEIGHT_KEY})
        raise ValueError(
            f"A batch for this network is a dict with the keys {', '.join(sorted(known))}"
            + ("" if condition_keys else ", or the samples alone")
            + f". Received: {sorted(data)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
            + (". A network takes “augmentation” if it is made with augmentation_dim" if told else "")
            + (". Latents are for a DiffusionModel with the autoencoder that made them" if of_latents else "")
        )
    samples = ops.convert_to_tensor(data[key])
    check_shape(key, samples.shape, sample_shape)
    samples = of_shape(samples, sample_shape)
    conditions = {key: ops.convert_to_tensor(data[key]) for key in condition_keys}
    if "labels" in conditions:
        if len(conditions["labels"].shape) != 1:
            raise ValueError(
                "Labels are one class id per sample, of shape (B,). Received: labels of shape "
                f"{tuple(conditions['labels'].shape)}"
            )
        conditions["labels"] = ops.cast(conditions["labels"], "int32")
    if MASK_KEY in conditions:
        conditions[MASK_KEY] = ops.cast(conditions[MASK_KEY], "bool")
    if AUGMENTATION_KEY in conditions:
        conditions[AUGMENTATION_KEY] = _vectors(conditions[AUGMENTATION_KEY], augmentation_dim)
    if CONCAT_KEY in conditions:
        conditions[CONCAT_KEY] = _scaled(CONCAT_KEY, conditions[CONCAT_KEY])
    return _scaled(key, samples), conditions


def _scaled(name, samples):
    """A tensor of samples as float32, uint8 scaled to [−1, 1]."""
    dtype = keras.backend.standardize_dtype(samples.dtype)
    if name in (MOMENTS_KEY, LATENTS_KEY) and not keras.backend.is_float_dtype(dtype):
        raise ValueError(f"Latents are floats. Received: {name} of dtype {dtype}. Pictures stand under {SAMPLE_KEY!r}")
    if dtype == "uint8":
        samples = ops.cast(samples, "float32") / 127.5 - 1.0
    elif not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"Samples are floats in [-1, 1], or uint8 from 0 to 255 (which are scaled). Received: {name} of dtype "
            f"{dtype}. "
            "Convert them: x.astype('uint8'), or x / 127.5 - 1"
        )
    return ops.cast(samples, "float32")


def _vectors(vectors, dim):
    """The condition "augmentation" as float32 `(B, dim)`."""
    if len(vectors.shape) != 2 or (dim is not None and vectors.shape[1] != dim):
        raise ValueError(
            f"“augmentation” tells of each sample by {dim} numbers, the network's augmentation_dim. Received: shape "
            f"{tuple(vectors.shape)}"
        )
    return ops.cast(vectors, "float32")


def batch_weights(weights, error):
    """The weights of a batch's samples as a tensor like their errors `(B,)`; those that are no numbers ≥ 0 are 0 (and
    soon an error).
    """
    weights = ops.cast(weights, error.dtype)
    if len(weights.shape) != 1 or (
        None not in (weights.shape[0], error.shape[0]) and weights.shape[0] != error.shape[0]
    ):
        raise ValueError(
            f"`sample_weight` is one number per sample, here of shape {tuple(error.shape)}. Received: sample_weight "
            "of shape "
            f"{tuple(weights.shape)}"
        )
    return ops.where(ops.logical_and(ops.isfinite(weights), weights >= 0), weights, ops.zeros_like(weights))


def check_shape(name, shape, sample_shape):
    """Raises unless `shape` is (B, *sample_shape)."""
    if len(shape) != len(sample_shape) + 1:
        raise ValueError(
            f"The network takes samples of shape {sample_shape}, so a batch has {len(sample_shape) + 1} axes. "
            f"Received: {name} of shape {tuple(shape)}"
            + (". Add a channel axis: x[..., None]" if len(shape) == len(sample_shape) else "")
        )
    if any(
        want is not None and got is not None and want != got for want, got in zip(sample_shape, shape[1:], strict=True)
    ):
        what = "channels" if shape[-1] != sample_shape[-1] else "size"
        raise ValueError(
            f"The network takes samples of shape {sample_shape}. Received: {name} of shape {tuple(shape)}, another "
            f"{what}"
        )


def check_finite(name, array):
    """Raises if a float array holds NaN or ±∞, naming the first sample that does."""
    if array.size and not np.isfinite(array.sum(dtype="float64")) and not np.all(np.isfinite(array)):
        first = int(np.argmax(~np.isfinite(array.reshape(len(array), -1)).all(axis=1)))
        raise ValueError(
            f"Samples must be finite. Received: {name} with NaN or infinite values, first in sample {first}"
        )


def check_labels(labels, num_classes):
    """Raises unless all labels are integers in [0, num_classes)."""
    labels = check_array("labels", labels)
    if labels.size and (np.any(labels != np.floor(labels)) or labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"Labels of this network are the integers from 0 to {num_classes - 1}. Received: labels from "
            f"{labels.min()} to {labels.max()}"
        )


def generation_conditions(conditions, num_samples, network, class_names=None):
    """Conditions of a `generate` call as arrays with one row per sample.

    Args:
        conditions: None, or a dict of arrays, lists or (for labels) ints. A single row serves all samples. A missing
            condition is null.
        num_samples: int or None (as many as the conditions have rows, else 1).
        network: the network; its `condition_keys`, `num_classes`, `context_dim` and `concat_channels` are what counts.
        class_names: names that labels may be given by, or None.

    Returns:
        (dict of arrays for the given keys, number of samples).
    """
    if not isinstance(conditions, (dict, type(None))):
        raise ValueError(
            f"Conditions are a dict from names to values, such as {{'labels': [0, 1]}}. Received: {shown(conditions)}"
        )
    conditions = dict(conditions or {})
    keys = [key for key in condition_keys_of(network) if key != AUGMENTATION_KEY]  # samples are as pictures were
    keys = [*keys, MASK_KEY] if getattr(network, "takes_context_mask", False) else keys
    unknown = sorted(map(str, set(conditions) - set(keys)))
    if unknown:
        raise ValueError(f"This network's conditions are: {', '.join(keys) or 'none'}. Received: {', '.join(unknown)}")
    arrays = {}
    if "labels" in conditions:
        arrays["labels"] = np.atleast_1d(np.asarray(labels_of(conditions["labels"], class_names)))
        if arrays["labels"].ndim != 1:
            raise ValueError(
                f"Labels are one class id per sample, of shape (N,). Received: labels of shape {arrays['labels'].shape}"
            )
        check_labels(arrays["labels"], network.num_classes)
        arrays["labels"] = arrays["labels"].astype("int32")
    if "context" in conditions:
        context = check_array("context", conditions["context"], "float32", finite=False)
        context = context[None] if context.ndim == 2 else context
        if context.ndim != 3 or context.shape[-1] != network.context_dim:
            raise ValueError(
                f"A context has the shape (N, length, {network.context_dim}). Received: context of shape "
                f"{np.shape(conditions['context'])}"
            )
        check_finite("context", context)
        arrays["context"] = context
    if MASK_KEY in conditions:
        arrays[MASK_KEY] = _context_mask(conditions[MASK_KEY], arrays.get("context"))
    if CONCAT_KEY in conditions:
        arrays[CONCAT_KEY] = _known_channels(conditions[CONCAT_KEY], network)
    rows = {key: len(value) for key, value in arrays.items()}
    if num_samples is None:
        num_samples = max(rows.values(), default=1)
    rule = "`num_samples` counts samples and must be an integer of at least 1"
    num_samples = limits.check(
        check_whole("num_samples", num_samples, 1, rule=rule), "samples", "The number of samples, `num_samples`,"
    )
    wrong = {key: n for key, n in rows.items() if n not in (1, num_samples)}
    if wrong:
        raise ValueError(
            f"Conditions need one row, or one per sample. Received: num_samples={num_samples}, rows: {wrong}"
        )
    return {key: np.repeat(v, num_samples, axis=0) if len(v) == 1 else v for key, v in arrays.items()}, num_samples


def _context_mask(mask, context):
    """The condition "context_mask" as booleans `(N, M)`, for a context `(N, M, D)` or None."""
    array = np.atleast_2d(check_array(MASK_KEY, mask))
    if context is None or array.ndim != 2 or array.shape[1] != context.shape[1]:
        raise ValueError(
            "A mask says which vectors of a context (N, length, D) are seen: booleans (N, length), beside the context. "
            f"Received: {MASK_KEY} of shape {np.shape(mask)}, "
            f"{'no context' if context is None else f'context of shape {context.shape}'}"
        )
    return array.astype(bool)


def _known_channels(concat, network):
    """The condition "concat" as float32 `(N, ..., K)`."""
    concat, rank, channels = (
        check_array(CONCAT_KEY, concat, finite=False),
        len(network.input["x"].shape),
        concat_channels_of(network),
    )
    array = concat[None] if concat.ndim == rank - 1 else concat
    if array.ndim != rank or array.shape[-1] != channels:
        raise ValueError(
            f"Known channels lie beside the samples: {', '.join(['(N', *['size'] * (rank - 2), str(channels)])}), or "
            "one row without N. "
            f"Received: {CONCAT_KEY} of shape {concat.shape}"
        )
    array = scaled_images(CONCAT_KEY, array)
    check_finite(CONCAT_KEY, array)
    return array


def check_concat_size(concat, sample_shape):
    """Raises unless known channels `(N, ..., K)` have the size of samples `(..., C)`."""
    if concat is not None and concat.shape[1:-1] != tuple(sample_shape[:-1]):
        raise ValueError(
            "Known channels have the size of the samples (of the latents, where there is an autoencoder). Received: "
            f"{CONCAT_KEY} of "
            f"shape {concat.shape}, samples of shape {tuple(sample_shape)}"
        )


def concat_channels_of(network):
    """K, the number of channels in the network's "concat"."""
    return getattr(network, "concat_channels", None) or network.input[CONCAT_KEY].shape[-1]


def check_negative(negative, conditions):
    """Raises unless every negative condition has its counterpart among the conditions, of the same shape."""
    for key, value in negative.items():
        shape = np.shape(conditions[key]) if key in conditions else None
        if value.shape != shape:
            raise ValueError(
                f"A negative condition is evaluated beside the condition itself and has its shape. Received: {key} of "
                f"shape {shape}, "
                f"negative {key} of shape {value.shape}. Make both with one tokenizer, which fills short texts up"
            )


def condition_keys_of(network):
    """The conditions that a network takes, ("labels", "context", "concat", "augmentation") or part of them."""
    return tuple(getattr(network, "condition_keys", ()))


def start_images(images, num_samples, sample_shape, name="init", pictures=True):
    """Images that generation starts from (or keeps, for a mask), float32 `(N, *sample_shape)`; `pictures`: rather than
    latents or noise.
    """
    images = check_array(name, images, finite=False)
    if images.dtype.kind == "f":
        check_finite(name, images[None] if images.ndim == len(sample_shape) else np.atleast_1d(images))
    check_image_values(name, images, len(sample_shape) if pictures else 0)
    scaled = scaled_images(name, images)
    scaled = scaled[None] if scaled.ndim == len(sample_shape) else scaled
    check_shape(name, scaled.shape, sample_shape)
    if len(scaled) not in (1, num_samples):
        raise ValueError(
            f"`{name}` needs one image, or one per sample. Received: {len(scaled)} images for num_samples={num_samples}"
        )
    return np.repeat(scaled, num_samples, axis=0) if len(scaled) == 1 else scaled


def scaled_images(name, images):
    """An array as float32, uint8 scaled to [−1, 1].

    Raises:
        ValueError: what is no array of numbers.
    """
    images = np.asarray(images)
    if images.dtype.kind not in "fiub":
        raise ValueError(f"`{name}` is an array of numbers. Received: dtype {images.dtype}")
    return images.astype("float32") / 127.5 - 1.0 if images.dtype == np.uint8 else images.astype("float32")
