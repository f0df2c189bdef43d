"""Random-access sources: n samples, each read by its number.

With random access, shuffling, exact resumption and held-out parts are index arithmetic. Anything with `__len__` and
`__getitem__` is a source; a sample is a dict with "images" (or "image"), perhaps "labels" (or "label") and further
conditions such as "context", or a plain array, or a pair (image, label). `as_source` converts them all to a `Source`.
"""

import numpy as np

from keras_diffusion.configs.checks import check_number, shown
from keras_diffusion.data.captions import TEXT_KEYS, as_texts, check_captions
from keras_diffusion.data.values import check_images, standardize_labels

#: Where a sample of latents has those of the mirrored picture.
MIRRORED = "mirrored"

_SPELLINGS = {"image": "images", "label": "labels", "caption": "captions"}


class Source:
    """n samples, read by number.

    A subclass defines `__len__` and `__getitem__`; it may override `batch` to read many samples faster than one by one.

    Attributes:
        num_classes: number of classes, or None.
        class_names: list of names, or None.
        labels: all labels `(n,)`, if they are known without reading the samples, or None.
        captions: for each sample a text, or a tuple of several, in a list; None if there are none, or if reading them
            means reading the samples.
        num_draws: how many random numbers reading a sample takes, see `drawn`. Default 0.
        groups: for each sample the number of its bucket, ints `(n,)`: a batch holds samples of one. Default None.
        shapes: (height, width) of each bucket, a list, or None.
        bucket_counts: dict from those in use to the number of their samples, or None.
        sample_key: under which samples hold what is learned: "images", or of latents "moments" or "latents".
        latents: `LatentManifest` of a source of latents, or None.
    """

    num_classes = None
    class_names = None
    labels = None
    captions = None
    num_draws = 0
    groups = shapes = bucket_counts = None
    sample_key = "images"
    latents = None

    def __len__(self):
        raise NotImplementedError

    def __getitem__(self, index):
        """Sample `index` as a dict of arrays without a batch axis."""
        raise NotImplementedError

    def __repr__(self):
        classes = f" of {self.num_classes} classes" if self.num_classes else ""
        return f"<{type(self).__name__}: {len(self):,} samples{classes}>"

    def batch(self, indices):
        """Reads several samples.

        Args:
            indices: numbers of the samples, ints `(B,)` in [0, n).

        Returns:
            dict of arrays `(B, ...)`, with "images".

        Raises:
            ValueError: samples with different keys or shapes.
        """
        self.prefetch(indices)
        return collate([self[int(i)] for i in indices], indices)

    def prefetch(self, indices):
        """Begins to read several samples, which are then asked for one by one; for sources that wait for a network.

        Args:
            indices: numbers of the samples, ints `(B,)` in [0, n).
        """

    def drawn(self, indices, draws):
        """Reads several samples that depend on chance, such as crops.

        Args:
            indices: numbers of the samples, ints `(B,)` in [0, n).
            draws: random numbers in [0, 1), `(B, num_draws)`.

        Returns:
            as `batch`.

        Raises:
            ValueError: as `batch`.
        """
        return self.batch(indices)

    def size_of(self, index):
        """The size of a picture, which is decoded for it unless a subclass knows better.

        Args:
            index: number of the sample.

        Returns:
            (height, width).

        Raises:
            ValueError: a sample that cannot be read, or is no picture `(H, W, C)`.
        """
        shape = np.shape(self[index]["images"])
        if len(shape) != 3:
            raise ValueError(f"Only pictures (height, width, channels) have a size. Received: shape={shape}")
        return shape[:2]

    def texts(self, indices):
        """Reads the captions of several samples.

        Args:
            indices: numbers of the samples, ints `(B,)` in [0, n).

        Returns:
            list of B tuples of texts, or None without captions. A source whose samples hold them under "captions", as
            tuples of texts, needs no such method.

        Raises:
            ValueError: a caption that cannot be read, or is no text.
        """
        return None if self.captions is None else [as_texts(self.captions[int(i)]) for i in indices]


