"""Packing: a data set of any kind, brought to one size once, as tar files that are read fast and sent in one piece.

    data ──▶ resized ──▶ part-00000.tar: 00000000.png 00000000.json  00000001.png …

The layout is WebDataset's, so that `TarShards` and others read it. The same data give the same bytes.
"""

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_array, check_choice, check_whole, clip
from keras_diffusion.data.batches import Batches
from keras_diffusion.data.captions import check_template, from_template
from keras_diffusion.data.sources import as_source
from keras_diffusion.data.values import check_floats
from keras_diffusion.runtime.files import atomic_folder, write_errors
from keras_diffusion.runtime.optional import import_optional


@dataclasses.dataclass(frozen=True)
class Packed:
    """What `pack` wrote.

    Attributes:
        folder: `Path` of the tar files, what `data.load` takes.
        samples: number of samples written.
        shards: number of tar files.
        skipped: dict from the number of a sample that could not be read to the error, a str.
    """

    folder: Path
    samples: int
    shards: int
    skipped: dict

    def __str__(self):
        left_out = f", {len(self.skipped):,} left out" if self.skipped else ""
        return f"{self.samples:,} samples in {self.shards:,} tar files in {self.folder}{left_out}"


def pack(data, folder, shard_size=1000, captions=None, on_error="raise", progress=iter):
    """Writes a data set as tar files: PNG files, which lose nothing, and captions and classes beside them.

    Args:
        data: a `Source`, or what `Batches` takes; of batches their `source`, so that
            `load("pictures", split="all", image_size=64)` packs pictures of that size.
        folder: where to; it must not exist. It appears when all is written.
        shard_size: samples of a tar file, int ≥ 1. Default 1000.
        captions: a template such as "a photo of a {}", or a list of them, which the name of the sample's class fills
            in. None (default): the source's captions, if there are any.
        on_error: "raise" (default) ends at a sample that cannot be read, and leaves nothing behind; "skip" leaves it
            out.
        progress: function that passes an iterable on and shows how far it is.

    Returns:
        `Packed`.

    Raises:
        ValueError: a folder that exists, unreadable samples, samples that are no pictures, a template for data without
            classes.
        OSError: it cannot be written.

    Example:

    >>> print(kd.data.pack(kd.data.load("emoji", split="all"), "emoji-shards"))
    1,892 samples in 2 tar files in emoji-shards
    >>> batches = kd.data.load("emoji-shards", captions=True)
    """
    source, folder = as_source(data.source if isinstance(data, Batches) else data), Path(folder)
    check_whole("shard_size", shard_size, 1), check_choice("on_error", on_error, ("raise", "skip"))
    if folder.exists():
        raise ValueError(f"Tar files are written into a new folder. Received: {str(folder)!r}, which exists")
    templates = None if captions is None else check_template(captions)
    if templates and not source.class_names:
        raise ValueError(f"A template of captions is filled with names of classes. Received: {source!r}, without any")
    skipped, written = {}, 0
    with write_errors(folder), atomic_folder(folder) as work:
        shards = _Shards(work, shard_size)
        try:
            for number in progress(range(len(source))):
                try:
                    members = _members(source, number, templates)
                except (ValueError, OSError) as error:
                    if on_error == "raise":
                        raise
                    skipped[number] = clip(str(error))
                    continue
                shards.add(written, members)
                written += 1
        finally:
            shards.close()
        if not written:
            raise ValueError(f"No sample of {source!r} can be read. The first: {skipped[0]}")
    return Packed(folder, written, shards.count, skipped)


class _Shards:
    """Tar files of `size` samples each."""

    def __init__(self, folder, size):
        self.folder, self.size, self.count, self._archive = folder, size, 0, None

    def add(self, number, members):
        """Writes the members of sample `number`, {suffix: bytes}."""
        if number % self.size == 0:
            self.close()
            self._archive = tarfile.open(self.folder / f"part-{self.count:05}.tar", "w", format=tarfile.USTAR_FORMAT)
            self.count += 1
        for suffix, content in members.items():
            member = tarfile.TarInfo(f"{number:08}{suffix}")  # its time is 0: the same data give the same bytes
            member.size = len(content)
            self._archive.addfile(member, io.BytesIO(content))

    def close(self):
        if self._archive is not None:
            self._archive.close()


def _members(source, number, templates):
    """What stands for a sample: {suffix: bytes}."""
    sample = source[number]
    further = sorted(sample.keys() - {"images", "labels", "captions"})
    if further:
        raise ValueError(f"Only pictures, captions and classes are packed. Received: samples with {further}")
    record, label = {}, sample.get("labels")
    if label is not None:
        record["label"] = int(label)
        if source.class_names:
            record["class_name"] = source.class_names[int(label)]
    if templates:
        texts = from_template(templates, record["class_name"])
    else:
        texts = sample.get("captions") or (source.texts([number]) or [()])[0]
    if texts:
        record["text"] = texts[0] if len(texts) == 1 else list(texts)
    members = {".png": _png(sample["images"], number)}
    return {**members, ".json": json.dumps(record, ensure_ascii=False).encode()} if record else members


def _png(image, number):
    """An image as the bytes of a PNG file."""
    image = check_array("images", image)
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            "Pictures (height, width, channels) with 1, 3 or 4 channels can be packed. Received: "
            f"shape={image.shape} in sample {number}"
        )
    if image.dtype != np.uint8:
        check_floats(image[None], [number], (-1.0, 1.0))
        image = np.clip(np.round((image.astype("float32") + 1) * 127.5), 0, 255).astype("uint8")
    file = io.BytesIO()
    pil = import_optional("PIL.Image", extra="viz", purpose="packing pictures")
    pil.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()
