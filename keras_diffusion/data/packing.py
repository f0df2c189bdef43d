"""Packing: a data set of any kind, brought to one size once, as tar files that are read fast and sent in one piece.

    data ──▶ resized ──▶ part-00000.tar: 00000000.png 00000000.json  00000001.png …
                    └──▶ encoded, see latent_packing.py: 00000000.npy …

The layout is WebDataset's, so that `TarShards` and others read it. The same data give the same bytes.
"""

import dataclasses
import inspect
import io
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_array, check_choice, check_whole, clip, shown
from keras_diffusion.data.batches import Batches
from keras_diffusion.data.captions import check_template
from keras_diffusion.data.latent_packing import LatentEncoder
from keras_diffusion.data.shard_writer import ShardWriter, json_of, record_of
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
        encoded: whether latents were written in place of pictures.
    """

    folder: Path
    samples: int
    shards: int
    skipped: dict
    encoded: bool = False

    def __str__(self):
        left_out = f", {len(self.skipped):,} left out" if self.skipped else ""
        what = "latents" if self.encoded else "samples"
        return f"{self.samples:,} {what} in {self.shards:,} tar files in {self.folder}{left_out}"


def pack(
    data,
    folder,
    shard_size=1000,
    captions=None,
    on_error="raise",
    progress=iter,
    autoencoder=None,
    latents="moments",
    flip=False,
    batch_size=32,
    dtype="float32",
    seed=0,
):
    """Writes a data set as tar files: pictures, or what an autoencoder makes of them, with captions and classes.

    Pictures become PNG files, which lose nothing. With an autoencoder, latents are written in their place, before its
    scale, and `latents.json` beside the tar files with the fingerprint of the encoder: a `DiffusionModel` with this
    autoencoder then trains on them as on the pictures, without encoding them again.

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
        autoencoder: Keras model with `moments`, such as `networks.AutoencoderKL`; None (default) packs pictures.
            What follows is for latents.
        latents: "moments" (default): means and log variances `(h, w, 2·D)`, all that the encoder says; "means"
            `(h, w, D)`: half as much, which is what training takes unless the model has `sample_latents=True`;
            "samples" `(h, w, D)`: one draw for each picture.
        flip: whether mirrored pictures are encoded as well, for `load(…, horizontal_flip=True)`. Default False.
        batch_size: pictures that are encoded at once. Default 32.
        dtype: of the numbers on disk: "float32" (default), or "float16" for half of the room and three digits.
        seed: int ≥ 0, of the draws of "samples". Default 0.

    Returns:
        `Packed`.

    Raises:
        ValueError: a folder that exists, unreadable samples, samples that are no pictures, a template for data without
            classes; for latents also pictures of several sizes, data that depend on chance (random crops,
            augmentation), and numbers that are not finite in `dtype`.
        OSError: it cannot be written.

    Example:

    >>> print(kd.data.pack(kd.data.load("emoji", split="all"), "emoji-shards"))
    1,892 samples in 2 tar files in emoji-shards
    >>> batches = kd.data.load("emoji-shards", captions=True)

    Latents:

    >>> autoencoder = kd.AutoencoderModel.from_preset("runs/autoencoder").averaged_autoencoder()
    >>> pictures = kd.data.load("pictures", split="all", image_size=64)
    >>> kd.data.pack(pictures, "pictures-latents", autoencoder=autoencoder, flip=True)
    >>> model = kd.DiffusionModel(network, autoencoder=autoencoder)
    >>> model.fit(kd.data.load("pictures-latents", horizontal_flip=True))
    """
    source, folder = as_source(data.source if isinstance(data, Batches) else data), Path(folder)
    check_whole("shard_size", shard_size, 1), check_choice("on_error", on_error, ("raise", "skip"))
    if folder.exists():
        raise ValueError(f"Tar files are written into a new folder. Received: {str(folder)!r}, which exists")
    templates = None if captions is None else check_template(captions)
    if templates and not source.class_names:
        raise ValueError(f"A template of captions is filled with names of classes. Received: {source!r}, without any")
    encoding = {"latents": latents, "flip": flip, "batch_size": batch_size, "dtype": dtype, "seed": seed}
    encoder = _encoder(data, autoencoder, encoding)
    members_of = _members if encoder is None else encoder.members
    skipped = {}

    def refuse(number, error):
        if on_error == "raise":
            raise error
        skipped[number] = clip(str(error))

    with write_errors(folder), atomic_folder(folder) as work:
        with ShardWriter(work, shard_size) as shards:
            for members in members_of(source, progress(range(len(source))), templates, refuse):
                shards.add(members)
        if not shards.samples:
            raise ValueError(f"No sample of {source!r} can be read. The first: {skipped[0]}")
        if encoder is not None:  # last: a folder without it is not whole
            encoder.manifest(source, shards, skipped).write(work)
    return Packed(folder, shards.samples, shards.count, skipped, encoder is not None)


def _encoder(data, autoencoder, options):
    """The `LatentEncoder` of these options of `pack`, or None for pictures."""
    if autoencoder is not None:
        return LatentEncoder(data, autoencoder, **options)
    for name, value in options.items():
        if value != inspect.signature(pack).parameters[name].default:
            raise ValueError(
                f"{name}= is for latents, which an autoencoder makes. Received: {name}={shown(value)} without "
                "autoencoder. Pass it, or leave the option out"
            )
    return None


def _members(source, numbers, templates, refuse):
    """Of each sample that can be read {suffix: bytes}; `refuse` is told of the others."""
    for number in numbers:
        try:
            sample = source[number]
            record = record_of(source, number, sample, templates)
            members = {".png": _png(sample["images"], number)}
        except (ValueError, OSError) as error:
            refuse(number, error)
            continue
        yield {**members, ".json": json_of(record)} if record else members


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