class ArraySource(Source):
    """Arrays that share their first axis.

    Args:
        arrays: an array `(n, ...)` of images, or a dict with "images", perhaps "labels" and further conditions, each
            `(n, ...)`, and "captions": n texts or lists of texts.
        num_classes: number of classes. Default: the greatest label plus one.
        value_range: allowed range of float images, or None. Vectors `(n, features)` have no natural range and are only
            checked for NaN.

    Raises:
        ValueError: arrays of different lengths, no images, no samples, NaN, images or labels out of range.
    """

    def __init__(self, arrays, num_classes=None, value_range=(-1.0, 1.0)):
        arrays = dict(arrays) if isinstance(arrays, dict) else {"images": arrays}
        captions = next((arrays.pop(key) for key in ("captions", "caption") if arrays.get(key) is not None), None)
        # np.asarray would read a memory-mapped file into memory.
        arrays = {_SPELLINGS.get(k, k): _as_array(k, v) for k, v in arrays.items() if v is not None}
        if "images" not in arrays:
            raise ValueError(f"A dict of arrays needs the key 'images'. Received keys: {sorted(arrays)}")
        lengths = {k: len(v) if v.ndim else None for k, v in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"Arrays of one data set must have the same number of samples. Received lengths: {lengths}"
            )
        images = arrays["images"]
        if images.ndim < 2 or images.size == 0:
            raise ValueError(
                f"Images must be an array (samples, ...) with at least one sample. Received: shape={images.shape}"
            )
        if not isinstance(images, np.memmap):  # a mapped file is checked batch by batch, as it is read
            check_images(images, value_range if images.ndim > 2 else None)
        if "labels" in arrays:
            arrays["labels"] = standardize_labels(arrays["labels"], range(len(images)), num_classes)
            self.labels = arrays["labels"]
            self.num_classes = num_classes or int(self.labels.max()) + 1
        if captions is not None:
            self.captions = check_captions(captions, len(images))
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays["images"])

    def __getitem__(self, index):
        return {key: value[index] for key, value in self.arrays.items()}

    def batch(self, indices):
        return {key: np.asarray(value[indices]) for key, value in self.arrays.items()}


class SampleSource(Source):
    """Any object with `__len__` and `__getitem__`, its samples converted to dicts.

    Args:
        samples: the object: a grain or torch map-style data set, a list, your own class. Texts of its samples may
            stand under "captions", "caption", "text" or "prompt".
    """

    def __init__(self, samples):
        self.samples = samples
        self.num_classes = getattr(samples, "num_classes", None)
        self.class_names = getattr(samples, "class_names", None)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        if sample is None:
            raise ValueError(
                f"A sample is a dict, a pair (image, label) or an image. Received: None as sample {index}. A grain "
                "data set that leaves samples out is a stream: pass .to_iter_dataset()"
            )
        if isinstance(sample, dict):
            sample = {_SPELLINGS.get(key, key): value for key, value in sample.items()}
        elif isinstance(sample, tuple):
            sample = dict(zip(("images", "labels"), sample, strict=False))
        else:
            sample = {"images": sample}
        if "images" not in sample:
            raise ValueError(
                f"A sample needs the key 'images' or 'image'. Received: sample {index} with keys {sorted(sample)}"
            )
        text = next((key for key in TEXT_KEYS if _is_text(sample.get(key))), None)
        if text is not None and "captions" not in sample:
            sample["captions"] = sample.pop(text)
        texts = {key: as_texts(sample[key], f"caption of sample {index}") for key in ("captions",) if key in sample}
        return {key: np.asarray(value) for key, value in sample.items()} | texts


def _is_text(value):
    several = value if isinstance(value, list | tuple) else [value]
    return len(several) > 0 and all(isinstance(text, str) for text in several)


class Derived(Source):
    """A source made from another one, with its length, classes, labels and captions."""

    def __init__(self, source):
        self.source = source
        self.num_classes, self.class_names = source.num_classes, source.class_names
        self.labels = source.labels
        self.num_draws = source.num_draws
        self.groups, self.shapes, self.bucket_counts = source.groups, source.shapes, source.bucket_counts
        self.sample_key, self.latents = source.sample_key, source.latents

    @property
    def captions(self):
        """Those of the samples here, as in `Source`."""
        return self.source.captions

    def __len__(self):
        return len(self.source)

    def prefetch(self, indices):
        self.source.prefetch(indices)

    def texts(self, indices):
        return self.source.texts(indices)

    def size_of(self, index):
        return self.source.size_of(index)


