"""Data in memory for `fit` and `evaluate`: arrays, checked before training, with their weights.

Weights of samples travel in the batch, under the key "sample_weight": Keras itself drops them where there is no `y`.
"""

import warnings

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_array, shown
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import BRIGHTEST
from keras_diffusion.models.validation import SAMPLE_KEY, WEIGHT_KEY
from keras_diffusion.runtime.devices import to_host

SCALE_REMEDY = (
    "Pass uint8 pictures (they are scaled), or x / 127.5 - 1. For data that are no pictures: model.value_range = None"
)
DARKEST_ABOVE_ZERO = (
    "Pictures lie in [-1, 1], and nothing here is below 0{where}: the highest value is {high:g}. Are they in [0, 1]? "
    "Then pass 2 * x - 1, or uint8 pictures, which are scaled. For data that are no pictures: model.value_range = None"
)
_SURELY_BRIGHT = 32.0  # no scale of its own goes as far: a picture from 0 to 255


def checked(x, sample_weight, class_weight, num_classes, pictures, quiet):
    """Data as Keras takes them: arrays are checked and hold their weights, batches pass.

    Args:
        x: samples, a dict of arrays, or what yields batches.
        sample_weight, class_weight: as in Keras's `fit`.
        num_classes: of the network, or None.
        pictures: whether samples are expected to be pictures.
        quiet: whether to leave out the warning of pictures with nothing below 0.

    Raises:
        ValueError: see `DiffusionModel.fit`.
    """
    if getattr(x, "num_classes", None) and num_classes and x.num_classes > num_classes:
        raise ValueError(
            f"Labels of this network are the integers from 0 to {num_classes - 1}. Received: data with {x.num_classes} "
            f"classes. Make the network with num_classes={x.num_classes}"
        )
    arrays = in_memory(x)
    if arrays is None:
        _check_batches(x, {"class_weight": class_weight, "sample_weight": sample_weight})
        return x
    weights = _weights(arrays, sample_weight, class_weight, num_classes)
    whole = {**arrays, **weights}
    hosts = {k: v if isinstance(v, np.ndarray) else np.asarray(to_host(v)) for k, v in whole.items()}
    for key, value in hosts.items():
        if value.dtype.kind == "f" and key != "labels":
            validation.check_finite(key, value)
    if "labels" in hosts and num_classes is not None:
        validation.check_labels(hosts["labels"], num_classes)
    samples = hosts.get(SAMPLE_KEY)
    if pictures and samples is not None and samples.dtype.kind == "f" and samples.size:
        _check_pictures(samples, quiet)
    alone = set(whole) == {SAMPLE_KEY} and not isinstance(x, dict)
    return arrays[SAMPLE_KEY] if alone else whole


def _check_batches(x, weights):
    """Raises for data that come in batches, but hold none, or have weights beside them."""
    if x is not None and _length(x) == 0:
        raise ValueError(f"Data hold at least one batch. Received: a {type(x).__name__} of length 0")
    for name, value in weights.items():
        if value is not None:
            raise ValueError(
                f"`{name}` is for arrays in memory. Received: {name} with a {type(x).__name__}. Let each batch hold "
                f"its samples' weights under the key '{WEIGHT_KEY}'"
            )


def _check_pictures(samples, quiet):
    """Raises for float pictures on the scale from 0 to 255; warns of those that may be in [0, 1]."""
    low, high = float(samples.min()), float(samples.max())
    if low >= 0 and high > BRIGHTEST:
        raise ValueError(
            f"Float pictures lie in [-1, 1]. Received: {SAMPLE_KEY} from {low:g} to {high:g}. {SCALE_REMEDY}"
        )
    if high > _SURELY_BRIGHT:  # some may be from 0 to 255 among others that are scaled
        rows = samples.reshape(len(samples), -1)
        bright = (rows.min(axis=1) >= 0) & (rows.max(axis=1) > _SURELY_BRIGHT)
        if bright.any():
            raise ValueError(
                f"Float pictures lie in [-1, 1]. Received: {SAMPLE_KEY} with {bright.sum()} pictures from 0 up to "
                f"{high:g}, the first of them sample {int(np.argmax(bright))}. {SCALE_REMEDY}"
            )
    if low >= 0 and high > 0 and not quiet:
        warnings.warn(DARKEST_ABOVE_ZERO.format(where="", high=high), stacklevel=5)


def _length(x):
    """Number of batches, or None where it is not known."""
    try:
        return len(x)
    except TypeError:
        return None


def in_memory(x):
    """Samples, or a dict of arrays, as a dict of arrays or tensors; None for data that comes in batches."""
    if isinstance(x, dict):
        return {key: check_array(key, v, finite=False) if isinstance(v, (list, tuple)) else v for key, v in x.items()}
    if isinstance(x, list) and x and not isinstance(x[0], dict):
        rows = [
            value if isinstance(value, np.ndarray) or not ops.is_tensor(value) else ops.convert_to_numpy(value)
            for value in x
        ]
        return {SAMPLE_KEY: check_array(SAMPLE_KEY, rows, finite=False)}
    return {SAMPLE_KEY: x} if isinstance(x, np.ndarray) or ops.is_tensor(x) else None


def _weights(arrays, sample_weight, class_weight, num_classes):
    """{"sample_weight": float32 (N,)}, or nothing."""
    key = validation.sample_key(arrays)
    size = len(arrays[key]) if key in arrays else None
    given = [w for w in (sample_weight, arrays.get(WEIGHT_KEY)) if w is not None]
    if len(given) > 1:
        raise ValueError(f"Weights are given once. Received: `sample_weight`, and a batch with the key {WEIGHT_KEY!r}")
    weights = [
        check_array("sample_weight", to_host(w) if ops.is_tensor(w) else w, "float32", finite=False) for w in given
    ]
    for weight in weights:
        if weight.ndim != 1 or (size is not None and len(weight) != size):
            raise ValueError(
                f"`sample_weight` is one number per sample, here of shape ({size},). Received: sample_weight of shape "
                f"{weight.shape}"
            )
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            bad = int(np.argmin(np.isfinite(weight) & (weight >= 0)))
            raise ValueError(f"Sample weights are numbers ≥ 0. Received: {weight[bad]:g} for sample {bad}")
    if class_weight is not None:
        weights.append(_weights_of_classes(class_weight, arrays, num_classes))
    return {WEIGHT_KEY: np.prod(weights, axis=0)} if weights else {}


def _weights_of_classes(class_weight, arrays, num_classes):
    """The weight of each sample's class; classes that are not named count 1, as Keras has it."""
    if "labels" not in arrays or num_classes is None:
        raise ValueError(
            "`class_weight` weighs samples by their labels. Received: class_weight for data without labels"
        )
    labels = np.asarray(to_host(arrays["labels"]) if ops.is_tensor(arrays["labels"]) else arrays["labels"])
    validation.check_labels(labels, num_classes)
    table = np.ones(num_classes, "float32")
    rule = f"`class_weight` is a dict from labels, 0 to {num_classes - 1}, to numbers ≥ 0"
    if not isinstance(class_weight, dict):
        raise ValueError(f"{rule}. Received: class_weight={shown(class_weight)}")
    for label, weight in class_weight.items():
        number = isinstance(weight, (int, float, np.number)) and np.isfinite(weight) and weight >= 0
        if label not in range(num_classes) or not number:
            raise ValueError(f"{rule}. Received: {{{label!r}: {weight!r}}}")
        table[int(label)] = weight
    return table[labels.astype(int)]
