"""A diffusion model trained with given noise, the same on every backend."""

import keras
from keras import ops

from keras_diffusion.configs.file_configs import build_from_file
from keras_diffusion.containers.errors import error_at
from keras_diffusion.models.diffusion_model import DiffusionModel
from keras_diffusion.models.presets import load_weights_file, read_config

_NAME = "keras_diffusion>GivenNoiseModel"  # not registered: only `read` creates one from a config


class GivenNoiseModel(DiffusionModel):
    """A `DiffusionModel` whose batches are dicts of "x0", "t", "eps" and the conditions: `call` draws nothing.

    Layers draw nothing either, since dropout has the rate 0. A metric "step_loss" is the loss of the last step (Keras's
    "loss" is the mean over the epoch so far).
    """

    @classmethod
    def read(cls, directory, custom_objects=None):
        """Loads a preset of a `DiffusionModel`; `custom_objects` as in `DiffusionModel.from_preset`."""
        custom = {**(custom_objects or {}), _NAME: cls}
        config = {**read_config(directory / "config.json"), "class_name": cls.__name__, "registered_name": _NAME}
        model = build_from_file(config, custom, directory, error=error_at(directory))
        load_weights_file(model, directory / "model.weights.h5")
        turn_dropout_off(model)
        model.step_loss = LastValue(name="step_loss")  # after loading: the file has none
        return model

    def fit(self, *args, **kwargs):
        # Without the checks of data: a dropped label is above the number of classes.
        return keras.Model.fit(self, *args, **kwargs)

    def call(self, data, training=False):
        conditions = {key: value for key, value in data.items() if key not in ("x0", "t", "eps")}
        return self.outputs_at(data["x0"], data["t"], data["eps"], conditions, training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # Not x, which is not a usual batch, and was checked when the inputs were made.
        loss = super().compute_loss(None, y, y_pred, sample_weight, training)
        self.step_loss.update_state(loss)
        return loss


def turn_dropout_off(model):
    """Sets the dropout rates of all layers to 0, of Keras's, attention included, and of this library's."""
    for layer in model._flatten_layers(include_self=False):
        for name in ("rate", "dropout", "_dropout"):
            if isinstance(getattr(layer, name, None), (int, float)):
                setattr(layer, name, 0.0)


class LastValue(keras.metrics.Metric):
    """A metric that is the last value."""

    def __init__(self, name="last_value"):
        super().__init__(name=name)
        self.value = self.add_variable(shape=(), initializer="zeros", name="value")

    def update_state(self, value):
        self.value.assign(value)

    def result(self):
        return ops.convert_to_tensor(self.value)
