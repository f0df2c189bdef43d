"""A grid of samples every few epochs, to watch a model learn."""

import warnings
from pathlib import Path

import keras
import numpy as np

from keras_diffusion.callbacks.event_file import EventFile
from keras_diffusion.configs.checks import check_whole, shown
from keras_diffusion.runtime.devices import is_writer
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.visualization import film_strip, image_grid, png_bytes


class SampleGrid(keras.callbacks.Callback):
    """Writes `epoch-0010.png`, a grid of samples, at the end of every `every`-th epoch and of the last one.

    Videos are shown with all their frames.

    All grids start from the same noise, one `seed`, so that only the model differs between them. On JAX, using the
    model costs a transfer of its whole state, which is negligible at epoch ends; so there is no option "every N
    batches".

    Args:
        directory: folder of the pictures.
        num_samples: int. Default: 16, or as many as `conditions` has.
        conditions: dict, as for `generate`, for example `{"labels": np.arange(10)}`.
        prompts: list of texts, for a model with `text_to_image`; they are written under the pictures. Default None.
        every: int ≥ 1, in epochs.
        cols: columns of the grid. Default: nearly square. Videos have a row each, whatever `cols` is.
        scale: enlargement, int or "auto" (64 pixels per image).
        titles: texts beside the rows, or None.
        tensorboard: log directory, or None. Grids are also written to its sub-directory "samples", with the tag
            "samples"; this needs no package.
        generate_options: further arguments of `generate`: `num_steps`, `sampler`, `guidance_scale`, `seed` (default 0),
            `weights` …

    Raises:
        ValueError: bad options; when training starts, a model without `generate`.

    Example:

    >>> grid = SampleGrid("run/samples", conditions={"labels": np.arange(10)}, every=5, num_steps=30)
    >>> model.fit(data, epochs=50, callbacks=[grid])
    """

    def __init__(
        self,
        directory,
        num_samples=None,
        conditions=None,
        every=1,
        cols=None,
        scale="auto",
        tensorboard=None,
        titles=None,
        prompts=None,
        **generate_options,
    ):
        super().__init__()
        check_whole("cols", cols, 1, optional=True)
        check_whole("every", every, 1, rule="every must be an integer ≥ 1")
        check_whole("num_samples", num_samples, 1, rule="num_samples must be an integer ≥ 1", optional=True)
        if prompts is not None and (isinstance(prompts, str) or num_samples is not None or conditions is not None):
            raise ValueError(
                "`prompts` is a list of texts, one for each sample, in place of num_samples and conditions. Received: "
                f"prompts={shown(prompts)}, num_samples={num_samples}, conditions={shown(conditions)}"
            )
        if num_samples is None and conditions is None:
            num_samples = 16
        self.directory = Path(directory)
        self.every, self.cols, self.scale, self.titles = every, cols, scale, titles
        self.prompts = None if prompts is None else list(prompts)
        self.tensorboard = None if tensorboard is None else Path(tensorboard) / "samples"
        self.generate_options = {
            "num_samples": num_samples,
            "conditions": conditions,
            "seed": 0,
            "verbose": 0,
            **generate_options,
        }
        if prompts is not None:
            del self.generate_options["num_samples"], self.generate_options["conditions"]
        self._events = None

    def on_train_begin(self, logs=None):
        if self.prompts is not None and not hasattr(self.model, "text_to_image"):
            raise ValueError(
                f"Prompts are for a model of words, such as TextToImage. Received: {type(self.model).__name__}"
            )
        if not hasattr(self.model, "generate"):
            raise ValueError(
                "SampleGrid needs a model with generate(), such as DiffusionModel. Received: "
                f"{type(self.model).__name__}"
            )

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == (self.params or {}).get("epochs")
        if (epoch + 1) % self.every == 0 or last:
            self.draw(epoch + 1)

    def draw(self, epoch):
        """Draws a grid now.

        Args:
            epoch: number of finished epochs, which names the file.

        Returns:
            the path of the picture, `pathlib.Path`; None if samples are not finite (with a warning) or this is not the
            first process.

        Raises:
            ValueError: samples that are no images.
            OSError: the picture could not be written.
        """
        try:
            samples = np.asarray(self._samples())
        except FloatingPointError:
            samples = np.array([np.nan])
        if not is_writer():  # samples are drawn by all processes together
            return None
        if not np.isfinite(samples).all():
            # A picture is no reason to stop training; TerminateOnNonFinite does that.
            warnings.warn(
                f"SampleGrid: the samples after epoch {epoch} hold NaN or infinity; no picture is written.",
                stacklevel=2,
            )
            return None
        if samples.ndim == 5:
            grid = film_strip(samples.swapaxes(0, 1), steps=samples.shape[1], scale=self.scale)
        else:
            grid = image_grid(samples, cols=self.cols, scale=self.scale, titles=self.titles, captions=self.prompts)
        png = png_bytes(grid)
        if self.tensorboard is not None:
            self._events = self._events or EventFile(self.tensorboard)
            self._events.image("samples", grid, png, step=epoch)
        return write_whole(self.directory / f"epoch-{epoch:04d}.png", png)

    def _samples(self):
        if self.prompts is None:
            return self.model.generate(**self.generate_options)
        return self.model.text_to_image(self.prompts, **self.generate_options)
