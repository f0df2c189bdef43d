"""`load`: one call from a name, a path or arrays to batches.

load("digits")                                           scikit-learn's 8×8 scans; no download
load("emoji")                                            32×32 pictures with names, part of this package
load("shapes")                                           coloured shapes with captions, drawn on demand
load({"images": images, "labels": labels})               arrays; also .npz and .npy files
load("pictures/flowers", image_size=64)                  a folder of image files, perhaps with captions
load("shards/part-{000..031}.tar", image_size=64)        tar files in the WebDataset layout
load("pictures-latents")                                 latents, as `pack` writes them with an autoencoder
load("pictures.jsonl", cache="fetched", image_size=64)   a list of web addresses with captions
load("clips", frames=16, stride=2, image_size=64)        a folder of videos, or of folders of frames
load("oxford_flowers102", image_size=64)                 a prepared TensorFlow Datasets data set
load("hf://user/name", image_size=64)                    a data set on the Hugging Face Hub
load("part-*.parquet", image_size=64)                    tables of pictures; also .array_record
"""

import functools
import inspect
import re
from pathlib import Path

from keras_diffusion.configs.checks import (
    arguments_of,
    check_choice,
    check_flag,
    check_known,
    check_text,
    shown,
    suggestion,
)
from keras_diffusion.data.batches import WORKERS, Batches
from keras_diffusion.data.buckets import Buckets, bucket_shapes
from keras_diffusion.data.clips import ClipFolder, ClipSource
from keras_diffusion.data.digits import digits
from keras_diffusion.data.emoji import emoji
from keras_diffusion.data.image_folder import SPLITS, ImageFolder, sub_folders
from keras_diffusion.data.latent_manifest import is_latents
from keras_diffusion.data.latent_shards import LatentShards, check_options
from keras_diffusion.data.shapes import Shapes
from keras_diffusion.data.sizes import Resized, check_size
from keras_diffusion.data.sources import ArraySource, Subset, as_source, held_out_indices
from keras_diffusion.data.streams import StreamBatches, StreamSource
from keras_diffusion.data.tables import is_table, open_table
from keras_diffusion.data.tar_shards import TarShards, are_files
from keras_diffusion.data.tfds import TFDSSource
from keras_diffusion.data.tfds_folder import is_prepared_folder
from keras_diffusion.data.tolerant import Tolerant
from keras_diffusion.data.url_list import UrlList, is_url_list
from keras_diffusion.runtime.arrays import map_array, read_arrays
from keras_diffusion.runtime.optional import import_optional

_HELD_OUT = ("validation", "val", "test")
_OWN = {"digits": (digits, 0.2), "emoji": (emoji, 0.1)}  # function, and the share that is held out by default


