"""Batches that know where they are: their content is a function of (seed, epoch, index) and of nothing else.

Epoch e visits the samples in the order of a permutation drawn from NumPy's Philox generator under the key (seed, e). No
generator state is carried along, so the data position of a run is one integer, `epoch`: put it back and training goes
on with exactly the batches it would have seen. Worker threads and prefetching cannot change what a batch holds either.

Keras tells a data set when an epoch ends, but also calls `on_epoch_end` once when `fit` or `evaluate` starts, may read
a first batch to build the model, and may leave an epoch half-way. `Batches` therefore counts an epoch only if it was
begun and its last batch handed out. Passing `fit(steps_per_epoch=...)` makes Keras's epochs shorter than a pass, and
the place within the pass is then not part of `epoch`: use `batches_per_epoch` instead.
"""

import keras
import numpy as np

from keras_diffusion.configs.checks import arguments_of, check_flag, check_known, check_number, check_whole, shown
from keras_diffusion.core.noise import check_seed, philox
from keras_diffusion.data.sources import as_source
from keras_diffusion.data.values import standardize_images, standardize_labels

WORKERS = ("workers", "use_multiprocessing", "max_queue_size")  # arguments of keras.utils.PyDataset


class Batches(keras.utils.PyDataset):
    """Dict batches from a random-access source, in an order that is a function of (seed, epoch).

    Args:
        source: array `(n, ...)`, dict of arrays, or object with `__len__` and `__getitem__` whose samples are dicts
            with "images" (or "image"), perhaps "labels" (or "label"), "context", "concat" …
        batch_size: int ≥ 1.
        seed: int ≥ 0; None draws one.
        shuffle: whether each epoch has its own order; else the source's order.
        drop_remainder: whether the last, smaller batch of an epoch is left out. On JAX another batch size compiles
            again.
        horizontal_flip: whether each image `(H, W, C)` is mirrored left to right with probability 1/2, and "concat"
            with it.
        augment: function `(images, rng) -> images` on float32 images `(B, H, W, C)` with a NumPy generator that belongs
            to this batch. It has to keep the shape and draw from `rng` only.
        num_classes: labels must lie below it. Default: what the source says.
        value_range: float images must lie in it; None for data that are no pictures.
        batches_per_epoch: int: an epoch has this many batches, from a stream of one permutation after the other; for
            data sets so large that a whole pass is too long between two evaluations. Default: an epoch is one pass.
        workers, use_multiprocessing, max_queue_size: as in `keras.utils.PyDataset`.

    Attributes:
        epoch: number of the current epoch, int; set it to resume. `fit` moves it on at the end of each epoch.
        start: number of batches of the current epoch that lie behind already, int; set it after `epoch` to resume
            within one. They are not read any more: in their place the next one is handed out, for readers that count
            through (`fit` after `DiffusionModel.skip_steps`). 0 in the epochs that follow.
        num_classes: number of classes, or None.
        class_names: list of names, or None.
        image_shape: shape of one image, `(H, W, C)`.
        source: the `Source` read from.
        rows: which rows of each batch are read, ints, or None for all: several processes share batches, see
            `distribution.share`. What is drawn at random (flips, augmentation) is that of the whole batch all the same.

    Returns (of indexing):
        dict of "images", float32 `(B, ...)` in [−1, 1], "labels", int32 `(B,)`, if there are any, and the source's
        other keys.

    Raises:
        ValueError: bad options, NaN or values out of range, labels out of range.

    Example:

    >>> batches = Batches({"images": images, "labels": labels}, batch_size=32, seed=0)
    >>> model.fit(batches, epochs=2)
    >>> batches.epoch
    2
    """

    #: `DiffusionModel.fit` then passes shuffle=False: Keras would reorder the batches with an unseeded generator.
    shuffles_itself = True

    def __init__(
        self,
        source,
        batch_size,
        seed=0,
        shuffle=True,
        drop_remainder=True,
        horizontal_flip=False,
        augment=None,
        num_classes=None,
        value_range=(-1.0, 1.0),
        batches_per_epoch=None,
        **kwargs,
    ):
        _check_workers(kwargs)
        super().__init__(**kwargs)
        num_classes = check_whole("num_classes", num_classes, 1, optional=True)
        value_range = _checked_range(value_range)
        self.source = as_source(source, num_classes, value_range)
        self.batch_size = _positive_int(batch_size, "batch_size")
        self.seed = check_seed(seed)
        self.shuffle = check_flag("shuffle", shuffle)
        self.drop_remainder = check_flag("drop_remainder", drop_remainder)
        self.horizontal_flip = check_flag("horizontal_flip", horizontal_flip)
        self.augment = augment
        self.num_classes = num_classes if num_classes is not None else self.source.num_classes
        self.class_names = self.source.class_names
        self.value_range = value_range
        self.batches_per_epoch = (
            None if batches_per_epoch is None else _positive_int(batches_per_epoch, "batches_per_epoch")
        )
        if len(self.source) == 0:
            raise ValueError("A data source must hold at least one sample. Received: an empty source.")
        if drop_remainder and self.batch_size > len(self.source):
            raise ValueError(
                f"With drop_remainder=True, batch_size must not exceed the number of samples, {len(self.source)}: "
                f"there would be no batch. "
                f"Received: batch_size={batch_size}. Lower it or pass drop_remainder=False."
            )
        if augment is not None and not callable(augment):
            raise ValueError(f"augment must be a function (images, rng) -> images. Received: augment={shown(augment)}")
        self._order = (
            None,
            None,
        )  # (pass number, order of the samples); one tuple, so that threads always see a matching pair
        self._image_shape = None
        self.rows = None
        self.epoch = 0

    @property
    def epoch(self):
        return self._epoch

    @epoch.setter
    def epoch(self, value):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ValueError(f"epoch must be an integer ≥ 0. Received: epoch={value!r}")
        self._epoch = int(value)
        self._start, self._stand_in = 0, None
        self._begun = self._last_batch_seen = False

    @property
    def start(self):
        return self._start

    @start.setter
    def start(self, value):
        rule = f"start counts batches of an epoch and must be an integer from 0 to {len(self)}"
        self._start, self._stand_in = check_whole("start", value, 0, len(self), rule=rule), None

    @property
    def image_shape(self):
        if self._image_shape is None:
            self._image_shape = tuple(self.source.batch(np.array([0]))["images"].shape[1:])
        return self._image_shape

    def __len__(self):
        if self.batches_per_epoch is not None:
            return self.batches_per_epoch
        full, rest = divmod(len(self.source), self.batch_size)
        return full if self.drop_remainder or rest == 0 else full + 1

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"Batch index must lie in [0, {len(self)}). Received: index={index}")
        if index >= self._start:
            batch = self._read(index)
        else:
            batch = self._stand_in or self._read(min(self._start, len(self) - 1))
            self._stand_in = batch
        if index == len(self) - 1:
            self._last_batch_seen = True
        return batch

    def _read(self, index):
        epoch = self._epoch
        indices = self._indices(epoch, index)
        # An augmentation is a function of the whole batch: then all of it is read.
        early, late = (self.rows, None) if self.augment is None else (None, self.rows)
        size, indices = len(indices), indices if early is None else indices[early]
        batch = dict(self.source.batch(indices))
        if "images" not in batch:
            raise ValueError(f"A data source must give images under the key 'images'. Received keys: {sorted(batch)}")
        images = np.asarray(batch["images"])
        images = standardize_images(images, indices, self.value_range if images.ndim > 2 else None)
        # The counter's upper words set these draws apart from each other and from the permutation, which starts at
        # counter 0.
        rng = philox(self.seed, epoch, counter=(0, 0, 1, index))
        if self.horizontal_flip:
            flips = rng.random(size) < 0.5
            flips = flips if early is None else flips[early]
            images = _mirrored(images, flips)
            if "concat" in batch:
                batch["concat"] = _mirrored(np.asarray(batch["concat"]), flips)
        if self.augment is not None:
            if "concat" in batch:
                raise ValueError(
                    "augment changes images alone, and the known channels beside them, “concat”, would no longer fit. "
                    "Received: "
                    f"augment={self.augment!r} for samples with the keys {sorted(batch)}. Let the source augment both"
                )
            shape = images.shape
            images = np.asarray(self.augment(images, rng), dtype="float32")
            if images.shape != shape:
                raise ValueError(f"augment must keep the shape of the batch. Received: {shape} in, {images.shape} out.")
        batch["images"] = images
        if "concat" in batch:
            batch["concat"] = _standardize_concat(batch["concat"], indices)
        if "labels" in batch:
            batch["labels"] = standardize_labels(batch["labels"], indices, self.num_classes)
        return batch if late is None else {key: value[late] for key, value in batch.items()}

    def on_epoch_begin(self):
        self._begun = True

    def on_epoch_end(self):
        # Worker processes have copies of this object: what they handed out is not seen here.
        complete = self._last_batch_seen or (self.use_multiprocessing and self.workers > 0)
        if self._begun and complete:
            self.epoch = self._epoch + 1
        elif not self._begun:
            self._last_batch_seen = False  # the call at the start of fit: forget batches read to learn their shapes
        self._begun = False

    def _indices(self, epoch, index):
        """Numbers of the samples in batch `index` of `epoch`."""
        n = len(self.source)
        if self.batches_per_epoch is None:
            return self._pass_order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        first = (epoch * self.batches_per_epoch + index) * self.batch_size
        passes, offsets = np.divmod(first + np.arange(self.batch_size), n)
        # A batch may lie across the border of two passes, or hold several passes of a small data set.
        return np.concatenate([self._pass_order(int(p))[offsets[passes == p]] for p in np.unique(passes)])

    def _pass_order(self, number):
        number = number if self.shuffle else 0
        cached, order = self._order
        if cached != number:
            n = len(self.source)
            order = philox(self.seed, number).permutation(n) if self.shuffle else np.arange(n)
            self._order = (number, order)
        return order


