"""Streams: samples that come one after another, such as a data set read over the network, as batches for `fit`.

    stream      a b c d e f …             whatever has `__iter__` and gives the same samples each time it is asked
    buffer      filled with the first M; each further sample takes the place of a drawn one, which goes out
    numbers     0 1 2 …                   of what goes out, pass after pass

The draws of pass p come from Philox under (seed, p). So batch k of epoch e is a function of (seed, e, k) as long as the
stream repeats itself: training resumes exactly, also with another number of processes, each of which reads all samples
and decodes its own. What it costs: to start at batch k, the k·B samples before it are read again, though not decoded.
"""

import collections
import itertools
import threading

import numpy as np

from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.core.noise import philox
from keras_diffusion.data.batches import Batches
from keras_diffusion.data.records import RecordReader, find_columns, sample_record
from keras_diffusion.data.sources import Source

_WITHOUT_END = 1_000  # samples in a row that may be broken
_CAPTIONS = 10_000  # samples whose captions make a vocabulary
FIRST = -1  # the number by which the first sample of the stream is read, whatever the order


class StreamSource(Source):
    """The samples of a stream by number, cheap only in rising order: others mean reading from the start again.

    Args:
        stream: object with `__iter__`, which gives the same samples each time: dicts with "image" or "images" (an
            array, a PIL image or the bytes of a file), perhaps "label" and "text" or "caption"; or arrays; or pairs
            (image, label). A method `set_epoch`, if it has one, is told the number of each pass.
        keys: names of the image, the label and the caption in a sample, as for `HuggingFaceSource`.
        channels, background: as for `ImageFolder`, for encoded pictures.
        length: number of samples. Default None: unknown, and counted by reading the stream when it is needed.

    Raises:
        ValueError: an iterator, which can be read only once; no such key.
    """

    def __init__(self, stream, keys=("image", "label", None), channels=3, background="white", length=None):
        if not is_stream(stream):
            raise ValueError(
                "A stream can be read again: an object whose __iter__ begins anew each time. Received: "
                f"{shown(stream)} of type {type(stream).__name__}. Pass what makes the iterator; or the iterator "
                "itself, of batches, to fit()"
            )
        self.stream, self._length, self._first = stream, length, None
        self._lock, self._window = threading.RLock(), collections.OrderedDict()
        self.set_order(seed=0, buffer=0, window=1)
        columns = find_columns(self._raw(FIRST), keys, "the stream")
        self._reader = RecordReader(columns, channels, background)
        names = getattr((getattr(stream, "features", None) or {}).get(columns.label), "names", None)
        self.class_names, self.num_classes = names, names and len(names)

    def set_order(self, seed, buffer, window):
        """Begins anew, in an order of its own for each pass.

        Args:
            seed: int ≥ 0.
            buffer: samples that are drawn from, int; up to 1 for the stream's own order.
            window: how many samples that were read can be read again without starting over, int ≥ 1.
        """
        self._seed, self._buffer, self._most = seed, buffer, window
        self._records, self._pass, self._begin, self._next = None, 0, 0, 0
        self._window.clear()

    def __repr__(self):
        length = "unknown number of" if self._length is None else f"{self._length:,}"
        return f"<{type(self).__name__}: {length} samples of {type(self.stream).__name__}>"

    @property
    def known_length(self):
        """Number of samples, or None as long as they have not been counted."""
        return self._length

    def __len__(self):
        with self._lock:
            if self._length is None:
                self._length = sum(1 for _ in self._records_of(0))
        return self._length

    def __getitem__(self, index):
        record, name = self._raw(int(index)), f"sample {index} of the stream"
        sample = self._reader.sample(record, name)
        if self._reader.columns.caption is not None:
            sample["captions"] = self._reader.texts(record, name)
        return sample

    def texts(self, indices):
        if self._reader.columns.caption is None:
            return None
        return [self._reader.texts(self._raw(int(i)), f"sample {i} of the stream") for i in indices]

    def size_of(self, index):
        raise ValueError(
            "Buckets need the sizes of all pictures before the first batch, which a stream does not tell. Received: "
            f"buckets for {self!r}. Pass image_size without buckets"
        )

    def stand_ins(self, index):
        """Which samples may stand in for one that cannot be read.

        Args:
            index: its number.

        Returns:
            iterable of numbers, its own first.
        """
        return [index] if index == FIRST else range(index, index + _WITHOUT_END)

    def __getstate__(self):
        raise TypeError("A stream cannot be sent to other processes, each of which would read all of it.")

    def _raw(self, number):
        """Record `number`, as it comes."""
        with self._lock:
            if number == FIRST:
                if self._first is None:
                    self._first = sample_record(next(self._records_of(0), None))
                return self._first
            if number not in self._window:
                self._seek(number)
            return self._window[number]

    def _seek(self, number):
        begin = 0 if self._length is None else number // self._length * self._length
        if self._records is None or number < self._next or begin > self._begin:
            self._start(0 if self._length is None else number // self._length, begin)
        while self._next <= number:
            record = next(self._records, None)
            if record is None:
                self._end_pass()
                continue
            self._window[self._next] = sample_record(record)
            if len(self._window) > self._most:
                self._window.popitem(last=False)
            self._next += 1
            if self._next - self._begin == self._length:
                self._end_pass()

    def _start(self, pass_number, begin):
        self._window.clear()
        self._pass, self._begin, self._next = pass_number, begin, begin
        self._records = self._shuffled(pass_number)

    def _end_pass(self):
        length = self._next - self._begin
        if self._length is None:
            self._length = length
        if length < max(self._length, 1):
            raise ValueError(
                f"A stream gives the same samples each time. Received: one that ended after {length} samples, and is "
                f"said to have {self._length}, or had before. Pass what begins anew whenever it is asked"
            )
        self._pass, self._begin = self._pass + 1, self._next
        self._records = self._shuffled(self._pass)

    def _shuffled(self, pass_number):
        if self._buffer <= 1:
            return self._records_of(0)
        return shuffled(self._records_of(pass_number), philox(self._seed, pass_number), self._buffer)

    def _records_of(self, pass_number):
        if hasattr(self.stream, "set_epoch"):  # Hugging Face and torch shuffle by it
            self.stream.set_epoch(pass_number)
        return iter(self.stream)


class StreamBatches(Batches):
    """Batches from a stream, in an order that is a function of (seed, epoch) if the stream repeats itself.

    Resuming reads the samples before again, but does not decode them. Of several processes, each reads all samples.

    Args:
        source: object with `__iter__`, such as a grain `IterDataset`, a `datasets.IterableDataset` or an object of your
            own; see `StreamSource` for its samples.
        batch_size: int ≥ 1.
        seed: int ≥ 0; None draws one.
        shuffle: whether samples are drawn from a buffer. Otherwise they come as the stream gives them.
        shuffle_buffer: number of samples of the buffer. It holds pictures encoded, if the stream gives them so.
        batches_per_epoch: int: the number of batches of an epoch; the next one goes on where it ended. Default: an
            epoch is one pass through the stream, whose samples are counted first, unless their number is known.
        options: as in `Batches`. With `workers` = 2 or more, threads decode batches in advance.

    Raises:
        ValueError: as `Batches`; a stream that cannot be read twice, or ends early; worker processes.

    Example:

    >>> class Squares:
    ...     def __iter__(self):
    ...         for i in range(100):
    ...             yield {"image": np.full((8, 8, 1), i, "uint8"), "text": f"grey {i}"}
    >>> batches = StreamBatches(Squares(), batch_size=10, captions=True, shuffle_buffer=50)
    >>> len(batches), batches[0]["images"].shape
    (10, (10, 8, 8, 1))
    """

    _any = FIRST

    def __init__(self, source, batch_size, seed=0, shuffle=True, shuffle_buffer=1000, **options):
        self.shuffle_buffer = check_whole("shuffle_buffer", shuffle_buffer, 1)
        source = source if isinstance(source, Source) else StreamSource(source)
        super().__init__(source, batch_size, seed, shuffle, **options)
        if self.use_multiprocessing:
            raise ValueError("Worker processes would each read the whole stream. Pass use_multiprocessing=False")
        while not isinstance(source, StreamSource):
            source = source.source
        ahead = max(self.workers, 4) + self.max_queue_size  # batches that threads may read at a time
        self._stream = source
        source.set_order(self.seed, self.shuffle_buffer if self.shuffle else 0, (ahead + 2) * self.batch_size)

    @property
    def num_samples(self):
        """Number of samples of a pass; None as long as it is unknown."""
        return self._stream.known_length

    def all_captions(self):
        """Captions of the first 10,000 samples: enough for a vocabulary, and a stream may have no end in sight.

        Returns:
            list of str; empty without captions.
        """
        if self.captions is not True:
            return super().all_captions()
        number = min(self.num_samples or _CAPTIONS, _CAPTIONS)
        return [text for several in self.source.texts(range(number)) or self._texts_of(number) for text in several]

    def _texts_of(self, number):
        return (self.source[i]["captions"] for i in range(number))

    def to_grain(self, num_threads=2, num_processes=0, epochs=None):
        if num_processes:
            raise ValueError(f"Processes would each read the whole stream. Received: num_processes={num_processes}")
        return super().to_grain(num_threads, num_processes, epochs)

    def _check_length(self):
        if self.batches_per_epoch is None:
            super()._check_length()

    def _indices(self, epoch, index):
        first = index * self.batch_size
        if self.batches_per_epoch is not None:
            return first + epoch * self.batches_per_epoch * self.batch_size + np.arange(self.batch_size)
        begin = epoch * len(self.source) if self.shuffle else 0
        return begin + np.arange(first, min(first + self.batch_size, len(self.source)))


def is_stream(source):
    """Whether `source` can be read from the start again and again, but not by number."""
    plain = isinstance(source, str | bytes | dict) or hasattr(source, "__array__")
    by_number = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    return hasattr(source, "__iter__") and not hasattr(source, "__next__") and not plain and not by_number


def shuffled(records, rng, size):
    """Records in another order, with a buffer.

    Args:
        records: iterator.
        rng: `numpy.random.Generator`.
        size: number of records in the buffer.

    Yields:
        the records, each once.
    """
    buffer = list(itertools.islice(records, size))
    for record in records:
        place = int(rng.integers(size))
        yield buffer[place]
        buffer[place] = record
    for place in rng.permutation(len(buffer)):
        yield buffer[place]
