"""Sharded checkpoints by Orbax: every process writes the part of the weights that it holds, while training goes on.

`Resume` gathers the weights and writes one file, which is simple, exact, and right up to models that fit into one
machine's memory. Beyond that, this is Keras's own callback; `DiffusionModel.get_state_tree` is what makes it work here.
"""

from pathlib import Path

import keras

from keras_diffusion.runtime.finite import check_finite
from keras_diffusion.runtime.optional import import_optional


def orbax_checkpoint(directory, **options):
    """`keras.callbacks.OrbaxCheckpoint`, for `fit`.

    To continue: make and compile the model as it was, build the optimizer
    (`model.optimizer.build(model.trainable_variables)`), call `model.load_weights(directory)`, which takes the latest
    step, set `data.epoch`, and `fit(initial_epoch=...)`. Devices may be others than those that wrote.

    Args:
        directory: folder of the checkpoints, one sub-folder per epoch, named by its number from 0.
        options: as `keras.callbacks.OrbaxCheckpoint` has them: `max_to_keep`, `save_freq`, `save_best_only`, `monitor`
            …

    Returns:
        the callback.

    Raises:
        FloatingPointError: when it would save, weights that are NaN or infinite; the last checkpoint stays.
        ImportError: Orbax is not installed, or Keras is older than its callback.

    Example:

    >>> model.fit(batches, epochs=10, callbacks=[keras_diffusion.callbacks.orbax_checkpoint("run/orbax", max_to_keep=2)])
    """
    import_optional("orbax.checkpoint", extra="orbax", purpose="sharded checkpoints")
    if not hasattr(keras.callbacks, "OrbaxCheckpoint"):
        raise ImportError(
            "Sharded checkpoints need a Keras that has OrbaxCheckpoint. Received: "
            f"Keras {keras.__version__}. Upgrade it."
        )
    return _finite_only(keras.callbacks.OrbaxCheckpoint)(str(Path(directory).absolute()), **options)


def _finite_only(base):
    """Keras's callback, with an end to training before it saves what is not finite."""

    class OrbaxCheckpoint(base):
        def _save_checkpoint(self, step, logs=None):
            check_finite(self.model, f"The checkpoint of step {step}")
            super()._save_checkpoint(step, logs)

    return OrbaxCheckpoint
