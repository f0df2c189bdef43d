"""Batches whose content is a function of (seed, epoch, index) alone.

Epoch e visits the samples in the order of a permutation drawn from NumPy's Philox generator under the key (seed, e). No
generator has a state, so the data position of a run is one integer, `epoch`: restore it, and training continues with
exactly the batches that it would have seen. Worker threads and prefetching cannot change a batch either.

Keras tells a data set when an epoch ends, but it also calls `on_epoch_end` once when `fit` or `evaluate` starts, may
read a first batch to build the model, and may abandon an epoch half-way. So `Batches` counts an epoch only if it has
begun and its last batch has been read. With `fit(steps_per_epoch=...)`, Keras's epochs are shorter than a pass, and
`epoch` does not say how far the pass has come: use `batches_per_epoch` instead.
"""

import keras
import numpy as np

from keras_diffusion.configs.checks import (
    arguments_of,
    check_flag,
    check_known,
    check_number,
    check_whole,
    parameters_of,
    shown,
)
from keras_diffusion.core.noise import check_seed, philox
from keras_diffusion.data.augmentation import as_augmentation, augmented
from keras_diffusion.data.buckets import batches_of_epoch, batches_of_pass, number_of_batches, unlike_first
from keras_diffusion.data.captions import check_template, draw_captions, from_template
from keras_diffusion.data.grain_engine import grain_dataset
from keras_diffusion.data.sources import MIRRORED, as_source
from keras_diffusion.data.values import standardize_images, standardize_labels

WORKERS = ("workers", "use_multiprocessing", "max_queue_size")  # arguments of keras.utils.PyDataset


