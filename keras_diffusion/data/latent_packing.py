"""Packing latents: what an autoencoder makes of each picture, once, in place of the picture.

    pictures ──▶ encoder, in batches ──▶ mean, log variance ──▶ part-00000.tar: 00000000.npy 00000000.json …
    mirrored ──▶    the same         ──▶ mean, log variance ──▶ in the same .npy

What is written is the encoder's word before `scale` and `shift`, so that a scale that is measured later still holds. A
mirrored picture is encoded, since mirrored latents are not its latents.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_choice, check_flag, check_whole, shown
from keras_diffusion.core.noise import check_seed, initial_noise
from keras_diffusion.data.batches import Batches
from keras_diffusion.data.latent_manifest import DTYPES, KINDS, LatentManifest
from keras_diffusion.data.shard_writer import json_of, record_of
from keras_diffusion.data.sources import as_source
from keras_diffusion.data.values import standardize_images
from keras_diffusion.models.latents import encoded_means, has_distribution, means_of
from keras_diffusion.networks.autoencoder import scaled
from keras_diffusion.networks.fingerprint import autoencoder_fingerprint
from keras_diffusion.runtime.compile import Compiled, as_tensor
from keras_diffusion.runtime.devices import to_host

_TOLERANCE = 1e-2  # between an autoencoder's `encode` and its scaled means


class LatentEncoder:
    """Makes the members of tar files from pictures.

    Args:
        data, autoencoder, latents, flip, batch_size, dtype, seed: as in `data.pack`.

    Raises:
        ValueError: as there.
    """

    def __init__(self, data, autoencoder, latents, flip, batch_size, dtype, seed):
        self.kind, self.flip = check_choice("latents", latents, KINDS), check_flag("flip", flip)
        self.batch_size, self.seed = check_whole("batch_size", batch_size, 1), check_seed(seed)
        self.dtype = check_choice("dtype", dtype, tuple(DTYPES))
        _check_autoencoder(autoencoder, self.kind)
        _check_data(data, self.flip)
        self.autoencoder = autoencoder
        self._program = Compiled(self._encode)
        self._image_shape = self._shape = None

    def members(self, source, numbers, templates, refuse):
        """Encodes a source.

        Args:
            source: `Source`.
            numbers: iterable of numbers of its samples, in order.
            templates: of captions, or None.
            refuse: function of a number and an error, called for samples that are left out.

        Yields:
            for each sample that can be read {suffix: bytes}.

        Raises:
            ValueError: see `data.pack`.
        """
        held = []  # (number, picture, record) of a batch
        for number in numbers:
            try:
                sample = source[number]
                record = record_of(source, number, sample, templates)
                held.append((number, self._picture(sample["images"], number), record))
            except (ValueError, OSError) as error:
                refuse(number, error)
            if len(held) == self.batch_size:
                yield from self._written(held, refuse)
                held = []
        yield from self._written(held, refuse)

    def manifest(self, source, shards, skipped):
        """What `latents.json` says, when all is encoded.

        Args:
            source: the `Source`.
            shards: `ShardWriter` that has written them.
            skipped: dict from numbers of samples to errors.

        Returns:
            `LatentManifest`.
        """
        return dataclasses.replace(
            self._layout(),
            fingerprint=autoencoder_fingerprint(self.autoencoder),
            autoencoder=type(self.autoencoder).__name__,
            samples=shards.samples,
            records=shards.records,
            shard_size=shards.size,
            num_classes=None if source.num_classes is None else int(source.num_classes),
            class_names=None if source.class_names is None else [str(name) for name in source.class_names],
            labelled=source.labels is not None,
            skipped={str(number): error for number, error in skipped.items()},
        )

    def _picture(self, image, number):
        """A picture as training has it, float32 `(H, W, C)` in [−1, 1]."""
        image = np.asarray(image)
        channels = getattr(self.autoencoder, "channels", None)
        if image.ndim != 3 or channels not in (None, image.shape[-1]):
            raise ValueError(
                f"The autoencoder takes pictures (height, width, {channels or 'channels'}). Received: "
                f"shape={image.shape} in sample {number}"
            )
        if self._image_shape not in (None, image.shape):
            raise ValueError(
                f"Latents of one folder have one size. Received: pictures of shape {self._image_shape} and "
                f"{image.shape}, sample {number}. Pass image_size=(height, width) to data.load"
            )
        picture = standardize_images(image[None], [number])[0]
        self._image_shape = image.shape
        return picture

    def _written(self, held, refuse):
        """The members of a batch that has been read."""
        if not held:
            return
        numbers, pictures, records = zip(*held, strict=True)
        images = np.stack(pictures)
        views = [images, images[:, :, ::-1]] if self.flip else [images]
        arrays = np.stack([self._latents(np.ascontiguousarray(view), numbers, i) for i, view in enumerate(views)], 1)
        limit = np.finfo(DTYPES[self.dtype]).max
        for number, array, record in zip(numbers, arrays, records, strict=True):
            if not (np.abs(array) <= limit).all():
                refuse(number, self._not_finite(number, array))
                continue
            found = {".npy": self._layout().to_bytes(array)}
            yield {**found, ".json": json_of(record)} if record else found

    def _latents(self, images, numbers, view):
        """What is kept of pictures `(B, H, W, C)`, float32 `(B, h, w, …)`."""
        rows = len(images)
        if rows < self.batch_size:  # always as many at a time, so that nothing is compiled again
            images = np.concatenate([images, np.repeat(images[:1], self.batch_size - rows, axis=0)])
        values = [variable.value for variable in self.autoencoder.variables]
        found = np.asarray(to_host(self._program(values, as_tensor(images))), "float32")[:rows]
        if self._shape is None:
            doubled = self.kind != "means"
            self._shape = (*found.shape[1:3], found.shape[-1] // (1 + doubled))
            kept = as_tensor(found[:1, ..., : self._shape[-1]])
            _check_encode(self.autoencoder, images[:1], means_of(self.autoencoder, kept) if doubled else kept)
        if self.kind == "samples":
            mean, log_variance = np.split(found, 2, axis=-1)
            # A picture's draw depends on its number alone, whatever the batch size.
            noise = np.stack([initial_noise(self.seed, [n], (2, *self._shape))[0, view] for n in numbers])
            found = mean + np.exp(0.5 * log_variance) * noise
        return found

    def _encode(self, values, images):
        """What the encoder says of pictures; its weights are arguments, so that the program does not hold them."""
        model = self.autoencoder
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
            if self.kind == "means":
                return encoded_means(model, images)
            return ops.concatenate(model.moments(images), axis=-1)

    def _layout(self):
        """The manifest as far as it concerns shape and type of the arrays."""
        return LatentManifest("", "", self.kind, self.dtype, self._shape, self._image_shape, self.flip)

    def _not_finite(self, number, array):
        finite = array[np.isfinite(array)]
        largest = f"up to {np.abs(finite).max():g}" if finite.size == array.size else "with NaN or infinity"
        remedy = "Use dtype='float32'" if finite.size == array.size else "Is the autoencoder whole?"
        return ValueError(
            f"Latents are finite numbers that {self.dtype} can hold. Received: latents {largest} of sample {number}. "
            f"{remedy}"
        )


def _check_autoencoder(autoencoder, kind):
    layer = isinstance(autoencoder, keras.layers.Layer) and callable(getattr(autoencoder, "encode", None))
    if not layer or not any(callable(getattr(autoencoder, name, None)) for name in ("means", "moments")):
        raise ValueError(
            "Latents are packed as an autoencoder's `moments` or `means` tells them, before its scale: a Keras model "
            f"such as `networks.AutoencoderKL`. Received: autoencoder={shown(autoencoder)} of type "
            f"{type(autoencoder).__name__}"
        )
    if kind != "means" and not has_distribution(autoencoder):
        raise ValueError(
            f"latents={kind!r} are of an autoencoder that tells a distribution of latents. Received: a "
            f"{type(autoencoder).__name__}, which has none. Pass latents='means'"
        )


def _check_data(data, flip):
    """Raises for data that are not the same pictures each time they are read."""
    source = as_source(data.source if isinstance(data, Batches) else data)
    if source.latents is not None or source.sample_key != "images":
        raise ValueError(f"Latents are made of pictures. Received: {source!r}. Pack the pictures")
    if source.num_draws or hasattr(source, "stream"):
        raise ValueError(
            "Latents are packed once, of pictures that do not depend on chance. Received: "
            f"{source!r}, with random crops or frames, or a stream. Pass crop='center'"
        )
    if isinstance(data, Batches) and data.augment is not None:
        raise ValueError(
            "Latents are packed once, without augmentation. Received: batches with "
            f"augment={shown(data.augment)}. Leave it out; flip=True keeps mirrored pictures too"
        )
    if isinstance(data, Batches) and data.horizontal_flip and not flip:
        raise ValueError(
            "Mirrored pictures are encoded as well where they are asked for. Received: batches with "
            "horizontal_flip=True, flip=False. Pass flip=True"
        )


def _check_encode(autoencoder, image, kept):
    """Raises for an autoencoder whose latents are not what is kept of it, scaled."""
    own = np.asarray(to_host(autoencoder.encode(as_tensor(image))), "float32")
    ours = np.asarray(to_host(scaled(autoencoder, kept)), "float32")
    if own.shape != ours.shape or np.abs(own - ours).max() > _TOLERANCE * (1.0 + np.abs(own).max()):
        raise ValueError(
            "Latents are kept before the autoencoder's `scale` and `shift`: `encode` is scale·(mean − shift). "
            f"Received: a {type(autoencoder).__name__} that encodes otherwise. Train on the pictures themselves"
        )
