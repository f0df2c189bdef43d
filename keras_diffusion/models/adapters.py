"""Low-rank adapters of a diffusion model: in its network, and in the average of it alike.

Training then moves the adapters alone, and the average follows these. The frozen weights stay what they are: the
network's, and the average's.
"""

from keras_diffusion.lora.network import LoRAMixin
from keras_diffusion.models.guidance_argument import read_guidance
from keras_diffusion.models.keeping import reads_weights


class AdaptingMixin:
    """`enable_lora`, `merge_lora`, `remove_lora` for a model with `network` and `average`.

    Goes before `keras.Model` in the bases.
    """

    @reads_weights
    def enable_lora(self, rank, alpha=None, target="attention"):
        """Adds low-rank adapters to the network and freezes all its other weights, so that `fit` trains the adapters
        alone.

        What the model makes does not change at first. A compiled model is compiled anew, with an optimizer of the same
        config. Where training was short and fast, network and average may lie far apart: adapters trained on the one
        then suit the other less. `model.network.set_weights(model.average.network.get_weights())` beforehand trains
        them on the average.

        Args:
            rank: r ≥ 1 of the adapters; from 4 to 64 is usual.
            alpha: α: what an adapter adds is scaled by α/r. None (default) takes the rank: a factor of 1.
            target: "attention" (default): queries, keys, values and outputs of every attention; "dense": every dense
                layer; or a list of names of dense layers, `["to_q", "to_v"]`.

        Raises:
            ValueError: a rank that is no integer ≥ 1, an alpha that is not > 0, a network that has adapters or that is
                not of this library, no layer of the target.

        Example:

        >>> model.enable_lora(8)
        >>> model.compile(keras.optimizers.Adam(1e-3))
        >>> model.fit(images, epochs=10)
        >>> keras_diffusion.checkpoints.save_lora(model, "style.safetensors")

        Reference: Hu et al., "LoRA: low-rank adaptation of large language models", arXiv:2106.09685.
        """
        network = self._adaptable()
        self._settle_average()
        network.enable_lora(rank, alpha, target)
        self._after_adapters()

    def add_adapters(self, table):
        """`enable_lora` with a rank and an alpha for each layer.

        Args:
            table: dict from paths of dense layers in the network to (rank, alpha), as `model.network.adapters` gives
                it.

        Raises:
            ValueError: as `enable_lora`; a path that is none of a dense layer.
        """
        network = self._adaptable()
        self._settle_average()
        network.add_adapters(table)
        self._after_adapters()

    @reads_weights
    def merge_lora(self):
        """Adds what the adapters learned to the kernels and removes them: what the model makes stays, up to rounding.

        Raises:
            ValueError: a model without adapters.
        """
        self._adaptable().merge_lora()
        if self.average is not None:
            self.average.network.merge_lora()
        self._weights_changed()

    def remove_lora(self):
        """Removes the adapters: the model is what it was before `enable_lora`.

        Raises:
            ValueError: a model without adapters.
        """
        self._adaptable().remove_lora()
        if self.average is not None:
            self.average.network.remove_lora()
        self._weights_changed()

    def _adaptable(self):
        if not isinstance(self.network, LoRAMixin):
            raise ValueError(
                f"Adapters are for the networks of this library, whose configs remember them. Received: a "
                f"{type(self.network).__name__}"
            )
        return self.network

    def _after_adapters(self):
        if self.average is not None:
            self.average.take_adapters_of(self.network)
        self._weights_changed()

    def _weights_changed(self):
        """Forgets what was compiled with the old weights in it, and the optimizer's state of them."""
        self._guided_generators.clear()
        self._generator = self._guided_generator(read_guidance(None, 1.0))
        self._likelihood_programs.clear()
        self.train_function = self.test_function = self.predict_function = None
        if self.compiled:
            jit_compile = self.jit_compile
            self.compile_from_config(self.get_compile_config())
            self.jit_compile = jit_compile