class Batches(keras.utils.PyDataset):
    """Batches, as dicts, from a random-access source, in an order that is a function of (seed, epoch).

    Args:
        source: array `(n, ...)`, dict of arrays, or object with `__len__` and `__getitem__` whose samples are dicts
            with "images" (or "image"), perhaps "labels" (or "label"), "context", "concat" …
        batch_size: int ≥ 1.
        seed: int ≥ 0; None draws one.
        shuffle: whether each epoch has its own order; otherwise all have the source's.
        drop_remainder: whether the last, smaller batch of an epoch is dropped. On JAX, another batch size compiles
            again.
        horizontal_flip: whether each image `(H, W, C)`, and its "concat", is mirrored left to right with probability
            1/2; of a clip, all frames. Of latents, those of the mirrored picture are taken, if they were packed.
        augment: what changes images: a function `(images, rng) -> images` on float32 `(B, H, W, C)` with this batch's
            own NumPy generator, which must keep the shape and draw from `rng` only; a Keras layer such as
            `keras.layers.RandomRotation(0.05)`; `data.NonLeaking(0.12)`; the name of one or a table with its name and
            options, `{"name": "random_rotation", "factor": 0.05}`; or a list of these. Functions may return
            `(images, vectors)`: float32 `(B, D)` that tell what was done, for networks with `augmentation_dim=D`.
        num_classes: upper bound of the labels, exclusive. Default: the source's.
        value_range: range that float images must lie in; None for data that are not pictures.
        captions: whether batches hold a caption of each sample under "captions": True, the source's; or a template such
            as `"a photo of a {}"`, or a list of them, which the name of the sample's class fills in. Of several, each
            epoch draws one.
        batches_per_epoch: int: the number of batches of an epoch, from a stream of one permutation after another; for
            data sets so large that a whole pass between two evaluations is too long. Default: an epoch is one pass.
        workers, use_multiprocessing, max_queue_size: as in `keras.utils.PyDataset`.

    Attributes:
        epoch: number of the current epoch, int; set it to resume. `fit` advances it at the end of each epoch.
        start: number of batches of the current epoch that are done, int; set it after `epoch` to resume within an
            epoch. They are not read again: readers that request them anyway (`fit` after `DiffusionModel.skip_steps`)
            get another batch instead. 0 in later epochs.
        num_classes: number of classes, or None.
        class_names: list of names, or None.
        image_shape: shape of one image, `(H, W, C)`; `(None, None, C)` where batches have several.
        bucket_counts: dict from the (height, width) of each bucket to the number of its samples, or None.
        remainders: sizes of the batches of an epoch that are smaller than the others, a list.
        source: the `Source` read from.
        latents: what packed latents are and whose (`LatentManifest`), or None for pictures.
        transform: function from a finished batch, a dict, to what is given out in its place, or None. Models set it,
            such as `TextToImage.fit`, which turns captions into tokens.
        rows: the rows of each batch to read, ints, or None for all: several processes share batches, see
            `distribution.share`. Random draws (flips, augmentation) are still those of the whole batch.

    Returns (of indexing):
        dict of "images", float32 `(B, ...)` in [−1, 1] (of packed latents "moments" or "latents" in their place),
        "labels", int32 `(B,)`, if there are any, and the source's other keys; with `captions`, an array of str `(B,)`
        as well; "augmentation" `(B, D)` where `augment` tells what it did.

    Raises:
        ValueError: bad options, captions of a source that has none, NaN or values out of range, labels out of range.

    Example:

    >>> batches = Batches({"images": images, "labels": labels}, batch_size=32, seed=0)
    >>> model.fit(batches, epochs=2)
    >>> batches.epoch
    2
    """

    #: Makes `DiffusionModel.fit` pass shuffle=False: Keras would reorder the batches with an unseeded generator.
    shuffles_itself = True
    _any = 0  # a sample to look at

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
        captions=False,
        **kwargs,
    ):
        _check_workers(kwargs)
        super().__init__(**kwargs)
        num_classes = check_whole("num_classes", num_classes, 1, optional=True)
        self.value_range = _checked_range(value_range)
        self.source = as_source(source, num_classes, self.value_range)
        self.batch_size = _positive_int(batch_size, "batch_size")
        self.seed = check_seed(seed)
        self.shuffle = check_flag("shuffle", shuffle)
        self.drop_remainder = check_flag("drop_remainder", drop_remainder)
        self.horizontal_flip = check_flag("horizontal_flip", horizontal_flip)
        self.augment = augment
        self.num_classes = num_classes if num_classes is not None else self.source.num_classes
        self.class_names = self.source.class_names
        self.batches_per_epoch = _positive_int(batches_per_epoch, "batches_per_epoch", optional=True)
        self._check_length()
        self._check_latents()
        self._augment = as_augmentation(augment)
        if getattr(self._augment, "on_backend", False) and self.use_multiprocessing:
            raise ValueError(
                "Keras's layers run on a backend, which does not survive in worker processes. Received: "
                f"augment={shown(augment)} with use_multiprocessing=True. Leave it out: threads do as well"
            )
        self._buckets = (None, None)  # as `_order`, of the batches of an epoch
        self._order = (None, None)  # (pass number, order): one tuple, so that threads always see a matching pair
        self._image_shape = self.rows = self.transform = None
        self.captions = captions if isinstance(captions, bool) else check_template(captions)
        self._check_captions()
        self.epoch = 0

    @property
    def epoch(self):
        """Number of the current epoch, int; `fit` advances it, and setting it resumes."""
        return self._epoch

    @epoch.setter
    def epoch(self, value):
        self._epoch = check_whole("epoch", value, 0, rule="epoch must be an integer ≥ 0")
        self._start, self._stand_in = 0, {}
        self._begun = self._last_batch_seen = False

    @property
    def start(self):
        """Number of batches of the current epoch that are done, int; set after `epoch` to resume within one."""
        return self._start

    @start.setter
    def start(self, value):
        rule = f"start counts batches of an epoch and must be an integer from 0 to {len(self)}"
        self._start, self._stand_in = check_whole("start", value, 0, len(self), rule=rule), {}

    @property
    def num_samples(self):
        """Number of samples of the source; None for a stream as long as it is unknown."""
        return len(self.source)

    @property
    def latents(self):
        """What packed latents are and whose, a `LatentManifest`; None for pictures."""
        return self.source.latents

    @property
    def image_shape(self):
        """Shape of one image, `(H, W, C)`: that of the first sample; `(None, None, C)` where buckets have several. Of
        packed latents, that of the pictures.
        """
        if self._image_shape is None and self.latents is not None:
            self._image_shape = self.latents.image_shape
        if self._image_shape is None:
            self._image_shape = tuple(self.source.batch(np.array([self._any]))["images"].shape[1:])
            if len(self.bucket_counts or ()) > 1:
                self._image_shape = (None, None, *self._image_shape[2:])
        return self._image_shape

    @property
    def bucket_counts(self):
        """How many samples each bucket holds, a dict from (height, width) to int; None without buckets."""
        return self.source.bucket_counts

    def __repr__(self):
        parameters = [p for name, p in parameters_of(Batches).items() if name not in ("source", "num_classes")]
        given = [f"{p.name}={shown(getattr(self, p.name))}" for p in parameters if getattr(self, p.name) != p.default]
        return f"{type(self).__name__}({self.source!r}, {', '.join(given)})"

    def __len__(self):
        if self.batches_per_epoch is not None:
            return self.batches_per_epoch
        if self.source.groups is not None:
            return self._batches_per_pass()
        full, rest = divmod(len(self.source), self.batch_size)
        return full if self.drop_remainder or rest == 0 else full + 1

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"Batch index must lie in [0, {len(self)}). Received: index={index}")
        self._last_batch_seen = self._last_batch_seen or index == len(self) - 1
        if index >= self._start:
            return self._read(index)
        # What Keras on TensorFlow reads of an epoch that goes on must show the shapes of its buckets.
        other = min(self._start, len(self) - 1) if self.source.groups is None else min(index, 1)
        self._stand_in = self._stand_in if other in self._stand_in else {**self._stand_in, other: self._read(other)}
        return self._stand_in[other]

    def _read(self, index):
        return self.read(self._epoch, index)

    def read(self, epoch, index):
        """A batch of any epoch.

        Args:
            epoch: number of the epoch, int ≥ 0.
            index: number of the batch in it, int in [0, len).

        Returns:
            dict, as of indexing.

        Raises:
            ValueError: samples that cannot be read, or have bad values.
        """
        indices = self._indices(epoch, index)
        # An augmentation is a function of the whole batch, so all of it is read.
        early, late = (self.rows, None) if self.augment is None else (None, self.rows)
        size, indices = len(indices), indices if early is None else indices[early]
        batch = dict(self._samples((epoch, index), indices, size, early))
        texts = self._texts(batch.pop("captions", None), batch, indices)
        key, mirrored = self.source.sample_key, self._mirrored_latents(batch)
        if key not in batch:
            raise ValueError(f"A data source must give images under the key {key!r}. Received keys: {sorted(batch)}")
        images = np.asarray(batch[key])
        images = standardize_images(images, indices, self.value_range if images.ndim > 2 else None)
        # The counter's upper words separate these draws from each other and from the permutation at counter 0.
        rng = philox(self.seed, epoch, counter=(0, 0, 1, index))
        if self.horizontal_flip:
            flips = rng.random(size) < 0.5
            flips = flips if early is None else flips[early]
            images = _mirrored(images, flips, mirrored)
            if "concat" in batch:
                batch["concat"] = _mirrored(np.asarray(batch["concat"]), flips)
        if self.augment is not None:
            if "concat" in batch:
                raise ValueError(
                    "augment changes images alone, so that the known channels beside them, “concat”, would no longer "
                    f"fit. Received: augment={self.augment!r} for samples with the keys {sorted(batch)}. Let the "
                    "source augment both"
                )
            images, vectors = augmented(self._augment, images, rng)
            batch |= {} if vectors is None else {"augmentation": vectors}
        batch[key] = images
        if "concat" in batch:
            batch["concat"] = _standardize_concat(batch["concat"], indices)
        if "labels" in batch:
            batch["labels"] = standardize_labels(batch["labels"], indices, self.num_classes)
        if texts is not None:
            draws = philox(self.seed, epoch, counter=(0, 0, 2, index)).random(size)
            batch["captions"] = draw_captions(texts, draws if early is None else draws[early])
        if late is not None:
            batch = {key: value[late] for key, value in batch.items()}
        return batch if self.transform is None else self.transform(batch)

    def samples(self, indices):
        """Samples by number, as the source has them: without flips, augmentation, and `transform`.

        Args:
            indices: numbers of the samples, ints `(B,)` in [0, `num_samples`).

        Returns:
            dict, as of indexing. Of several captions of a sample, it has the first.

        Raises:
            ValueError: samples that cannot be read, or have bad values.
        """
        indices = np.asarray(indices)
        batch = dict(self.source.batch(indices))
        texts = self._texts(batch.pop("captions", None), batch, indices)
        key, _ = self.source.sample_key, self._mirrored_latents(batch)
        images = np.asarray(batch[key])
        batch[key] = standardize_images(images, indices, self.value_range if images.ndim > 2 else None)
        if "concat" in batch:
            batch["concat"] = _standardize_concat(batch["concat"], indices)
        if "labels" in batch:
            batch["labels"] = standardize_labels(batch["labels"], indices, self.num_classes)
        if texts is not None:
            batch["captions"] = draw_captions(texts, np.zeros(len(indices)))
        return batch

    def _samples(self, place, indices, size, rows):
        """Samples as the source gives them: the `rows` of a batch of `size` at `place`, its (epoch, index)."""
        if not self.source.num_draws:
            return self.source.batch(indices)
        epoch, index = place
        draws = philox(self.seed, epoch, counter=(0, 0, 3, index)).random((size, self.source.num_draws))
        return self.source.drawn(indices, draws if rows is None else draws[rows])

    def _texts(self, read, batch, indices):
        """The tuples of texts that the captions of a batch are drawn from, or None.

        Args:
            read: what the source has put into the batch, or None.
        """
        if self.captions is False:
            return None
        if self.captions is not True:
            return [from_template(self.captions, self.class_names[label]) for label in batch["labels"]]
        return self.source.texts(indices) if read is None else read

    def all_captions(self):
        """All captions that batches may hold: what a vocabulary is made of.

        Returns:
            list of str; empty without captions.
        """
        if self.captions is False:
            return []
        if self.captions is not True:
            return [text for name in self.class_names for text in from_template(self.captions, name)]
        indices = range(len(self.source))
        texts = self.source.texts(indices)
        if texts is None:  # they are in the samples
            texts = [self.source[i]["captions"] for i in indices]
        return [text for several in texts for text in several]

    def to_grain(self, num_threads=2, num_processes=0, epochs=None):
        """These batches as a data set of grain, which reads ahead and whose position can be saved.

        It begins at the current `epoch` and `start`. In each process it gives the `rows` of that process. Grain's
        iterators have `get_state` and `set_state`; `fit` on it needs `steps_per_epoch=len(batches)`.

        Args:
            num_threads: threads that read batches in advance, int ≥ 0; 0 reads when asked. Default 2.
            num_processes: processes that do so, int ≥ 0, each with `num_threads` threads. Default 0: none. A script
                that asks for some begins with `if __name__ == "__main__":`, as they import it.
            epochs: number of epochs after which it ends, int ≥ 1. Default None: it has no end.

        Returns:
            `grain.IterDataset` of dicts.

        Raises:
            ImportError: grain is not installed.
            ValueError: numbers out of range.

        Example:

        >>> batches = keras_diffusion.data.load("shapes", batch_size=64, image_size=16)
        >>> iterator = iter(batches.to_grain(num_threads=4))
        >>> batch, position = next(iterator), iterator.get_state()
        >>> iterator.set_state(position)
        """
        return grain_dataset(self, num_threads, num_processes, epochs)

    def _check_length(self):
        if len(self.source) == 0:
            raise ValueError("A data source must hold at least one sample. Received: an empty source.")
        if self.drop_remainder and self.batch_size > len(self.source):
            raise ValueError(
                f"With drop_remainder=True, batch_size must not exceed the number of samples, {len(self.source)}: "
                f"there would be no batch. Received: batch_size={self.batch_size}. Lower it or pass "
                "drop_remainder=False."
            )
        if self.source.groups is not None and self._batches_per_pass() == 0:
            raise ValueError(
                "With drop_remainder=True, a bucket must hold a batch. Received: "
                f"batch_size={self.batch_size}, more than there are samples in any"
            )

    def _check_captions(self):
        without = self.captions is True and self.source.texts([self._any]) is None
        if without and "captions" not in self.source[self._any]:
            raise ValueError(
                "captions=True is for data with captions: texts beside the pictures of a folder, a metadata.jsonl or "
                f"metadata.csv, or “captions” beside “images”. Received: {self.source!r}, which has none. A template "
                "such as captions='a photo of a {}' makes them of the names of classes"
            )
        if not isinstance(self.captions, bool) and not self.class_names:
            raise ValueError(
                "A template makes captions of the names of classes. Received: "
                f"captions={shown(self.captions)} for {self.source!r}, whose classes have no names"
            )

    def _check_latents(self):
        """Latents have no range of values, and are neither augmented nor mirrored by themselves."""
        if self.latents is None:
            return
        self.value_range = None
        if self.augment is not None:
            raise ValueError(
                "Pictures are augmented before they are encoded. Received: "
                f"augment={shown(self.augment)} for {self.source!r}. Leave it out, or train on the pictures"
            )
        if self.horizontal_flip and not self.latents.flips:
            raise ValueError(
                "Mirrored latents are not those of the mirrored picture, which is encoded too where it is asked for. "
                f"Received: horizontal_flip=True for {self.source!r}. Pack with flip=True (--flip), or leave it out"
            )

    def _mirrored_latents(self, batch):
        """Takes the latents of mirrored pictures out of a batch; None without."""
        return None if self.latents is None else batch.pop(MIRRORED, None)

    def on_epoch_begin(self):
        self._begun = True

    def on_epoch_end(self):
        # Worker processes have copies of this object, so what they read is not seen here.
        complete = self._last_batch_seen or (self.use_multiprocessing and self.workers > 0)
        if self._begun and complete:
            self.epoch = self._epoch + 1
        elif not self._begun:
            self._last_batch_seen = False  # the call at the start of fit: ignore batches read to build the model
        self._begun = False

    def _indices(self, epoch, index):
        """Numbers of the samples in batch `index` of `epoch`."""
        if self.source.groups is not None:
            return self._bucketed(epoch)[index]
        n = len(self.source)
        if self.batches_per_epoch is None:
            return self._pass_order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        first = (epoch * self.batches_per_epoch + index) * self.batch_size
        passes, offsets = np.divmod(first + np.arange(self.batch_size), n)
        # A batch may span two passes, or hold several passes of a small data set.
        return np.concatenate([self._pass_order(int(p))[offsets[passes == p]] for p in np.unique(passes)])

    def _pass_order(self, number):
        number = number if self.shuffle else 0
        cached, order = self._order
        if cached != number:
            n = len(self.source)
            order = philox(self.seed, number).permutation(n) if self.shuffle else np.arange(n)
            self._order = (number, order)
        return order

    @property
    def remainders(self):
        """Sizes of the batches of an epoch that are smaller than the others, a list of ints."""
        if self._whole:
            return []
        counts = [len(self.source)] if self.source.groups is None else self.source.bucket_counts.values()
        return [count % self.batch_size for count in counts if count % self.batch_size]

    @property
    def _whole(self):
        return self.drop_remainder or self.batches_per_epoch is not None

    # Where each batch holds one bucket (buckets.py):

    def _batches_per_pass(self):
        return number_of_batches(self.source.bucket_counts.values(), self.batch_size, self._whole)

    def _bucketed(self, epoch):
        """The batches of an epoch, a list of arrays of numbers of samples."""
        key = (epoch, self.batch_size, self.drop_remainder)
        cached, batches = self._buckets
        if cached != key:
            per_pass = self._batches_per_pass()
            batches = batches_of_epoch(epoch, self.batches_per_epoch or per_pass, per_pass, self._bucketed_pass)
            if self.shuffle:
                batches = unlike_first(batches, self.source.groups, self.source.shapes)
            self._buckets = (key, batches)
        return batches

    def _bucketed_pass(self, number):
        rng = philox(self.seed, number, counter=(0, 0, 4, 0)) if self.shuffle else None
        return batches_of_pass(self._pass_order(number), self.source.groups, self.batch_size, self._whole, rng)


