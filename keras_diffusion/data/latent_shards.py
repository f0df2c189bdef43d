"""Latents in tar files, as `data.pack` writes them with an autoencoder: training reads them in place of pictures.

    folder/latents.json      whose latents they are, and of what kind
           part-00000.tar:   00000000.npy 00000000.json  00000001.npy …

The order is that of the pictures, so that batches, held-out parts and resuming are those of the pictures too. Arrays
are read by a reader of their own, which takes what `latents.json` says and nothing else.
"""

from pathlib import Path

from keras_diffusion.configs.checks import shown
from keras_diffusion.data.latent_manifest import MANIFEST, read_manifest
from keras_diffusion.data.shard_writer import shard_name
from keras_diffusion.data.sources import MIRRORED
from keras_diffusion.data.tar_shards import RECORD, TarShards, places_of

_ARRAY = ".npy"


class LatentShards(TarShards):
    """What an autoencoder made of pictures, read by its place.

    Args:
        folder: path of a folder that `data.pack(…, autoencoder=…)` has written.

    Attributes:
        latents: the folder's `LatentManifest`.

    Returns (of indexing):
        {"moments": float32 `(h, w, 2·D)`}, means and log variances, or {"latents": float32 `(h, w, D)`}, both before
        the autoencoder's scale; where mirrored pictures were encoded too, theirs under "mirrored"; with "labels" as the
        pictures had them.

    Raises:
        ValueError: a folder that is damaged or not whole; when reading, arrays that are not those announced, NaN.
    """

    def __init__(self, folder):
        folder = Path(folder).expanduser()
        self.latents = found = read_manifest(folder)
        self.sample_key = found.key
        self.paths = list(_paths(folder, found))
        groups = self._groups()
        self._check(groups)
        self._array = places_of(groups, {_ARRAY})
        self._index(groups)
        self._labels, self.labels = self.labels, self.labels if found.labelled else None
        self.num_classes, self.class_names = found.num_classes, found.class_names
        if self._labels is not None and found.num_classes is not None and self._labels.max() >= found.num_classes:
            raise ValueError(
                f"Classes of {str(folder)!r} are numbers below {found.num_classes}, as {MANIFEST} says. Received: "
                f"{self._labels.max()} in {self._name(int(self._labels.argmax()))}. Pack the pictures again"
            )

    def __repr__(self):
        classes = f" in {self.num_classes} classes" if self.num_classes else ""
        return f"<{type(self).__name__}: {len(self):,} {self.latents}{classes}>"

    def __getitem__(self, index):
        array = self.latents.from_bytes(self._read(index, self._array), self._name(index) + _ARRAY)
        sample = {self.sample_key: array[0]}
        if self.latents.flips:
            sample[MIRRORED] = array[1]
        return sample if self._labels is None else {**sample, "labels": self._labels[index]}

    def size_of(self, index):
        return self.latents.image_shape[:2]

    def _check(self, groups):
        """Raises unless every sample is there, in its file, and as long as it must be."""
        found, size = self.latents, self.latents.sample_bytes
        records = sum(RECORD in members for _, _, members in groups)
        for what, told, there in (("", found.samples, len(groups)), (f" with a {RECORD}", found.records, records)):
            if told != there:
                raise ValueError(
                    f"The tar files of {str(self.paths[0].parent)!r} hold {told:,} samples{what}, as {MANIFEST} says. "
                    f"Received: {there:,}. Copy the folder again, or pack the pictures again"
                )
        for number, (shard, key, members) in enumerate(groups):
            if shard != number // found.shard_size or members.get(_ARRAY, (0, None))[1] != size:
                held = ", ".join(f"{suffix} of {place[1]:,} bytes" for suffix, place in sorted(members.items()))
                raise ValueError(
                    f"A sample of latents is an array {found.stored_shape} of {found.dtype}, a {_ARRAY} of {size:,} "
                    f"bytes. Received: {self.paths[shard]}: {shown(key)} with {held or 'nothing'}. Pack the pictures "
                    "again, or copy the folder again"
                )


def check_options(folder, options):
    """Raises for options of `data.load` that latents have no use for.

    Args:
        folder: of the latents.
        options: dict of those options that are for pictures.

    Raises:
        ValueError: one of them asks for something.
    """
    for name, value in options.items():
        if value in (None, False, "center"):
            continue
        raise ValueError(
            f"{name}= is for pictures, before they are encoded. Received: {name}={shown(value)} for the latents in "
            f"{str(folder)!r}. Leave it out, or pack the pictures again: data.pack(data.load(…, {name}=…), …)"
        )


def _paths(folder, found):
    """The tar files, each of which is there."""
    for number in range(-(-found.samples // found.shard_size)):
        path = folder / shard_name(number)
        if not path.is_file():
            raise ValueError(
                f"A folder of {found.samples:,} latents has {-(-found.samples // found.shard_size):,} tar files. "
                f"Received: {str(folder)!r} without {path.name}. Copy the folder again, or pack the pictures again"
            )
        yield path