class Subset(Derived):
    """Some samples of a source, in a given order.

    Args:
        source: `Source`.
        indices: numbers of the samples, ints `(m,)` in [0, n).
    """

    def __init__(self, source, indices):
        super().__init__(source)
        self.indices = np.asarray(indices)
        self.groups = self.shapes = self.bucket_counts = None
        self.labels = None if source.labels is None else source.labels[self.indices]

    @property
    def captions(self):
        """Those of the samples here, as in `Source`."""
        captions = self.source.captions
        return None if captions is None else [captions[i] for i in self.indices]

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        return self.source[int(self.indices[index])]

    def batch(self, indices):
        return self.source.batch(self.indices[indices])

    def prefetch(self, indices):
        self.source.prefetch(self.indices[indices])

    def drawn(self, indices, draws):
        return self.source.drawn(self.indices[indices], draws)

    def size_of(self, index):
        return self.source.size_of(int(self.indices[index]))

    def texts(self, indices):
        return self.source.texts(self.indices[indices])


def _as_array(key, value):
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.asarray(value)
    except Exception as error:  # an object's own conversion may raise anything
        raise ValueError(f"{key!r} must be an array, one row per sample. Received: {shown(value)}: {error}") from error


def as_source(data, num_classes=None, value_range=(-1.0, 1.0)):
    """`data` as a `Source`: arrays, dicts of arrays, or an object with `__len__` and `__getitem__`."""
    if isinstance(data, Source):
        return data
    if isinstance(data, dict) or hasattr(data, "__array__"):
        return ArraySource(data, num_classes, value_range)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (str, bytes)):
        return SampleSource(data)
    raise ValueError(
        "A data source must be an array, a dict of arrays, or an object with __len__ and __getitem__ "
        f"(random access). Received: {shown(data)} of type {type(data).__name__}. Streams, names and paths "
        "go into data.load(); iterators of batches into fit() directly."
    )


def drawn_sample(source, index, draws):
    """One sample of a source whose samples depend on chance.

    Args:
        source: `Source`.
        index: number of the sample.
        draws: random numbers in [0, 1), `(source.num_draws,)`.

    Returns:
        dict of arrays without a batch axis.
    """
    if not source.num_draws:
        return source[index]
    return {key: value[0] for key, value in source.drawn(np.array([index]), draws[None]).items()}


def collate(samples, indices):
    """Stacks samples (dicts of arrays) along a new first axis."""
    batch = {}
    for key in samples[0]:
        if key == "captions":
            batch[key] = [sample[key] for sample in samples]
            continue
        values = [np.asarray(sample[key]) for sample in samples]
        shape = values[0].shape
        other = next((i for i, value in enumerate(values) if value.shape != shape), None)
        if other is not None:
            remedy = " Pass image_size=(height, width) to data.load() to bring them to one size."
            raise ValueError(
                f"Samples of one batch must have one shape. Received: {key!r} of shape {shape} in sample {indices[0]} "
                f"and {values[other].shape} in sample {indices[other]}.{remedy if key == 'images' else ''}"
            )
        batch[key] = np.stack(values)
    return batch


def held_out_indices(n, fraction, labels=None):
    """Splits 0…n−1 into two parts, always in the same way.

    The split depends on no seed, so that held-out data never become training data.

    Args:
        n: number of samples.
        fraction: share of the held-out part, in (0, 1).
        labels: class ids `(n,)`; each class then gives the same share.

    Returns:
        (kept, held_out): two sorted arrays of indices.
    """
    rule = "validation_fraction is a share of the samples, in (0, 1)"
    fraction = check_number("validation_fraction", fraction, above=0, below=1, rule=rule)
    rng = np.random.Generator(np.random.Philox(key=0))
    groups = [np.arange(n)] if labels is None else [np.flatnonzero(labels == c) for c in np.unique(labels)]
    held_out = np.sort(np.concatenate([rng.permutation(g)[: round(fraction * len(g))] for g in groups]))
    if not 0 < len(held_out) < n:
        raise ValueError(
            f"Each part of a split needs a sample. Received: validation_fraction={fraction!r} "
            f"of {n} samples leaves one part empty."
        )
    return np.setdiff1d(np.arange(n), held_out), held_out