def _mirrored(images, flips, mirrored=None):
    """Images `(B, H, W, C)`, or clips `(B, F, H, W, C)`, mirrored left to right where `flips`, `(B,)`, is true; of
    latents, `mirrored` are those of the mirrored pictures.
    """
    if images.ndim not in (4, 5):
        raise ValueError(
            "horizontal_flip=True needs images (batch, height, width, channels), or clips of them. Received: "
            f"shape={images.shape}"
        )
    mirrored = images[..., ::-1, :] if mirrored is None else mirrored
    return np.where(flips.reshape(-1, *[1] * (images.ndim - 1)), mirrored, images)


def _standardize_concat(concat, indices):
    """Known channels as float32: uint8 scaled like images, floats of any range."""
    try:
        return standardize_images(np.asarray(concat), indices, None)
    except ValueError as error:
        raise ValueError(f"Known channels, “concat”, are as images are. {error}") from error


def _positive_int(value, name, optional=False):
    return check_whole(name, value, 1, rule=f"{name} must be an integer ≥ 1", optional=optional)


def _check_workers(options):
    """Checks the options of `keras.utils.PyDataset`."""
    check_known("Batches", options, WORKERS, arguments_of(Batches))
    check_whole("workers", options.get("workers", 1), 0)
    check_whole("max_queue_size", options.get("max_queue_size", 10), 1)
    check_flag("use_multiprocessing", options.get("use_multiprocessing", False))


def _checked_range(value_range):
    """`value_range` as a pair of floats, or None."""
    if value_range is None:
        return None
    rule = "value_range is (lowest, highest) of float images, or None"
    pair = value_range if isinstance(value_range, (tuple, list)) and len(value_range) == 2 else (0, 0)
    low, high = (check_number("value_range", bound, rule=rule) for bound in pair)
    if not low < high:
        raise ValueError(f"{rule}. Received: value_range={shown(value_range)}")
    return low, high
