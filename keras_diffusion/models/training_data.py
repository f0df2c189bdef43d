"""Data for `fit` and `evaluate`: checked before training where it is in memory, and during training where it comes in
batches.

Weights of samples travel in the batch, under the key "sample_weight": Keras itself drops them where there is no `y`.
"""

import warnings

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_array, shown
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import BRIGHTEST
from keras_diffusion.models.data_watch import DataWatch
from keras_diffusion.models.validation import SAMPLE_KEY, WEIGHT_KEY
from keras_diffusion.runtime.devices import to_host

_SURELY_BRIGHT = 32.0  # no scale of its own goes as far: a picture from 0 to 255
_PATIENCE = 8  # batches without a number below 0, after which there is a warning
_SCALE = (
    "Pass uint8 pictures (they are scaled), or x / 127.5 - 1. For data that are no pictures: model.value_range = None"
)
_BELOW_ZERO = (
    "Pictures lie in [-1, 1], and nothing here is below 0{where}: the highest value is {high:g}. Are they in [0, 1]? "
    "Then pass "
    "2 * x - 1, or uint8 pictures, which are scaled. For data that are no pictures: model.value_range = None"
)


class TrainingDataMixin:
    """Looks at what `fit`, `evaluate`, `train_on_batch` and `test_on_batch` are given.

    Goes before `keras.Model` in the bases.
    """

    #: Range of pictures. None turns off what is expected of pictures: that something is below 0, and nothing as large as 255.
    value_range = (-1.0, 1.0)

    def _given(self, x, y=None, sample_weight=None, class_weight=None, quiet=False):
        """`x` as Keras takes it: checked where it is in memory, with weights in it."""
        if getattr(x, "num_classes", None) and self.num_classes and x.num_classes > self.num_classes:
            raise ValueError(
                f"Labels of this network are the integers from 0 to {self.num_classes - 1}. Received: data with "
                f"{x.num_classes} classes. "
                f"Make the network with num_classes={x.num_classes}"
            )
        arrays = _in_memory(x)
        if arrays is None:
            if x is not None and _length(x) == 0:
                raise ValueError(f"Data hold at least one batch. Received: a {type(x).__name__} of length 0")
            for name, value in (("class_weight", class_weight), ("sample_weight", sample_weight)):
                if value is not None:
                    raise ValueError(
                        f"`{name}` is for arrays in memory. Received: {name} with a {type(x).__name__}. Let each "
                        f"batch hold its samples' "
                        f"weights under the key '{WEIGHT_KEY}'"
                    )
            return x, None
        weights = _weights(arrays, sample_weight, class_weight, self.num_classes)
        self._check_in_memory({**arrays, **weights}, quiet)
        alone = set(arrays) == {SAMPLE_KEY} and not isinstance(x, dict) and not weights
        return (arrays[SAMPLE_KEY] if alone else {**arrays, **weights}), None

    def _check_in_memory(self, arrays, quiet):
        arrays = {
            key: value if isinstance(value, np.ndarray) else np.asarray(to_host(value)) for key, value in arrays.items()
        }
        for key, value in arrays.items():
            if value.dtype.kind == "f" and key != "labels":
                validation.check_finite(key, value)
        if "labels" in arrays and self.num_classes is not None:
            validation.check_labels(arrays["labels"], self.num_classes)
        samples = arrays.get(SAMPLE_KEY)
        if samples is None or samples.dtype.kind != "f" or not samples.size or not self._pictures():
            return
        low, high = float(samples.min()), float(samples.max())
        if low >= 0 and high > BRIGHTEST:
            raise ValueError(
                f"Float pictures lie in [-1, 1]. Received: {SAMPLE_KEY} from {low:g} to {high:g}. {_SCALE}"
            )
        if high > _SURELY_BRIGHT:  # some may be from 0 to 255 among others that are scaled
            rows = samples.reshape(len(samples), -1)
            bright = (rows.min(axis=1) >= 0) & (rows.max(axis=1) > _SURELY_BRIGHT)
            if bright.any():
                first = int(np.argmax(bright))
                raise ValueError(
                    f"Float pictures lie in [-1, 1]. Received: {SAMPLE_KEY} with {bright.sum()} pictures from 0 up to "
                    f"{high:g}, the first "
                    f"of them sample {first}. {_SCALE}"
                )
        if low >= 0 and high > 0 and not quiet:
            warnings.warn(_BELOW_ZERO.format(where="", high=high), stacklevel=4)

    def _pictures(self, *data):
        """Whether samples are expected to be pictures."""
        free = self.value_range is None or any(getattr(d, "value_range", True) is None for d in data)
        return len(self.sample_shape) >= 3 and not free

    def _validation_given(self, data):
        """`validation_data` of `fit` likewise: samples, or (samples, None, weights)."""
        # As in Keras, a list is (x, y, weights) too, unless its members are single samples.
        several = (
            isinstance(data, list)
            and 0 < len(data) <= 3
            and (isinstance(data[0], dict) or np.ndim(data[0]) > len(self.sample_shape))
        )
        parts = tuple(data) if several or isinstance(data, tuple) else (data,)
        x, y, weight = (*parts, None, None)[:3]
        x, weight = self._given(x, y, weight, quiet=True)
        x = validation.readable(x)
        return x if y is None and weight is None else (x, y, weight)

    def _watching(self, callbacks, *data):
        """`callbacks` of `fit`, with one in front that reads what the steps have noted."""
        watcher = self._watcher = _Watcher(self._pictures(*data), silent=_in_memory(data[0]) is not None)
        if isinstance(
            callbacks, keras.callbacks.CallbackList
        ):  # a new one: Keras decides at its beginning what may run in other threads
            return keras.callbacks.CallbackList([watcher, *callbacks.callbacks], model=self, **(callbacks.params or {}))
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        return [watcher, *(callback for callback in callbacks if callback is not None)]

    def _refuse_bad_data(self, where, pictures=None):
        """Raises if a step since the last reset has noted a batch that breaks a rule; `where` says which data
        it is of.
        """
        found = self._data_watch().finding(self._present_value, self._pictures() if pictures is None else pictures)
        if found is None:
            return
        place = f"sample {found.sample} of batch {found.batch} of {where}"
        classes = "integers ≥ 0" if self.num_classes is None else f"the integers from 0 to {self.num_classes - 1}"
        said = {
            "finite": f"Samples must be finite. Received: {SAMPLE_KEY} with NaN or infinite values, first in {place}",
            "scale": f"Float pictures lie in [-1, 1]. Received: nothing below 0 and a value of {found.value:g} in "
            f"{place}. {_SCALE}",
            "labels": f"Labels of this network are {classes}. Received: label {found.value:g} in {place}. Number the "
            f"classes from 0",
            "conditions": f"Conditions must be finite. Received: a condition with NaN or infinite values, first in "
            f"{place}",
            "weights": f"Sample weights are numbers ≥ 0. Received: {found.value:g} for {place}",
        }
        raise ValueError(said[found.rule])

    def check_batches(self):
        """Raises a ValueError if a step of the running epoch of `fit` was given a batch that breaks a rule."""
        self._watcher.refuse()

    def _data_watch(self):
        return next(metric for metric in self._metrics if isinstance(metric, DataWatch))

    def _present_value(self, variable):
        """The value of a metric's variable on the host, also between the steps of a running `fit` on JAX."""
        state = getattr(self, "_jax_state", None)
        if state and not self._jax_state_synced and state.get("metrics_variables"):
            position = [id(v) for v in self.metrics_variables].index(id(variable))
            return to_host(state["metrics_variables"][position])
        return to_host(variable.value)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        x, sample_weight = self._given(x, y, sample_weight, class_weight, quiet=True)
        with self._steps("train_on_batch"):
            self._settle_average()
            logs = super().train_on_batch(x, y, sample_weight=sample_weight, return_dict=return_dict)
        self._refuse_bad_data("train_on_batch")
        return logs

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        x, sample_weight = self._given(x, y, sample_weight, quiet=True)
        logs = super().test_on_batch(x, y, sample_weight=sample_weight, return_dict=return_dict)
        self._refuse_bad_data("test_on_batch")
        return logs


