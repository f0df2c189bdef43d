"""Looks at how an autoencoder uses its latents while it is trained, and warns where it does not."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_diffusion.models.data_watcher import DataWatcher

_COLLAPSED = 0.01  # nats per number: the mean says less than a hundredth of a nat of the picture


class BottleneckUse(keras.metrics.Metric):
    """Divergence of each latent channel, and how often each code was taken, since the last reset.

    Args:
        channels: number of latent channels.
        num_codes: number of codes, or None.

    Attributes:
        divergence: sums over pictures and positions `(channels,)`, nats.
        count: number of latent vectors.
        uses: of each code `(num_codes,)`; None without codes.
    """

    def __init__(self, channels, num_codes=None, name="bottleneck_use"):
        super().__init__(name=name, dtype="float32")
        self.channels, self.num_codes = channels, num_codes
        self.divergence = self.add_variable((channels,), initializer="zeros", name="divergence")
        self.count = self.add_variable((), initializer="zeros", name="count")
        self.uses = None
        if num_codes is not None:
            self.uses = self.add_variable((num_codes,), initializer="zeros", name="uses")

    def update_state(self, per_number=None, codes=None):
        """Adds a batch; for use inside a step.

        Args:
            per_number: divergence of each latent number `(B, h, w, channels)`, or None.
            codes: integers `(B, h, w)`, or None.
        """
        if per_number is not None:
            rows = ops.reshape(ops.stop_gradient(per_number), (-1, self.channels))
            self.divergence.assign_add(ops.sum(rows, axis=0))
            self.count.assign_add(ops.cast(ops.shape(rows)[0], "float32"))
        if codes is not None:
            flat = ops.reshape(codes, (-1,))
            found = ops.segment_sum(ops.ones_like(flat, dtype="float32"), flat, num_segments=self.num_codes)
            self.uses.assign_add(found)

    def result(self):
        if self.uses is None:
            return {}  # nothing for the logs
        return {"codes_used": ops.mean(ops.cast(self.uses.value > 0, "float32"))}


class AutoencoderWatcher(DataWatcher):
    """A `DataWatcher` that also warns, once of each, of latent channels that say nothing.

    Args:
        model: `AutoencoderModel`.
    """

    def __init__(self, model):
        super().__init__(model)
        self._named = set()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        collapsed = [channel for channel in self.collapsed_channels() if channel not in self._named]
        self._named.update(collapsed)
        if collapsed:
            self._warn(collapsed)

    def collapsed_channels(self):
        """Latent channels whose divergence is about 0, a list of their numbers; empty where latents are codes."""
        use = self._model._bottleneck_use
        count = float(self.value(use.count))
        if count == 0:
            return []
        per_number = np.array(self.value(use.divergence)) / count
        return np.flatnonzero(per_number < _COLLAPSED).tolist()

    def _warn(self, collapsed):
        channels = self._model.autoencoder.latent_channels
        which = ", ".join(map(str, collapsed))
        warnings.warn(
            f"Posterior collapse: {len(collapsed)} of {channels} latent channels carry nothing of the pictures "
            f"(channel {which}; counted from 0): their divergence is below {_COLLAPSED} nats per number. Lower "
            f"`kl_weight`, now {self._model.kl_weight:g}, or take fewer latent channels.",
            stacklevel=2,
        )
