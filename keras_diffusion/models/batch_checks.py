"""Checks of training data of any kind, within the compiled step.

Arrays in memory are checked before training; of generators, `tf.data` or a `DataLoader` a model sees one batch after
the other, perhaps only on the device. There the step itself notes the first batch that breaks a rule:

    finite      samples are numbers
    scale       float pictures lie in [−1, 1]: nothing below 0 and something above `BRIGHTEST` is a batch from 0 to 255
    labels      integers from 0 to the number of classes
    conditions  contexts and known channels are numbers
    weights     sample weights are numbers ≥ 0

That is a few sums over the batch in a program that runs a network on it. The host reads the notes now and then, and at
the end of an epoch (`data_watcher.py`). Until it does, `without_invalid` keeps NaN out of the weights.
"""

import functools
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_diffusion.models.arguments import BRIGHTEST
from keras_diffusion.models.validation import SAMPLE_KEY, WEIGHT_KEY, sample_key

LEAST_SPREAD, LARGEST_SPREAD = 0.5, 2.0  # standard deviation of latents that a diffusion model learns well
RULES = ("finite", "scale", "labels", "conditions", "weights")


class Finding(NamedTuple):
    """The first broken rule: its name, the batch (from 1), the sample in it (from 0), and the value there."""

    rule: str
    batch: int
    sample: int
    value: float


class BatchChecks(keras.metrics.Metric):
    """Checks the batches since the last reset, and notes what it finds.

    A metric, as those are reset with each epoch; it changes no random numbers.

    Args:
        num_classes: labels must lie below it; None: any integers ≥ 0.
    """

    def __init__(self, num_classes=None, name="data_watch"):
        super().__init__(name=name, dtype="float32")
        self.num_classes = num_classes
        self.batches = self._variable((), "int32", "batches")
        self.first, self.sample = (self._variable((len(RULES),), "int32", key) for key in ("first", "sample"))
        self.value = self._variable((len(RULES),), "float32", "value")
        self.lowest = self._variable((), "float32", "lowest")
        self.highest = self._variable((), "float32", "highest")
        self.sample_key = SAMPLE_KEY  # of the batches

    def _variable(self, shape, dtype, name):
        return self.add_variable(shape, initializer="zeros", dtype=dtype, name=name)

    def update_state(self, data, sample_weight=None):
        """Looks at a batch as `fit` has it, before it is converted; for use inside a step."""
        data = data if isinstance(data, dict) else {SAMPLE_KEY: data}
        found = {}  # rule: (which samples break it, what they hold)
        key = self.sample_key = sample_key(data)
        samples = ops.convert_to_tensor(data[key])
        if key != SAMPLE_KEY:  # latents, which have no scale of their own
            bad = ops.logical_not(_finite_rows(samples))
            found["finite"] = (bad, ops.zeros_like(bad, "float32"))
        elif keras.backend.is_float_dtype(samples.dtype):
            found["finite"], found["scale"] = self._look_at_samples(samples)
        if "labels" in data:
            found["labels"] = self._look_at_labels(ops.convert_to_tensor(data["labels"]))
        others = (ops.convert_to_tensor(data[k]) for k in sorted(set(data) - {key, WEIGHT_KEY, "labels"}))
        finite = [_finite_rows(tensor) for tensor in others if keras.backend.is_float_dtype(tensor.dtype)]
        if finite:
            bad = ops.logical_not(functools.reduce(ops.logical_and, finite))
            found["conditions"] = (bad, ops.zeros_like(bad, "float32"))
        if sample_weight is not None:
            weight = ops.cast(sample_weight, "float32")
            found["weights"] = (ops.logical_not(ops.logical_and(ops.isfinite(weight), weight >= 0)), weight)
        self._note(found)

    def _look_at_samples(self, samples):
        flat = ops.cast(ops.reshape(samples, (ops.shape(samples)[0], -1)), "float32")
        finite, low, high = _finite_rows(flat), ops.min(flat), ops.max(flat, axis=1)
        top = ops.max(high)
        whole = ops.all(finite)
        self.lowest.assign(ops.where(ops.logical_and(whole, low < self.lowest.value), low, self.lowest.value))
        self.highest.assign(ops.where(ops.logical_and(whole, top > self.highest.value), top, self.highest.value))
        bright = ops.logical_and(low >= 0, high > BRIGHTEST)
        return (ops.logical_not(finite), high), (bright, high)

    def _look_at_labels(self, labels):
        values = ops.cast(labels, "float32")
        limit = np.inf if self.num_classes is None else self.num_classes
        good = ops.logical_and(ops.logical_and(labels >= 0, values < limit), ops.equal(values, ops.floor(values)))
        return ops.logical_not(good), values

    def _note(self, found):
        number = self.batches.value + 1
        self.batches.assign(number)
        if not found:  # nothing to look at in uint8 samples alone
            return
        size = ops.shape(next(iter(found.values()))[0])
        nothing = (ops.zeros(size, "bool"), ops.zeros(size, "float32"))
        bad, values = (
            ops.stack(part) for part in zip(*(found.get(rule, nothing) for rule in RULES), strict=True)
        )  # (rules, B)
        sample = ops.argmax(ops.cast(bad, "int32"), axis=1)
        value = ops.squeeze(ops.take_along_axis(values, ops.expand_dims(sample, 1), axis=1), 1)
        new = ops.logical_and(ops.any(bad, axis=1), ops.equal(self.first.value, 0))
        self.first.assign(ops.where(new, number, self.first.value))
        self.sample.assign(ops.where(new, ops.cast(sample, "int32"), self.sample.value))
        self.value.assign(ops.where(new, value, self.value.value))

    def result(self):
        return {}  # nothing for the logs

    def finding(self, read, pictures):
        """The first broken rule as a `Finding`, or None.

        Args:
            read: function from a variable to its present value on the host.
            pictures: whether the rule "scale" counts.
        """
        first = np.array(read(self.first))
        if not pictures:
            first[RULES.index("scale")] = 0
        if not first.any():
            return None
        k = int(np.argmin(np.where(first == 0, np.iinfo("int32").max, first)))
        return Finding(RULES[k], int(first[k]), int(read(self.sample)[k]), float(read(self.value)[k]))


