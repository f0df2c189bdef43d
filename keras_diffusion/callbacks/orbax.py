"""Sharded checkpoints by Orbax: every process writes its own part of the weights while training continues.

`Resume` gathers the weights and writes one file, which is simple, exact, and right for models that fit into the memory
of one machine. For larger ones, this is Keras's own callback, which works through `DiffusionModel.get_state_tree`.
"""

from pathlib import Path

import keras

from keras_diffusion.runtime.finite import check_finite
from keras_diffusion.runtime.optional import import_optional


def orbax_checkpoint(directory, **options):
    """`keras.callbacks.OrbaxCheckpoint`, for `fit`.

    To continue: create and compile the model as before, build the optimizer
    (`model.optimizer.build(model.trainable_variables)`), call `model.load_weights(directory)`, which takes the latest
    step, set `data.epoch`, and `fit(initial_epoch=...)`. The devices may differ from those that wrote.

    Args:
        directory: folder of the checkpoints, one sub-folder per epoch, named by its number from 0.
        options: those of `keras.callbacks.OrbaxCheckpoint`: `max_to_keep`, `save_freq`, `save_best_only`, `monitor` …

    Returns:
        the callback.

    Raises:
        FloatingPointError: when it would save weights that are NaN or infinite; the last checkpoint is kept.
        ImportError: Orbax is not installed, or Keras is older than its callback.

    Example:

    >>> checkpoint = keras_diffusion.callbacks.orbax_checkpoint("run/orbax", max_to_keep=2)
    >>> model.fit(batches, epochs=10, callbacks=[checkpoint])
    """
    import_optional("orbax.checkpoint", extra="orbax", purpose="sharded checkpoints")
    if not hasattr(keras.callbacks, "OrbaxCheckpoint"):
        raise ImportError(
            "Sharded checkpoints need a Keras that has OrbaxCheckpoint. Received: "
            f"Keras {keras.__version__}. Upgrade it."
        )
    return _finite_only(keras.callbacks.OrbaxCheckpoint)(str(Path(directory).absolute()), **options)


def _finite_only(base):
    """Keras's callback, but it stops training before it saves weights that are not finite."""

    class OrbaxCheckpoint(base):
        def _save_checkpoint(self, step, logs=None):
            check_finite(self.model, f"The checkpoint of step {step}")
            super()._save_checkpoint(step, logs)

    return OrbaxCheckpoint