def _mirrored(images, flips):
    """Images `(B, H, W, C)`, mirrored left to right where `flips` `(B,)` says so."""
    if images.ndim != 4:
        raise ValueError(
            f"horizontal_flip=True needs images (batch, height, width, channels). Received: shape={images.shape}"
        )
    return np.where(flips[:, None, None, None], images[:, :, ::-1], images)


def _standardize_concat(concat, indices):
    """Known channels as float32: uint8 scaled as images are, floats of any range."""
    try:
        return standardize_images(np.asarray(concat), indices, None)
    except ValueError as error:
        raise ValueError(f"Known channels, “concat”, are as images are. {error}") from error


def _positive_int(value, name):
    return check_whole(name, value, 1, rule=f"{name} must be an integer ≥ 1")


def _check_workers(options):
    """Checks what `keras.utils.PyDataset` takes."""
    check_known("Batches", options, WORKERS, arguments_of(Batches))
    check_whole("workers", options.get("workers", 1), 0)
    check_whole("max_queue_size", options.get("max_queue_size", 10), 1)
    check_flag("use_multiprocessing", options.get("use_multiprocessing", False))


def _checked_range(value_range):
    """`value_range` as a pair of floats, or None."""
    if value_range is None:
        return None
    rule = "value_range is (lowest, highest) of float images, or None"
    if not isinstance(value_range, (tuple, list)) or len(value_range) != 2:
        raise ValueError(f"{rule}. Received: value_range={shown(value_range)}")
    low, high = (check_number("value_range", bound, rule=rule) for bound in value_range)
    if not low < high:
        raise ValueError(f"{rule}. Received: value_range={shown(value_range)}")
    return low, high
