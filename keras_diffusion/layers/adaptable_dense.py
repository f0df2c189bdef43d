"""A dense layer that can take a low-rank adapter: LoRA.

    y = x·W + b                          without
    y = x·W + (α/r)·(x·A)·B + b          with;  W (in, out) is frozen, A (in, r) random, B (r, out) zero: at first, y
                                         does not change

It is Keras's `Dense` and its `enable_lora`, but for two things. Keras adds A·B to W and multiplies then: a gradient as
large as W, and under mixed precision an adapter smaller than W's rounding error is lost; here x passes through A and B
apart. And Keras saves W + (α/r)·A·B and sets A and B to 0 when it loads: such an adapter has no gradient any more, so
that training could not be resumed; here W, A and B are saved and loaded as they are.

Reference: Hu et al., "LoRA: low-rank adaptation of large language models", arXiv:2106.09685, section 4.1.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.registry import serializable
from keras_diffusion.layers.initializers import RandomUniform

_NAMES = ("lora_kernel_a", "lora_kernel_b")


@serializable
class AdaptableDense(keras.layers.Dense):
    """`keras.layers.Dense` with an adapter that keeps its state. Arguments and call are those of `Dense`."""

    def enable_lora(self, rank, lora_alpha=None, a_initializer=None, b_initializer="zeros"):
        """Adds an adapter and freezes the kernel.

        Args:
            rank: r ≥ 1, of A and B.
            lora_alpha: α; None (default) takes the rank: a factor of 1.
            a_initializer: of A; None (default) is uniform in ±1/√in.
            b_initializer: of B. Default "zeros".

        Raises:
            ValueError: the layer has an adapter, or is not built.
        """
        if a_initializer is None and self.built:
            bound = 1.0 / math.sqrt(self.kernel.shape[0])
            a_initializer = RandomUniform(-bound, bound)
        # The config of a layer has both numbers; `Dense.build` hands on the rank alone.
        super().enable_lora(rank, self.lora_alpha if lora_alpha is None else lora_alpha, a_initializer, b_initializer)
        for variable in self._adapter:
            variable.trainable = self.trainable

    def remove_lora(self, merge=False):
        """Takes the adapter away; the kernel stays frozen.

        Args:
            merge: whether its product is added to the kernel first. Default False.

        Raises:
            ValueError: the layer has no adapter.
        """
        if not self.lora_enabled:
            raise ValueError(
                f"There is no adapter in this layer. Received: {self.path!r}. Call enable_lora(rank) first"
            )
        if merge:
            a, b = (ops.convert_to_numpy(variable).astype("float64") for variable in self._adapter)
            kernel = ops.convert_to_numpy(ops.cast(self._kernel, "float32"))
            self._kernel.assign((kernel + (self.lora_alpha / self.lora_rank) * (a @ b)).astype("float32"))
        for variable in self._adapter:
            self._untrack_variable(variable)
        self.lora_kernel_a = self.lora_kernel_b = None
        self.lora_enabled, self.lora_rank, self.lora_alpha = False, None, None

    def call(self, inputs, training=None):
        if not self.lora_enabled:
            return super().call(inputs, training=training)
        # (x·A)·B: neither the product nor its gradient is ever as large as the kernel.
        low_rank = ops.matmul(ops.matmul(inputs, self.lora_kernel_a), self.lora_kernel_b)
        y = ops.matmul(inputs, self._kernel) + (self.lora_alpha / self.lora_rank) * low_rank
        y = y if self.bias is None else y + self.bias
        return y if self.activation is None else self.activation(y)

    def save_own_variables(self, store):
        if not self.lora_enabled or self.quantization_mode is not None:
            super().save_own_variables(store)
            return
        self.lora_enabled = False  # the kernel as it is
        try:
            super().save_own_variables(store)
        finally:
            self.lora_enabled = True
        for name, variable in zip(_NAMES, self._adapter):
            store[name] = variable

    def load_own_variables(self, store):
        saved = set(store.keys()) & set(_NAMES)
        if saved and not self.lora_enabled:
            rank = store[_NAMES[0]].shape[-1]
            raise ValueError(
                f"The file has adapters, and this layer has none: {self.path!r}. Call "
                f"enable_lora(rank={rank}) on the model before loading"
            )
        if not self.lora_enabled:
            super().load_own_variables(store)
            return
        a, b = self._adapter
        drawn = ops.convert_to_numpy(a)
        super().load_own_variables({key: store[key] for key in store.keys() if key not in saved})
        # A file without adapters is that of the model below them: they start anew, B = 0.
        a.assign(np.asarray(store[_NAMES[0]]) if saved else drawn)
        b.assign(np.asarray(store[_NAMES[1]]) if saved else np.zeros(b.shape))

    @property
    def _adapter(self):
        return self.lora_kernel_a, self.lora_kernel_b