class LatentSpread(keras.metrics.Metric):
    """The standard deviation of the latents of the first batch since the last reset.

    Attributes:
        first: that number; 0 before the first batch.
    """

    def __init__(self, name="latent_spread"):
        super().__init__(name=name, dtype="float32")
        self.first = self.add_variable((), initializer="zeros", name="first")

    def update_state(self, spread):
        """Notes the spread of a batch `(B,)`, one number for all of it; for use inside a step."""
        self.first.assign(ops.where(ops.equal(self.first.value, 0), spread[0], self.first.value))

    def result(self):
        return {}  # nothing for the logs


def without_invalid(samples, conditions, num_classes, null_labels):
    """A batch as tensors, with 0 for NaN and infinity, and labels clipped to their range.

    Such a batch soon becomes an error; until then it must not spoil the weights.

    Args:
        samples: float32 tensor.
        conditions: dict of tensors.
        num_classes, null_labels: of the network.
    """
    conditions = dict(conditions)
    for key, value in conditions.items():
        if keras.backend.is_float_dtype(value.dtype):
            conditions[key] = _finite(value)
        elif key == "labels" and num_classes is not None:
            conditions[key] = ops.clip(value, 0, num_classes - 1 if null_labels is None else null_labels)
    return _finite(samples), conditions


def _finite(tensor):
    return ops.where(ops.isfinite(tensor), tensor, ops.zeros_like(tensor))


def _finite_rows(tensor):
    return ops.all(ops.isfinite(tensor), axis=tuple(range(1, len(tensor.shape))))
