"""What autoencoders have in common: two halves, and latents in units that suit diffusion.

    encode:  latent = scale · (encoder(image) − shift)
    decode:  image = decoder(latent/scale + shift)

`scale` gives the latents of the training data about unit variance, and `shift` mean 0: one number for all channels, or
one for each.

A large picture needs much memory: at full size the decoder of Stable Diffusion has 256 numbers per pixel at once, and
attention in the middle one for every pair of positions. In tiles (`tile_size`) the memory grows with the tile; see
`networks/tiles.py`.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_number, check_whole, shown
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.lora.network import LoRAMixin
from keras_diffusion.networks.network import check_size, wide_dtype
from keras_diffusion.networks.tiles import in_tiles
from keras_diffusion.runtime.compile import Compiled, is_traced
from keras_diffusion.runtime.devices import to_host

HALVES = ("encoder", "decoder")


class Autoencoder(ArgumentsMixin, LoRAMixin, keras.Model):
    """Base class of autoencoders.

    A subclass has the arguments `latent_channels`, `scale`, `shift` and `halves`, and its constructor ends in
    `set_halves`. The encoder tells of an image the latents, unscaled; where it tells more, the subclass says which of
    it they are (`means`).

    Attributes:
        encoder, decoder: Keras models, or None.
        size_multiple: f, how many pixels of an axis become one position of latents.
        tile_size: side in pixels of the tiles in which larger pictures are encoded and decoded; None (default): whole.
            Set it once, `autoencoder.tile_size = 512`, and `generate` works in tiles too. Not part of the config.
        tile_overlap: how many pixels neighbouring tiles share at least; None (default): a quarter of `tile_size`.
    """

    tile_size: int | None = None
    tile_overlap: int | None = None

    def set_halves(self, size_multiple, encoder, decoder):
        """Builds the halves that there are.

        Args:
            size_multiple: f.
            encoder, decoder: functions that return built Keras models `images → latents` and `latents → images`.

        Raises:
            ValueError: unknown halves, a scale that is not above 0.
        """
        halves = self.halves
        if not halves or not set(halves) <= set(HALVES):
            raise ValueError(
                f"`halves` names the parts that there are: {', '.join(HALVES)}, or both. Received: halves={halves!r}"
            )
        self.set_scaling(self.scale, self.shift)
        self.halves = tuple(half for half in HALVES if half in halves)
        self.size_multiple = size_multiple
        self.encoder = encoder() if "encoder" in halves else None
        self.decoder = decoder() if "decoder" in halves else None
        self.built = True

    def set_scaling(self, scale, shift=0.0):
        """Sets `scale` and `shift`: latent = scale·(mean − shift).

        Args:
            scale: number > 0, or a sequence of `latent_channels` of them. 1/(standard deviation) of the means gives
                latents of unit variance.
            shift: number, or a sequence of `latent_channels` numbers. Default 0.

        Raises:
            ValueError: anything else.

        Example:

        >>> autoencoder = AutoencoderKL(widths=(8, 16), latent_channels=2)
        >>> autoencoder.set_scaling(scale=[0.5, 0.25], shift=[0.1, -0.3])
        >>> autoencoder.get_config()["scale"]
        [0.5, 0.25]
        """
        self.scale, self.shift = checked_scaling(scale, shift, self.latent_channels)

    def encode(self, images, tile_size=None, tile_overlap=None, batch_size=None):
        """Scaled latents of images, where there is a distribution of them its mean.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].
            tile_size, tile_overlap, batch_size: see `decode`.

        Returns:
            `(B, H/f, W/f, latent_channels)`, f = `size_multiple`.

        Raises:
            ValueError: no encoder, a size that the levels do not divide, or tiles as in `decode`.
        """
        return scaled(self, self.means(images, tile_size, tile_overlap, batch_size))

    def means(self, images, tile_size=None, tile_overlap=None, batch_size=None):
        """The latents of `encode` before `scale` and `shift`.

        Args:
            images: `(B, H, W, channels)` in [−1, 1].
            tile_size, tile_overlap, batch_size: see `decode`.

        Returns:
            `(B, H/f, W/f, latent_channels)`, f = `size_multiple`.
        """
        return self._encoded(images, tile_size, tile_overlap, batch_size)

    def decode(self, latents, tile_size=None, tile_overlap=None, batch_size=None):
        """Images of scaled latents.

        With a tile size or a batch size, the decoder runs as one compiled program for tiles of one size, without
        gradients, and the memory needed grows with the tile and the batch. Tiles are blended linearly in the middle of
        their overlap. Where convolutions reach no further than 3/8 of the overlap, the result is that of the whole;
        where the overlap is twice their reach, it is within 1 of 255; `AutoencoderTiny` reaches 18 latents, 145 pixels,
        of which the far ones count little. Group norms and attention (`AutoencoderKL`) see a tile as a picture of its
        own: its brightness and contrast may differ a little from those of the whole, the less the larger the tile.

        Args:
            latents: `(B, h, w, latent_channels)`.
            tile_size: side of a tile in pixels of the image, a multiple of f; None (default) takes the attribute
                `tile_size`, where that is None the whole.
            tile_overlap: how many pixels neighbouring tiles share at least, a multiple of f below `tile_size`; None
                (default) takes the attribute `tile_overlap`, where that is None about a quarter of the tile.
            batch_size: samples at once; None (default): all. Inside a compiled function everything is computed at once.

        Returns:
            `(B, f·h, f·w, channels)`, about in [−1, 1], f = `size_multiple`.

        Raises:
            ValueError: no decoder; a tile size or an overlap that is not a multiple of f, an overlap that leaves
                nothing of a tile.
        """
        self._require("decoder")
        latents = unscaled(self, ops.convert_to_tensor(latents, self._wide))
        pieces = self._pieces(tile_size, tile_overlap, batch_size)
        return self._through(self.decoder, latents, pieces, (1, self.size_multiple))

    def call(self, images):
        return self.decode(self.encode(images))

    @classmethod
    def join(cls, encoder, decoder):
        """One autoencoder with the encoder of one and the decoder of another.

        Args:
            encoder: autoencoder of this class with an encoder.
            decoder: one with a decoder and otherwise the same config.

        Returns:
            autoencoder with copies of their weights.

        Raises:
            ValueError: configs that differ.
        """
        configs = [{**half.get_config(), "halves": list(HALVES), "name": decoder.name} for half in (encoder, decoder)]
        differ = [key for key, value in configs[0].items() if value != configs[1][key]]
        if differ:
            received = "; ".join(f"{key}={configs[0][key]} and {configs[1][key]}" for key in differ)
            raise ValueError(f"Two halves of an autoencoder have the same config. Received: {received}")
        encoder._require("encoder")
        decoder._require("decoder")
        with zero_kernels():
            joined = cls.from_config(configs[1])
        joined.encoder.set_weights(encoder.encoder.get_weights())
        joined.decoder.set_weights(decoder.decoder.get_weights())
        return joined

    def _encoded(self, images, *pieces):
        """What the encoder tells of images."""
        self._require("encoder")
        check_size(tuple(images.shape)[1:-1], self.size_multiple)
        return self._through(self.encoder, images, self._pieces(*pieces), (self.size_multiple, 1))

    def _pieces(self, tile_size=None, tile_overlap=None, batch_size=None):
        """(tile, overlap, batch size), the first two in positions of latents; None where all is done at once."""
        size = self.tile_size if tile_size is None else tile_size
        overlap = self.tile_overlap if tile_overlap is None else tile_overlap
        batch_size = check_whole("batch_size", batch_size, 1, optional=True)
        if size is None:
            return None if batch_size is None else (None, 0, batch_size)
        f = self.size_multiple
        size = _multiple("tile_size", size, f, f)
        overlap = size // (4 * f) * f if overlap is None else _multiple("tile_overlap", overlap, f, 0)
        if overlap >= size:
            raise ValueError(
                "Neighbouring tiles share less than a tile. Received: "
                f"tile_size={size}, tile_overlap={overlap}. A quarter is {size // (4 * f) * f}"
            )
        return size // f, overlap // f, batch_size

    def _through(self, network, x, pieces, units):
        """`network(x)`, at once or in pieces."""
        if pieces is None or None in tuple(x.shape) or is_traced(x):
            return network(x)
        whole = pieces[0] is None or max(n // units[0] for n in x.shape[1:3]) <= pieces[0]
        if whole and pieces[2] is None:
            return network(x)
        tile, overlap, batch_size = pieces
        program = self._program(network)
        pieces = in_tiles(program, to_host(x), tile, overlap, units, batch_size)
        return ops.convert_to_tensor(pieces, self._wide)

    def _program(self, network):
        """A half as a compiled program of x, which sees changes of the weights."""
        programs = vars(self).setdefault("_programs", {})
        if network.name not in programs:

            def run(values, x):
                with keras.StatelessScope(state_mapping=list(zip(network.variables, values, strict=True))):
                    return network(x, training=False)

            programs[network.name] = Compiled(run)
        values = [variable.value for variable in network.variables]
        return lambda x: programs[network.name](values, x)

    def _require(self, half):
        if half not in self.halves:
            raise ValueError(
                f"This autoencoder has no {half}: it was built with halves={self.halves}. Load the file of the {half} "
                f"too and put them together with {type(self).__name__}.join(encoder, decoder)"
            )

    @property
    def _wide(self):
        # Images and latents are in float32 under mixed precision too.
        return wide_dtype(self.dtype_policy)


def scaled(autoencoder, means):
    """Latents in units that suit diffusion: scale·(means − shift).

    Args:
        autoencoder: with `scale` and `shift`, numbers or one per channel; where it lacks them, 1 and 0.
        means: `(B, h, w, latent_channels)`, as the encoder tells them.

    Returns:
        tensor like `means`.
    """
    scale, shift = _factors(autoencoder, means)
    return scale * (means - shift)


def unscaled(autoencoder, latents):
    """The inverse of `scaled`.

    Args:
        autoencoder: likewise.
        latents: `(B, h, w, latent_channels)`, scaled.

    Returns:
        tensor like `latents`.
    """
    scale, shift = _factors(autoencoder, latents)
    return latents / scale + shift


def checked_scaling(scale, shift, channels):
    """`scale` and `shift` as floats, or as tuples of floats, one per channel.

    Args:
        scale: number > 0, or a sequence of them.
        shift: number, or a sequence.
        channels: int, of latents.

    Returns:
        (scale, shift).

    Raises:
        ValueError: anything else, or sequences of another length.
    """
    return _for_channels("scale", scale, channels, above=0), _for_channels("shift", shift, channels)


def _factors(autoencoder, x):
    """Scale and shift as factors of tensors `(..., latent_channels)` like x."""
    values = getattr(autoencoder, "scale", 1.0), getattr(autoencoder, "shift", 0.0)
    return (v if np.ndim(v) == 0 else ops.convert_to_tensor(np.asarray(v, "float32"), x.dtype) for v in values)


def _for_channels(name, value, channels, **bounds):
    """`value` as a float, or as a tuple of `channels` floats."""
    if getattr(value, "shape", ()) != ():
        value = ops.convert_to_numpy(value).tolist()
    if not isinstance(value, (list, tuple)):
        return check_number(name, value, **bounds)
    if len(value) != channels:
        raise ValueError(
            f"`{name}` is one number, or one for each of the {channels} channels of latents. Received: "
            f"{name}={shown(list(value))}, {len(value)} of them"
        )
    return tuple(check_number(f"{name}[{i}]", number, **bounds) for i, number in enumerate(value))


def _multiple(name, value, factor, least):
    """`value` as an int ≥ `least` that is a multiple of `factor`."""
    value = check_whole(name, value, least)
    if value % factor:
        below = max(value // factor * factor, least)
        raise ValueError(
            f"`{name}` is a number of pixels, here a multiple of {factor}, which become one position of latents. "
            f"Received: {name}={value}. Sizes that work: {below} or {below + factor}"
        )
    return value
