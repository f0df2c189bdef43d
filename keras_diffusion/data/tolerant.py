"""Pictures that cannot be read: left out, counted and listed, instead of ending a training of days.

In the place of a broken sample stands the next one that can be read, so that batches keep their size, a run that
resumes sees the same samples, and nothing is ever replaced by a black picture.
"""

import warnings

from keras_diffusion.configs.checks import clip
from keras_diffusion.data.sources import Derived, collate, drawn_sample


class Tolerant(Derived):
    """The samples of `source`; the next that can be read stands in for one that cannot.

    Args:
        source: a `Source` whose samples raise ValueError or OSError if they cannot be read.

    Attributes:
        skipped: dict from the number of a sample that was found broken to the error, a str. Worker processes
            (`use_multiprocessing`) have lists of their own.
    """

    def __init__(self, source):
        super().__init__(source)
        self.skipped = {}

    def __getitem__(self, index):
        return self._first(index, self._whole)

    def drawn(self, indices, draws):
        self.prefetch(indices)
        rows = zip(indices, draws, strict=True)
        return collate([self._first(i, lambda n, own=own: self._whole(n, own)) for i, own in rows], indices)

    def size_of(self, index):
        return self._first(index, self.source.size_of)

    def _first(self, index, read):
        """What `read` gives for the first number from `index` on for which it gives anything."""
        for number in self._stand_ins(int(index)):
            if number not in self.skipped:
                try:
                    return read(number)
                except (ValueError, OSError) as error:
                    self._skip(number, error)
        raise ValueError(f"No sample of {self.source!r} can be read. The first: {self.skipped[int(index)]}")

    def _stand_ins(self, index):
        if hasattr(self.source, "stand_ins"):  # a stream goes on without end
            return self.source.stand_ins(index)
        return ((index + step) % len(self) for step in range(len(self)))

    def texts(self, indices):
        return None  # beside the picture, in the sample: both must be those of the same one

    def check_all(self):
        """Reads every sample once, so that `skipped` is complete."""
        for index in range(len(self)):
            self[index]

    def _whole(self, number, draws=None):
        sample = self.source[number] if draws is None else drawn_sample(self.source, number, draws)
        texts = self.source.texts([number])
        return sample if texts is None else {**sample, "captions": texts[0]}

    def _skip(self, number, error):
        self.skipped[number] = clip(str(error))
        if len(self.skipped) == 1:
            warnings.warn(
                f"A sample cannot be read and is left out: {clip(str(error))} The next one stands in for it, and for "
                "others like it without a word: `skipped` of the batches lists them all.",
                stacklevel=2,
            )
