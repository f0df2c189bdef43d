"""Batches read by grain: by its threads or its processes, from a position that grain's checkpoints keep.

Grain asks for batch g = 0, 1, 2 …, and gets batch g mod n of epoch g div n: the order stays that of `Batches`, a
function of (seed, epoch, index), so that a position is one number.
"""

import sys

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.runtime.optional import import_optional


class EndlessBatches:
    """The batches of all epochs, one after another, as a random-access source of grain.

    Args:
        batches: `data.Batches`.
        epochs: number of epochs from the current one on, or None for no end.
    """

    def __init__(self, batches, epochs):
        self.batches, self.each = batches, len(batches)
        self.place = batches.epoch, batches.start
        self.length = sys.maxsize if epochs is None else max(epochs * self.each - batches.start, 0)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        batches, (epoch, start) = self.batches, self.place
        if self.place == (batches.epoch, batches.start):
            return batches.read(*divmod(epoch * self.each + start + int(index), self.each))
        # `callbacks.Resume` has moved them since: it passes over the batches before `start`, which are not read.
        epoch, place = divmod(batches.epoch * self.each + int(index), self.each)
        return batches[place] if epoch == batches.epoch else batches.read(epoch, place)


def grain_dataset(batches, num_threads, num_processes, epochs):
    """See `Batches.to_grain`."""
    grain = import_optional("grain", extra="data", purpose="Batches.to_grain")
    num_threads = check_whole("num_threads", num_threads, 0)
    num_processes = check_whole("num_processes", num_processes, 0)
    source = EndlessBatches(batches, check_whole("epochs", epochs, 1, optional=True))
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    dataset = grain.MapDataset.source(source).to_iter_dataset(options)
    if num_processes == 0:
        return dataset
    flags = import_optional("absl.flags", extra="data", purpose="the processes of grain")
    if not flags.FLAGS.is_parsed():  # grain asks for flags, which only programs of absl parse
        flags.FLAGS.mark_as_parsed()
    return dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_processes))
