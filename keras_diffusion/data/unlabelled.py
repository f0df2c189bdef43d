"""Labelled data for a network without classes."""

from keras_diffusion.data.sources import Derived


class Unlabelled(Derived):
    """The samples of `source`, without their labels."""

    def __init__(self, source):
        super().__init__(source)
        self.num_classes = self.class_names = self.labels = None

    def batch(self, indices):
        return {key: value for key, value in self.source.batch(indices).items() if key != "labels"}

    def drawn(self, indices, draws):
        return {key: value for key, value in self.source.drawn(indices, draws).items() if key != "labels"}


def without_labels(batches):
    """Labelled batches for a network without classes: the labels are not read.

    Args:
        batches: `data.Batches`, which is changed, or None.

    Returns:
        `batches`.
    """
    if batches is not None and not isinstance(batches.source, Unlabelled):
        batches.source = Unlabelled(batches.source)
    return batches