def load(
    source,
    split="train",
    image_size=None,
    batch_size=64,
    seed=0,
    validation_fraction=None,
    channels=None,
    num_classes=None,
    value_range=(-1.0, 1.0),
    data_dir=None,
    download=False,
    image_key="image",
    label_key="label",
    caption_key=None,
    background=None,
    on_error="raise",
    cache=None,
    fetch=None,
    crop="center",
    buckets=None,
    bucket_step=None,
    streaming=False,
    shuffle_buffer=1000,
    frames=None,
    stride=1,
    **options,
):
    """Data from anywhere as `Batches`.

    Args:
        source: `"digits"`, `"emoji"` or `"shapes"`; an array or a dict of arrays; the path of a .npz or .npy file, of
            an image folder (see `ImageFolder`), of tar files as `"part-{000..031}.tar"` or of a folder of them (see
            `TarShards`), of a folder of latents (see `LatentShards`); a list of web addresses, in a .jsonl or .csv file
            or in Python (see `UrlList`); the name or folder of a TFDS data set; `"hf://user/name"` or
            `"hf://user/name:config"` on the Hugging Face Hub, a folder of its `save_to_disk`, or an object of
            `datasets`; .parquet or .array_record files (see `ParquetSource` and `ArrayRecordSource`); or an object with
            `__len__` and `__getitem__`; or a stream, an object with `__iter__` (see `StreamSource`).
        split: `"train"`, `"validation"`/`"test"` (the held-out part), `"all"`; for TFDS and the Hub, whatever they
            understand, such as `"train[:80%]"`. The held-out part of shapes has captions that training never sees.
        image_size: int or (height, width): pictures are scaled until they cover it, and what is beyond is cropped.
        crop: which part of the longer side is kept: "center" (default), or "random": another one each epoch.
        buckets: True, or a list of (height, width): pictures keep about their ratio of height to width, and each batch
            holds one shape, see `data.buckets`. None (default): all have `image_size`.
        bucket_step: sides of `buckets=True` are multiples of it. Default: an eighth of the side, at least 8.
        batch_size: int ≥ 1.
        seed: int ≥ 0, of the order of the samples. The held-out part does not depend on it.
        validation_fraction: share of the samples to hold out, in (0, 1), the same for each class; for sources without
            splits, and for those of Hugging Face, of whose "train" it is then held out. Default: 0.2 for digits, 0.1
            for emoji, otherwise nothing is held out.
        channels: 1, 3 or 4, for pictures in files and tables. Default: 3.
        background: for pictures in files and tables, the colour behind transparent pixels, a name or three ints.
            Default: "white".
        on_error: what becomes of a sample that cannot be read: `"raise"` ends the reading with its name, `"skip"` puts
            the next one in its place and lists it in `source.skipped`.
        cache: folder that keeps the pictures of web addresses; they need one.
        fetch: for web addresses, a dict of further arguments of `UrlList`, such as `{"timeout": 5, "connections": 32}`.
        frames: for clips, `(frames, H, W, C)`, the number of frames of a sample, or "all": the source is then a folder
            of clips (see `ClipFolder`), or gives whole ones, such as an array `(n, F, H, W, C)`. Training begins at
            a random frame, other splits take the middle.
        stride: from each frame to the next one that is taken, int ≥ 1.
        num_classes: number of classes, if the source does not know it or knows fewer.
        value_range: range that float images must lie in; None: they only have to be finite.
        data_dir, download: for TFDS, see `TFDSSource`.
        image_key, label_key, caption_key: columns of TFDS and tables, see `HuggingFaceSource`.
        streaming: whether a data set of the Hub is read over the network while training goes on, not downloaded first.
        shuffle_buffer: samples that the order of a stream is drawn from, see `StreamBatches`.
        options: further arguments of `Batches`, such as `horizontal_flip=True`. `shuffle` and `drop_remainder` default
            to True if `split` starts with "train" or is "all", otherwise to False; so does `horizontal_flip` for
            latents that were packed with those of the mirrored pictures.

    Returns:
        `Batches`, of streams `StreamBatches`, with `num_classes`, `class_names`, `image_shape` and `source`. With
        `captions=True`, batches hold the captions of emoji, of shapes, of a folder, of tar files or of a table.

    Raises:
        ValueError: unknown source or split, unreadable files, bad values.
        ImportError: a package is missing; the message names the extra that installs it.

    Example:

    >>> train, test = load("digits", batch_size=64), load("digits", split="test")
    >>> model.fit(train, validation_data=test, epochs=10)
    """
    size = check_size(image_size)
    _check_options(options, source, streaming)
    check_text("split", split)
    check_choice("on_error", on_error, ("raise", "skip"))
    training = split.startswith("train") or split == "all"
    clips = _clip_options(frames, stride, training)
    pictures = _given(channels=channels, background=background)
    if is_latents(source):
        given = {"image_size": size, "crop": crop, "buckets": buckets, "bucket_step": bucket_step, "frames": frames}
        check_options(source, {**given, **pictures, "cache": cache, "fetch": fetch})
    pictures |= _web_options(source, pictures, {"cache": cache, "fetch": fetch}, note_failures=on_error == "skip")
    keys = {"image_key": image_key, "label_key": label_key, "caption_key": caption_key}
    if is_table(source):
        data, own_splits = open_table(source, split, validation_fraction is not None, {**keys, **pictures}, streaming)
    else:
        keys |= {"data_dir": data_dir, "download": download}
        data, own_splits = _open(source, split, size, pictures, num_classes, value_range, keys, clips)
    data = _as_clips(data, clips)
    if own_splits:
        _check_no_fraction(source, validation_fraction)
    else:
        data = _part(data, split, _fraction(source, validation_fraction))
    make = (
        functools.partial(StreamBatches, shuffle_buffer=shuffle_buffer) if isinstance(data, StreamSource) else Batches
    )
    if on_error == "skip":
        data = Tolerant(data)  # of this part alone: held-out samples never stand in for others
    options = {"shuffle": training, "drop_remainder": training, **_flips(data, training), **options}
    # Where only whole batches are read, nobody would see the pictures of a bucket that does not fill one.
    least = batch_size if options["drop_remainder"] is True or options.get("batches_per_epoch") else 1
    data = _sized(data, size, crop, (buckets, bucket_step), least)
    return make(data, batch_size, seed=seed, num_classes=num_classes, value_range=value_range, **options)


