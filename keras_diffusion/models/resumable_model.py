"""A Keras model whose training may stop anywhere and go on elsewhere.

    stops            the model keeps the weights of its last step       weight_guard.py, training_steps.py
    what is saved    finite weights, averages, states of random numbers random_state.py, presets.py, state_tree.py
    goes on          on any backend, with the noise that it would have drawn

It patches Keras and knows of what is trained no more than its name and its average; what else is a subclass's own, it
says in the hooks `prepare_weights`, `weights_loaded` and `state_prefixes`.
"""

import contextlib
import math

import keras

from keras_diffusion.configs.checks import check_path
from keras_diffusion.models import optimizers, presets
from keras_diffusion.models.batch_sources import explaining_text, readable
from keras_diffusion.models.random_state import load_random_state, save_random_state
from keras_diffusion.models.state_tree import GROUPS, assign_state, read_state
from keras_diffusion.models.training_steps import StepCounter, reporting_to
from keras_diffusion.models.weight_guard import WeightGuard, reads_weights
from keras_diffusion.runtime.compile import jit_step
from keras_diffusion.runtime.devices import batches_that_divide, several_processes
from keras_diffusion.runtime.files import check_room, write_errors
from keras_diffusion.runtime.finite import check_finite


class ResumableModel(keras.Model):
    """`keras.Model` that survives failed steps, saves all of its state, and loads it on any backend.

    Args:
        kwargs: as in `keras.Model`.

    Attributes:
        weight_guard: `WeightGuard`; methods that read weights are decorated with `reads_weights`.
        trained: name of the attribute that holds what is trained, a layer.
        average: `training.WeightAverage` of it, or None. As it was made it is unused: the weights of what is trained
            are what "ema" means, whatever they have become. Once training has updated it, or it was given weights of
            its own, it counts.
    """

    trained = "network"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Not in the class: PyTorch looks for layers last, and would never find the one that a subclass puts here.
        self.average = None
        self.weight_guard, self._step_counter = WeightGuard(self), StepCounter(self)

    # Hooks ------------------------------------------------------------------------------------------------------------

    def prepare_weights(self):
        """Called before the first step of training, and before weights are saved: an average that nothing has used yet
        starts at the present weights.
        """
        if self.average is not None and not several_processes():
            self.average.follow(getattr(self, self.trained))

    def weights_loaded(self):
        """Called when `load_weights` has read a file: an average that equals what is trained counts as unused."""
        if self.average is not None:
            self.average.loaded(getattr(self, self.trained))

    def state_prefixes(self):
        """Prefixes for paths of variables in state trees: dict from prefixes to layers whose paths others have too, as
        those of the average are.
        """
        return {} if self.average is None else {"average/": self.average}

    def _averaged(self):
        """What "ema" stands for: the average, or what is trained where there is none or nothing has been averaged."""
        unused = self.average is None or self.average.is_unused()
        return getattr(self, self.trained) if unused else self.average.network

    # Steps ------------------------------------------------------------------------------------------------------------

    @property
    def steps_run(self):
        """Number of training steps so far, in batches."""
        return self._step_counter.steps_run

    def skip_steps(self, number, logs):
        """Makes the running `fit` pass over its next training steps: they were computed before an interruption.

        Args:
            number: int ≥ 0; their batches are taken from the data and thrown away.
            logs: dict of the metrics that they led to.
        """
        self._step_counter.skip(number, logs)

    @contextlib.contextmanager
    def _steps_on(self, data, name, validation_data=None):
        guard = self.weight_guard
        with explaining_text(data, lambda: guard.steps_done, validation_data), guard.running(name):
            yield

    def fit(self, x=None, y=None, **kwargs):
        """Keras's `fit`, after which the model has the weights of its last step, however it ended."""
        if getattr(self, "optimizer", None) is not None and not self.optimizer.built:
            # Before the first step: TensorFlow could not make them after a first step that failed, nor load them from a
            # file.
            self.optimizer.build(self.trainable_variables)
        with (
            reporting_to(kwargs.get("callbacks")),
            batches_that_divide(x, kwargs.get("batch_size")),
            self._steps_on(x, "fit", kwargs.get("validation_data")),
        ):
            self.prepare_weights()
            try:
                return super().fit(readable(x), y, **kwargs)
            finally:
                self.skip_steps(0, {})

    def evaluate(self, x=None, y=None, **kwargs):
        """Keras's `evaluate`, which leaves the weights available also after an exception."""
        with batches_that_divide(x, kwargs.get("batch_size")), self._steps_on(x, "evaluate"):
            return super().evaluate(readable(x), y, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Keras's `predict`, which leaves the weights available also after an exception."""
        with self._steps_on(x, "predict"):
            return super().predict(x, *args, **kwargs)

    def predict_on_batch(self, x):
        """Keras's `predict_on_batch`, which leaves the weights available also after an exception."""
        with self._steps_on(x, "predict_on_batch"):
            return super().predict_on_batch(x)

    def train_on_batch(self, x, *args, **kwargs):
        """Keras's `train_on_batch`, which leaves the weights available also after an exception."""
        with self._steps_on(x, "train_on_batch"):
            self.prepare_weights()
            return super().train_on_batch(x, *args, **kwargs)

    def test_on_batch(self, x, *args, **kwargs):
        """Keras's `test_on_batch`, which leaves the weights available also after an exception."""
        with self._steps_on(x, "test_on_batch"):
            return super().test_on_batch(x, *args, **kwargs)

    def __call__(self, *args, **kwargs):
        self.weight_guard.require_weights("__call__")
        return super().__call__(*args, **kwargs)

    def make_train_function(self, force=False):
        """Keras's compiled training step, for steps that are counted and that a signal stops in between.

        Args:
            force: whether to compile anew. Default False.
        """
        return self._make_step("train_function", super().make_train_function, force, self._step_counter.step)

    def make_test_function(self, force=False):
        """Keras's compiled test step, for steps that a signal stops in between.

        Args:
            force: whether to compile anew. Default False.
        """
        return self._make_step("test_function", super().make_test_function, force)

    def make_predict_function(self, force=False):
        """Keras's compiled prediction step, for steps that a signal stops in between.

        Args:
            force: whether to compile anew. Default False.
        """
        return self._make_step("predict_function", super().make_predict_function, force)

    def _make_step(self, name, make, force, wrap=lambda step: step):
        before = getattr(self, name)
        make(force)
        if getattr(self, name) is not before:
            setattr(self, name, self.weight_guard.step(wrap(getattr(self, name))))
        return getattr(self, name)

    def _make_function(self, step_function, *args, **kwargs):
        if self.jit_compile and not self.run_eagerly:
            step_function = jit_step(step_function)
        return super()._make_function(step_function, *args, **kwargs)

    def _get_jax_state(self, **groups):
        state = super()._get_jax_state(**groups)
        if groups.get("purge_model_variables"):
            # Keras remembers the state from the end of the first step on; until then, this is it.
            names = [name for name in GROUPS if groups.get(name)]
            self._jax_state = dict(zip(names, state, strict=True))
        return state

    # Compiling --------------------------------------------------------------------------------------------------------

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        """Keras's `compile`; an unknown optimizer is a ValueError with the known names."""
        try:
            super().compile(optimizer, *args, **kwargs)
        except (ValueError, TypeError):
            optimizers.check_optimizer_name(optimizer)
            raise

    def compile_from_config(self, config):
        """Compiles the model as `get_compile_config` describes it, and makes the optimizer's variables."""
        # Keras's own does nothing where `compile` is overridden.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def get_compile_config(self):
        """Keras's compile config, without what belongs to one backend: its class of optimizer, its way to compile."""
        config = super().get_compile_config()
        if config:
            config["jit_compile"] = "auto"
            if isinstance(config.get("optimizer"), dict):
                config["optimizer"] = optimizers.portable_optimizer(config["optimizer"])
        return config

    # Saving -----------------------------------------------------------------------------------------------------------

    @reads_weights
    def save_weights(self, filepath, *args, **kwargs):
        """Keras's `save_weights`.

        Raises:
            FloatingPointError: weights, averages or optimizer variables that are NaN or infinite; a file that is there
                stays.
            OSError: they could not be written.
        """
        check_finite(self, f"The file {str(filepath)!r}")
        optimizer = getattr(self, "optimizer", None)
        variables = [*self.variables, *([] if optimizer is None else optimizer.variables)]
        check_room(filepath, sum(map(_stored_bytes, variables)))
        with write_errors(filepath):
            return super().save_weights(filepath, *args, **kwargs)

    @reads_weights
    def save(self, filepath, *args, **kwargs):
        """Keras's `save`; raises as `save_weights` does."""
        check_finite(self, f"The file {str(filepath)!r}")
        with write_errors(filepath):
            return super().save(filepath, *args, **kwargs)

    def load_weights(self, filepath, *args, **kwargs):
        """Keras's `load_weights`, also after a failed step has used up the weights."""
        self.weight_guard.require_weights("load_weights")
        super().load_weights(filepath, *args, **kwargs)
        self.weights_loaded()

    def save_own_variables(self, store):
        """Adds the states of random numbers to what Keras saves."""
        self.prepare_weights()
        super().save_own_variables(store)
        save_random_state(self, store)

    def load_own_variables(self, store):
        """Reads what `save_own_variables` wrote, or a file of plain weights."""
        super().load_own_variables(load_random_state(self, store))

    def get_state_tree(self, value_format="backend_tensor"):
        """The model's state as nested dicts, for `keras.callbacks.OrbaxCheckpoint`.

        Args:
            value_format: "backend_tensor" (default) or "numpy_array".

        Returns:
            dict with "trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables".
        """
        return read_state(self, value_format)

    def set_state_tree(self, state_tree):
        """Puts the values of `get_state_tree` back; variables that it lacks stay as they are."""
        assign_state(self, state_tree)

    def save_to_preset(self, directory, overwrite=False):
        """Writes a folder with `config.json`, `model.weights.h5` and `metadata.json`; see `from_preset`.

        Args:
            directory: path of the folder to make.
            overwrite: whether an existing preset may be replaced. Default False.

        Raises:
            FileExistsError: the folder exists and `overwrite` is False.
            FloatingPointError: weights that are NaN or infinite; what is there stays.
        """
        presets.save_preset(self, directory, overwrite)

    @classmethod
    def from_preset(cls, directory, load_weights=True, custom_objects=None):
        """Loads what `save_to_preset` wrote, on any backend. No code in the folder is run: only classes that are known
        to be plain are made.

        Args:
            directory: path of the folder; or that of a run of `keras-diffusion train`, which gives its model, of an
                unfinished run the last state that was saved.
            load_weights: False for the architecture with new weights. Default True.
            custom_objects: dict from names to classes of your own that the preset may make, `{"my_package>MyNetwork":
                MyNetwork}`: those of this library and the plain ones of Keras need no mention, others are refused,
                registered with Keras or not. Default None.

        Returns:
            model of this class, compiled if it was saved so.

        Raises:
            FileNotFoundError: no preset there.
            CheckpointError: a class that is not allowed; a damaged file; weights that do not fit, or are not finite.
        """
        return presets.load_preset(cls, check_path("directory", directory), load_weights, custom_objects)


def _stored_bytes(variable):
    """Of a variable in an HDF5 file, roughly: two kilobytes are its name and tables."""
    return math.prod(variable.shape) * (8 if "64" in str(variable.dtype) else 4) + 2048
