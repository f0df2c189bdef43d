"""Pictures above their reconstructions every few epochs, to watch an autoencoder learn."""

import warnings
from pathlib import Path

import keras
import numpy as np

from keras_diffusion.configs.checks import check_array, check_path, check_whole
from keras_diffusion.runtime.devices import is_writer
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.visualization import image_grid, png_bytes, to_uint8


class ReconstructionGrid(keras.callbacks.Callback):
    """Writes `epoch-0010.png`, originals above what the autoencoder makes of them, at the end of every `every`-th epoch
    and of the last one.

    Args:
        directory: folder of the pictures.
        images: `(N, H, W, C)`, float in [−1, 1] or uint8: a few held-out ones, such as 8.
        every: int ≥ 1, in epochs. Default 1.
        cols: pictures beside each other; more make further pairs of rows. Default 8, or N if that is less.
        scale: enlargement, int or "auto" (64 pixels per image).
        weights: "ema" (default) for the average of the weights, or "raw".

    Raises:
        ValueError: bad options, images that are no pictures; when training starts, a model without `reconstruct`.

    Example:

    >>> grid = ReconstructionGrid("run/samples", test_images[:8], every=5)
    >>> model.fit(data, epochs=50, callbacks=[grid])
    """

    def __init__(self, directory, images, every=1, cols=None, scale="auto", weights="ema"):
        super().__init__()
        self.directory = Path(check_path("directory", directory))
        self.images = check_array("images", images)
        if self.images.ndim != 4 or self.images.shape[-1] not in (1, 3, 4) or not self.images.size:
            raise ValueError(
                "`images` are pictures (N, H, W, C) of 1, 3 or 4 channels. Received: images of shape "
                f"{self.images.shape}"
            )
        self.every = check_whole("every", every, 1)
        self.cols = check_whole("cols", cols, 1, optional=True) or min(8, len(self.images))
        self.scale, self.weights = scale, weights

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, "reconstruct"):
            raise ValueError(
                "ReconstructionGrid needs a model with reconstruct(), such as AutoencoderModel. Received: "
                f"{type(self.model).__name__}"
            )

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0 or epoch + 1 == (self.params or {}).get("epochs"):
            self.draw(epoch + 1)

    def draw(self, epoch):
        """Draws a grid now.

        Args:
            epoch: number of finished epochs, which names the file.

        Returns:
            the path of the picture, `pathlib.Path`; None if reconstructions are not finite (with a warning) or this is
            not the first process.

        Raises:
            OSError: the picture could not be written.
        """
        made = np.asarray(self.model.reconstruct(self.images, weights=self.weights))
        if not is_writer():  # all processes reconstruct together
            return None
        if not np.isfinite(made).all():
            # A picture is no reason to stop training; TerminateOnNonFinite does that.
            warnings.warn(
                f"ReconstructionGrid: the pictures after epoch {epoch} hold NaN or infinity; none is written.",
                stacklevel=2,
            )
            return None
        rows = []
        for start in range(0, len(made), self.cols):
            part = slice(start, start + self.cols)
            rows += [self._padded(to_uint8(self.images[part])), self._padded(to_uint8(made[part]))]
        grid = image_grid(np.concatenate(rows), cols=self.cols, scale=self.scale)
        return write_whole(self.directory / f"epoch-{epoch:04d}.png", png_bytes(grid))

    def _padded(self, row):
        """A row of pictures, with white ones up to `cols`."""
        return np.concatenate([row, np.full((self.cols - len(row), *row.shape[1:]), 255, "uint8")])