def _flips(data, training):
    """`horizontal_flip` for latents that were packed with those of the mirrored pictures; none for other data."""
    return {"horizontal_flip": True} if training and data.latents is not None and data.latents.flips else {}


def _given(**options):
    return {name: value for name, value in options.items() if value is not None}


def _check_options(options, source, streaming):
    further = (*arguments_of(Batches), *WORKERS)
    own = [name for name in inspect.signature(load).parameters if name != "options"]
    check_known("data.load", options, further, tuple(dict.fromkeys((*own, *further))))
    if check_flag("streaming", streaming) and not str(source).startswith("hf://"):
        raise ValueError(
            f"streaming=True is for data sets of the Hub, hf://user/name. Received: source={shown(source)}. Objects "
            "that are streams need no flag"
        )


def _open(source, split, size, pictures, num_classes, value_range, tfds_options, clips):
    """The source, and whether `split` is already applied to it."""
    if is_url_list(source):
        return UrlList(source, **pictures), False
    if is_latents(source):
        return LatentShards(source), False
    if _is_tar(source):
        return TarShards(source, **pictures), False
    if not isinstance(source, (str, Path)):
        return as_source(source, num_classes, value_range), False
    if str(source) in _OWN:
        return _OWN[str(source)][0](), False
    if str(source) == "shapes":
        return _shapes(split, 32 if size is None else max(size)), True
    path = Path(source).expanduser()
    if is_prepared_folder(path):
        return TFDSSource(path, split, **{**tfds_options, "data_dir": None, "download": False}), True
    if path.is_dir():
        folder = functools.partial(ClipFolder, **clips) if clips else ImageFolder
        folders = [f.name for f in sub_folders(path)]
        if folders and set(folders) <= SPLITS:
            if split not in folders:
                raise ValueError(
                    f"The image folder {str(path)!r} has the splits {', '.join(folders)}. Received: split={split!r}"
                )
            return folder(path / split, **pictures), True
        return folder(path, **pictures), False
    if path.suffix in (".npz", ".npy"):
        # A mapped .npy is read batch by batch, so it may be larger than memory.
        arrays = map_array(path) if path.suffix == ".npy" else read_arrays(path)
        return ArraySource(arrays, num_classes, value_range), False
    if isinstance(source, Path) or path.exists() or str(source).startswith((".", "/", "~", "\\")):
        why = "which is none of these" if path.exists() else "which does not exist"
        raise ValueError(
            "A path must lead to an image folder, a .npz or .npy file, tar files, or a data set of TFDS or Hugging "
            f"Face. Received: source={str(source)!r}, {why}."
        )
    return _open_tfds(source, split, tfds_options), True


def _clip_options(frames, stride, random_start):
    """Arguments of `Clips`; none for pictures."""
    if frames is None:
        if stride != 1:
            raise ValueError(f"stride is for clips, with frames=. Received: stride={shown(stride)} without frames")
        return {}
    return {"frames": frames, "stride": stride, "random_start": random_start}


def _as_clips(data, clips):
    """`data` with the frames that are asked for; `clips`: of `_clip_options`."""
    if clips and isinstance(data, StreamSource):
        raise ValueError(
            f"frames= is for clips that are read by number. Received: frames={clips['frames']} for a stream"
        )
    return ClipSource(data, **clips) if clips and not isinstance(data, ClipFolder) else data


def _web_options(source, pictures, web, note_failures):
    """Arguments of `UrlList` beside `pictures`; none for other sources."""
    if not is_url_list(source):
        _check_unused(source, pictures, web)
        return {}
    fetch = web["fetch"]
    if not isinstance(fetch, dict | None):
        raise ValueError(
            f"`fetch` is a dict of arguments of UrlList, such as a timeout. Received: fetch={shown(fetch)}"
        )
    known = [name for name in arguments_of(UrlList) if name not in ("rows", "cache", "channels", "background")]
    check_known("`fetch` of data.load", fetch or {}, known)
    return {"cache": web["cache"], "note_failures": note_failures, **(fetch or {})}