class _Watcher(keras.callbacks.Callback):
    """Reads the notes after batch 1, 2, 4, …, 64, 128, 192 … of an epoch and at its end, so that the device is seldom
    waited for.
    """

    def __init__(self, pictures, silent):
        super().__init__()
        self._pictures, self._silent = pictures, silent or not pictures
        self._epoch = self._next = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._next = epoch, 1

    def on_train_batch_end(self, batch, logs=None):
        # `self.model` would bring the whole state back from JAX's device; `self._model` does not.
        if batch + 1 >= self._next:
            self._next = batch + 1 + min(batch + 1, 64)
            self.read(batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        self.read()

    def refuse(self):
        """Raises where a rule is broken."""
        self._model._refuse_bad_data(f"epoch {self._epoch + 1}", self._pictures)

    def read(self, batches=None):
        """Raises where a rule is broken; warns once of pictures with nothing below 0."""
        self.refuse()
        if self._silent or (batches is not None and batches < _PATIENCE):
            return
        self._silent = True
        model = self._model
        watch = model._data_watch()
        low, high = (float(model._present_value(v)) for v in (watch.lowest, watch.highest))
        if low == 0 and high > 0:  # the lowest is counted from 0 down
            where = " in the first epoch" if batches is None else f" in the first {batches} batches"
            warnings.warn(_BELOW_ZERO.format(where=where, high=high), stacklevel=2)


def _length(x):
    """Number of batches, or None where it is not known."""
    try:
        return len(x)
    except TypeError:
        return None


def _in_memory(x):
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
    size = len(arrays[SAMPLE_KEY]) if SAMPLE_KEY in arrays else None
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
    if not isinstance(class_weight, dict):
        raise ValueError(
            f"`class_weight` is a dict from labels, 0 to {num_classes - 1}, to numbers ≥ 0. Received: "
            f"class_weight={shown(class_weight)}"
        )
    for label, weight in class_weight.items():
        number = isinstance(weight, (int, float, np.number)) and np.isfinite(weight) and weight >= 0
        if label not in range(num_classes) or not number:
            raise ValueError(
                f"`class_weight` is a dict from labels, 0 to {num_classes - 1}, to numbers ≥ 0. Received: "
                f"{{{label!r}: {weight!r}}}"
            )
        table[int(label)] = weight
    return table[labels.astype(int)]
