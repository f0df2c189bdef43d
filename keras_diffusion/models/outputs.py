"""What a walk has arrived at, on its way to the caller: decoded, checked, clipped, as pixels."""

import keras
import numpy as np

from keras_diffusion.runtime.devices import run_batch, to_host


def decoded(model, x, batch_size):
    """Samples of latents `(N, ...)`, batch by batch; x itself where the model has no autoencoder."""
    if model.autoencoder is None:
        return x
    batches = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
    return np.concatenate([run_batch(model.autoencoder.decode, batch) for batch in batches])


def check_samples(x, sampler, num_steps, values, what="Samples"):
    """Raises if samples hold NaN or infinity, which clipping and rounding would make black pixels of.

    Args:
        x: array `(N, ...)`.
        sampler: `Sampler` that made it.
        num_steps: its number of steps.
        values: the weights that it was made with, tensors.
        what: what x is, for the message.

    Raises:
        FloatingPointError: with the number of such samples, and whether the weights are finite.
    """
    bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not bad.any():
        return
    broken = sum(
        not bool(np.isfinite(np.asarray(to_host(v), "float32")).all())
        for v in values
        if keras.backend.is_float_dtype(v.dtype)
    )
    cause = (
        f"{broken} of {len(values)} weights hold NaN or infinity: go back to an earlier state of the training"
        if broken
        else "All weights are finite: try more steps, another sampler, less guidance, or float32 in place of float16"
    )
    raise FloatingPointError(
        f"{what} must be finite. Received: NaN or infinity in {int(bad.sum())} of {len(x)}, first in sample "
        f"{int(np.argmax(bad))}, made by {type(sampler).__name__} in {num_steps} steps. {cause}"
    )


def to_pixels(x, clip, dtype):
    """Clips to [−1, 1] where asked, and converts to "float32" or "uint8"."""
    x = np.clip(x, -1.0, 1.0) if clip or dtype == "uint8" else x
    return np.round((x + 1.0) * 127.5).astype("uint8") if dtype == "uint8" else x.astype("float32")