def _check_unused(source, pictures, web):
    """Raises ValueError for options that this source does not have."""
    given = _given(**web)
    kind = "lists of web addresses"
    if not (given or _is_folder(source) or _is_tar(source) or is_table(source)):
        given, kind = pictures, "image folders, tar files, tables and lists of web addresses"
    if given:
        name, value = next(iter(given.items()))
        raise ValueError(f"{name}= is for {kind}. Received: {name}={shown(value)} for {type(source).__name__}")


def _open_tfds(name, split, options):
    known = (
        "Known: 'digits', 'emoji', 'shapes', arrays or a dict of arrays, a .npz or .npy file, an image folder, tar "
        f"files, a TFDS name such as 'oxford_flowers102', 'hf://user/name'. Received: source={name!r}"
    )
    try:
        tfds = import_optional("tensorflow_datasets", extra="data", purpose=f"the data set {name!r}")
        return TFDSSource(name, split, **options)
    except ImportError as error:
        raise ImportError(f"{error}. {known}{suggestion(name, names())}") from error
    except ValueError as error:
        if not isinstance(error, tfds.core.DatasetNotFoundError) and "builder name string" not in str(error):
            raise
        similar = re.findall(r"Did you mean: .* -> (\w+)", str(error))
        raise ValueError(
            f"Unknown data source: {name!r} is neither a file or folder here nor a TFDS data set. "
            f"{known}{suggestion(name, [*names(), *similar])}"
        ) from None


def _sized(data, size, crop, buckets, least):
    """The samples at the size that is asked for; `buckets`: the arguments `buckets` and `bucket_step`."""
    buckets, step = buckets
    if buckets is not None and buckets is not False:
        return Buckets(data, bucket_shapes(buckets, size, step), crop, least)
    if step is not None:
        raise ValueError(f"bucket_step is for buckets=True. Received: bucket_step={step} without buckets")
    if size is not None:
        return Resized(data, size, crop)
    if check_choice("crop", crop, ("center", "random")) == "random":
        raise ValueError(
            "crop says which part of a picture is kept where image_size is smaller. Received: crop='random' without "
            "image_size. Pass image_size=(height, width)"
        )
    return data


def _check_no_fraction(source, validation_fraction):
    if validation_fraction is not None:
        raise ValueError(
            "validation_fraction is for sources without splits of their own. Received: "
            f"validation_fraction={validation_fraction!r} for {str(source)!r}. Name a split instead; TFDS understands "
            "split='train[:80%]' and split='train[80%:]'."
        )


def _fraction(source, validation_fraction):
    """The share to hold out: what is asked for, or what is usual for a source of our own."""
    own = isinstance(source, str) and source in _OWN and validation_fraction is None
    return _OWN[source][1] if own else validation_fraction


def _part(data, split, validation_fraction):
    if split not in ("train", "all", *_HELD_OUT):
        raise ValueError(
            "A source without splits of its own knows 'train', 'validation' (or "
            f"'test') and 'all'. Received: split={split!r}"
        )
    if split == "all" or (split == "train" and validation_fraction is None):
        return data
    if isinstance(data, StreamSource):
        raise ValueError(
            "Nothing is held out of a stream, which is not read by number. Received: "
            f"split={split!r}, validation_fraction={validation_fraction!r}. Pass another stream for validation"
        )
    if validation_fraction is None:
        raise ValueError(
            f"This source has nothing held out. Received: split={split!r}. Pass validation_fraction, for example 0.1."
        )
    kept, held_out = held_out_indices(len(data), validation_fraction, data.labels)
    return Subset(data, held_out if split in _HELD_OUT else kept)


def _shapes(split, image_size):
    """Drawn at the size that is asked for."""
    check_choice("split", split, ("train", *_HELD_OUT), "shapes have the splits 'train', 'validation' and 'test'")
    return Shapes(100_000 if split == "train" else 1_000, image_size, held_out=split != "train")


def _is_tar(source):
    """Whether a source is tar files: their path or pattern, a folder with nothing else, or a list of these."""
    return are_files(source, (".tar",))


def _is_folder(source):
    return isinstance(source, (str, Path)) and Path(source).expanduser().is_dir()


def names():
    """Names of the data sets that `load` brings itself, a list; it also takes arrays, paths and names of TFDS."""
    return [*_OWN, "shapes"]
