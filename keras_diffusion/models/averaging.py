"""Which weights a model is sampled with, and what the average of the weights does when the network is given others.

count 0, as it was made      the average is unused: the network's own weights are what "ema" means, whatever they have become
updated by training          the average counts, until `restart_average`
given weights of its own     the average counts
"""

from keras_diffusion.runtime.devices import several_processes


class AveragingMixin:
    """`restart_average`, for a model with `network` and `average`. Goes before `keras.Model` in the bases."""

    def restart_average(self):
        """Sets the average of the weights to the network's present weights; its warm-up begins anew.

        Call it after putting weights into `model.network` (`load_weights`, `set_weights`, `assign`) of a model that has
        been trained: `generate` and `save_to_preset` would otherwise go on with the average of the old ones. A model
            that has not been trained yet
        needs no call: until the first training step, its average is whatever the network holds.

        Raises:
            ValueError: a model without an average.

        Example:

        >>> model.network.load_weights("pretrained.weights.h5")
        >>> model.restart_average()
        >>> images = model.generate(4)
        """
        if self.average is None:
            raise ValueError(
                "This model keeps no average of its weights. Received: ema=None. Make the model with ema=0.999, for "
                "example"
            )
        self.average.restart(self.network)

    def load_weights(self, filepath, *args, **kwargs):
        super().load_weights(filepath, *args, **kwargs)
        if self.average is not None:
            self.average.loaded(self.network)

    def save_own_variables(self, store):
        self._settle_average()
        super().save_own_variables(store)

    def averaged_network(self):
        """The network whose weights "ema" stands for: the average's, or `network` where there is none or nothing has
        been averaged yet.
        """
        return self.network if self.average is None or self.average.is_unused() else self.average.network

    def _settle_average(self):
        """Before training, saving and adapters: an average that nothing has used yet starts at the network's present
        weights.
        """
        if self.average is not None and not several_processes():
            self.average.follow(self.network)
