"""Looks at the data of `fit` and `evaluate`, and reads what the compiled steps have noted about them."""

import contextlib
import warnings

import keras
import numpy as np

from keras_diffusion.models import arguments, training_data
from keras_diffusion.models.batch_checks import LARGEST_SPREAD, LEAST_SPREAD, BatchChecks, LatentSpread
from keras_diffusion.models.batch_sources import readable
from keras_diffusion.models.latents import check_fingerprint, check_packed
from keras_diffusion.models.training_data import DARKEST_ABOVE_ZERO, SCALE_REMEDY
from keras_diffusion.runtime.devices import to_host

_PATIENCE = 8  # batches without a number below 0, after which there is a warning


class DataWatcher(keras.callbacks.Callback):
    """What a model knows of its data: checks arrays before training, and batches by the notes of `checks`.

    As a callback of `fit` it reads the notes after batch 1, 2, 4, …, 64, 128, 192 … of an epoch and at its end, so that
    it seldom waits for the device.

    Args:
        model: `DiffusionModel`.

    Attributes:
        checks: `BatchChecks`, to be updated within steps.
        latents: `LatentSpread`, likewise, where there is an autoencoder.
    """

    def __init__(self, model):
        super().__init__()
        # Keras's property `model` would bring the whole state back from JAX's device; `_model` does not.
        self._model = model
        self.checks, self.latents = BatchChecks(model.num_classes), LatentSpread()
        self._epoch = self._next = 0
        self._unseen = ()  # data whose fingerprint is still to be compared
        self._pictures, self._silent, self._told_of_latents = None, True, False

    def expects_pictures(self, *data):
        """Whether samples are expected to be pictures."""
        free = self._model.value_range is None or any(getattr(d, "value_range", True) is None for d in data)
        return len(self._model.sample_shape) >= 3 and not free

    # Before steps -----------------------------------------------------------------------------------------------------

    def checked(self, x, sample_weight=None, class_weight=None, quiet=False):
        """Data as Keras takes them: what is in memory is checked, and holds its weights."""
        check_packed(x, self._model)
        classes = self._model.num_classes
        return training_data.checked(x, sample_weight, class_weight, classes, self.expects_pictures(), quiet)

    def checked_validation(self, data):
        """`validation_data` of `fit` likewise: samples, or (samples, None, weights)."""
        # As in Keras, a list is (x, y, weights) too, unless its members are single samples.
        several = (
            isinstance(data, list)
            and 0 < len(data) <= 3
            and (isinstance(data[0], dict) or np.ndim(data[0]) > len(self._model.sample_shape))
        )
        parts = tuple(data) if several or isinstance(data, tuple) else (data,)
        x, y, weight = (*parts, None, None)[:3]
        x = readable(self.checked(x, weight, quiet=True))
        return x if y is None else (x, y)

    def before_fit(self, x, kwargs, taken=lambda data: data):
        """Data of `fit` as Keras takes them, checked; the watch over them begins.

        Args:
            x: as given to `fit`.
            kwargs: its other arguments, a dict, which is changed: weights become part of the data, and this callback
                the first.
            taken: function that picks what of the data the model looks at.

        Returns:
            data.

        Raises:
            ValueError: values that break a rule.
        """
        arguments.check_data(x)
        arguments.check_fit(kwargs)
        data = (x, kwargs.get("validation_data"))
        x = self.checked(taken(x), kwargs.pop("sample_weight", None), kwargs.pop("class_weight", None))
        if getattr(x, "shuffles_itself", False) or type(x).__module__.startswith("grain."):
            kwargs["shuffle"] = False
        if kwargs.get("validation_data") is not None:
            kwargs["validation_data"] = self.checked_validation(kwargs["validation_data"])
        kwargs["callbacks"] = self.watch(kwargs.get("callbacks"), *data)
        return x

    @contextlib.contextmanager
    def evaluating(self, x, kwargs, taken=lambda data: data):
        """Context in which `evaluate` runs on the data it yields; arguments and errors as of `before_fit`."""
        arguments.check_data(x)
        arguments.check_fit(kwargs)
        within_fit, pictures = kwargs.get("_use_cached_eval_dataset"), self.expects_pictures(x)
        if within_fit:
            self.read()  # what the training steps have noted: the validation begins anew
        else:
            x = self.checked(taken(x), kwargs.pop("sample_weight", None), quiet=True)
            check_fingerprint(x, self._model)
        yield x
        self.refuse("the validation data" if within_fit else "the data evaluated", pictures)

    @contextlib.contextmanager
    def single_batch(self, name, x, sample_weight=None, class_weight=None):
        """Context in which the method `name` runs on the one batch it yields, whose values are checked at once."""
        yield self.checked(x, sample_weight, class_weight, quiet=True)
        self.refuse(name, self.expects_pictures())

    # During steps -----------------------------------------------------------------------------------------------------

    def watch(self, callbacks, *data):
        """Begins to watch a `fit` on `data`; returns its callbacks with this one in front."""
        self._pictures = self.expects_pictures(*data)
        self._silent = not self._pictures or training_data.in_memory(data[0]) is not None
        self._unseen = tuple(part[0] if isinstance(part, tuple) else part for part in data)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            # A new one: Keras decides at its beginning what may run in other threads.
            return keras.callbacks.CallbackList(
                [self, *callbacks.callbacks], model=self._model, **(callbacks.params or {})
            )
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        return [self, *(callback for callback in callbacks if callback is not None)]

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._next = epoch, 1
        for data in self._unseen:  # not earlier: a run that is resumed has its weights by now
            check_fingerprint(data, self._model)
        self._unseen = ()

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 >= self._next:
            self._next = batch + 1 + min(batch + 1, 64)
            self.read(batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        self.read()

    def read(self, batches=None):
        """Raises where a rule is broken; warns once of pictures with nothing below 0."""
        self.refuse()
        self._look_at_latents()
        if self._silent or (batches is not None and batches < _PATIENCE):
            return
        self._silent = True
        low, high = (float(self.value(v)) for v in (self.checks.lowest, self.checks.highest))
        if low == 0 and high > 0:  # the lowest is counted from 0 down
            where = " in the first epoch" if batches is None else f" in the first {batches} batches"
            warnings.warn(DARKEST_ABOVE_ZERO.format(where=where, high=high), stacklevel=2)

    def _look_at_latents(self):
        """Warns once of latents that are far from unit variance."""
        spread = float(self.value(self.latents.first)) if self.latents in self._model.metrics else 0.0
        if spread == 0 or self._told_of_latents:
            return
        self._told_of_latents = True
        if not LEAST_SPREAD <= spread <= LARGEST_SPREAD:
            warnings.warn(
                "A diffusion model expects latents of about unit variance. Received: latents with the standard "
                f"deviation {spread:.3g} in the first batch. Set the scale of the autoencoder before training: "
                "AutoencoderModel(autoencoder).measure_latents(data) does that",
                stacklevel=2,
            )

    def refuse(self, where=None, pictures=None):
        """Raises a ValueError if a step since the last reset was given a batch that breaks a rule.

        Args:
            where: which data they were; None (default): the running epoch of `fit`.
            pictures: whether they are expected to be pictures; None (default): as `fit` expects.
        """
        pictures = self._pictures if pictures is None else pictures
        found = self.checks.finding(self.value, pictures)
        if found is None:
            return
        place = f"sample {found.sample} of batch {found.batch} of {where or f'epoch {self._epoch + 1}'}"
        num_classes = self._model.num_classes
        classes = "integers ≥ 0" if num_classes is None else f"the integers from 0 to {num_classes - 1}"
        messages = {
            "finite": f"Samples must be finite. Received: {self.checks.sample_key} with NaN or infinite values, first "
            f"in {place}",
            "scale": f"Float pictures lie in [-1, 1]. Received: nothing below 0 and a value of {found.value:g} in "
            f"{place}. {SCALE_REMEDY}",
            "labels": f"Labels of this network are {classes}. Received: label {found.value:g} in {place}. Number the "
            "classes from 0",
            "conditions": "Conditions must be finite. Received: a condition with NaN or infinite values, first in "
            f"{place}",
            "weights": f"Sample weights are numbers ≥ 0. Received: {found.value:g} for {place}",
        }
        raise ValueError(messages[found.rule])

    def value(self, variable):
        """The value of a metric's variable on the host, also between the steps of a running `fit` on JAX."""
        model = self._model
        state = getattr(model, "_jax_state", None)
        if state and not model._jax_state_synced and state.get("metrics_variables"):
            position = [id(v) for v in model.metrics_variables].index(id(variable))
            return to_host(state["metrics_variables"][position])
        return to_host(variable.value)
