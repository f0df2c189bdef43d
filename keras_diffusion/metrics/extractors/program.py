"""A network as one compiled program that computes in full single precision."""

import contextlib

import keras
from keras import ops

from keras_diffusion.runtime.compile import Compiled, as_tensors


class Program:
    """A Keras model, compiled for inference.

    Its weights are arguments, not constants, of the program; a change of them is seen.

    Args:
        network: built Keras model.

    Call arguments:
        batch: what the model takes, an array or several.

    Returns:
        what the model returns, as arrays.
    """

    def __init__(self, network):
        self.network = network

        def run(values, batch):
            with keras.StatelessScope(state_mapping=list(zip(network.variables, values, strict=True))):
                return network(batch, training=False)

        self._run = Compiled(run)

    def __call__(self, batch):
        with full_precision():
            result = self._run([variable.value for variable in self.network.variables], as_tensors(batch))
        return keras.tree.map_structure(ops.convert_to_numpy, result)


@contextlib.contextmanager
def full_precision():
    """A context in which float32 products are of float32.

    By default, accelerators round what they multiply to 11 bits (TensorFloat-32) or 8 (TPUs): enough for training, but
    a distance between features should not depend on the machine.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "torch":
        import torch

        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            with torch.backends.cudnn.flags(
                enabled=torch.backends.cudnn.enabled, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False
            ):
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
    else:
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)
