"""From a batch to the latents that a diffusion model learns: of pictures, or of what an encoder has made of them.

    images  ── encoder ──▶ mean, log variance ─┐
    moments ───────────────────────────────────┴─▶ mean, or mean + standard deviation·noise ─┐
    latents ─────────────────────────────────────────────────────────────────────────────────┴─▶ scale·(· − shift)

All of it happens in the compiled step, so that a batch of moments (`data.pack`) gives the latents of its pictures, with
the same noise, and the autoencoder's scale is that of today.
"""

import keras
from keras import ops

from keras_diffusion.configs.checks import check_flag, shown
from keras_diffusion.models import validation
from keras_diffusion.models.batch_checks import without_invalid
from keras_diffusion.networks.autoencoder import scaled
from keras_diffusion.networks.fingerprint import autoencoder_fingerprint


def has_distribution(autoencoder):
    """Whether an autoencoder tells a distribution of latents, from which they can be drawn."""
    return callable(getattr(autoencoder, "moments", None)) and not hasattr(autoencoder, "bottleneck")


def check_sampling(sample_latents, autoencoder):
    """`sample_latents` as a bool.

    Raises:
        ValueError: what is no bool; True for an autoencoder without a distribution of latents, or for none.
    """
    if check_flag("sample_latents", sample_latents) and not has_distribution(autoencoder):
        raise ValueError(
            "Latents are drawn from the distributions that an autoencoder with `moments` tells, such as "
            f"`networks.AutoencoderKL`. Received: sample_latents=True, autoencoder={shown(autoencoder)}. Leave "
            "sample_latents out"
        )
    return sample_latents


def means_of(autoencoder, means):
    """The latents that an encoder's means stand for, before `scale` and `shift`: those of codes go through the
    bottleneck first.

    Args:
        autoencoder: the autoencoder.
        means: `(B, h, w, D)`.

    Returns:
        tensor like `means`.
    """
    bottleneck = getattr(autoencoder, "bottleneck", None)
    return means if bottleneck is None else bottleneck.latents(means)


def encoded_means(autoencoder, images):
    """What an autoencoder makes of pictures before `scale` and `shift`, without chance.

    Args:
        autoencoder: model with `means` or `moments`, and perhaps a `bottleneck`.
        images: `(B, H, W, channels)` in [−1, 1].

    Returns:
        tensor `(B, h, w, D)`.
    """
    means = getattr(autoencoder, "means", None)
    return means_of(autoencoder, means(images) if callable(means) else autoencoder.moments(images)[0])


def unpack(data, autoencoder, sample_shape, known, seed=None):
    """A batch of a latent diffusion model as (latents, conditions); for use inside a step.

    Args:
        data: the batch, see `DiffusionModel`.
        autoencoder: of the model.
        sample_shape: of the network, `(h, w, D)`.
        known: further arguments of `validation.unpack_batch`.
        seed: `SeedGenerator` that latents are drawn by; None (default) takes their means.

    Returns:
        (scaled latents, float32 `(B, h, w, D)`, without NaN; dict of conditions).

    Raises:
        ValueError: as `validation.unpack_batch`.
    """
    key = validation.sample_key(data)
    doubled = key == validation.MOMENTS_KEY
    shape = (*sample_shape[:-1], 2 * sample_shape[-1]) if doubled else sample_shape
    shape = (None,) * len(sample_shape) if key == validation.SAMPLE_KEY else shape
    x, conditions = validation.unpack_batch(data, shape, *known, key=key)
    x, _ = without_invalid(x, {}, None, None)
    if key == validation.SAMPLE_KEY and seed is None:
        latents = autoencoder.encode(x)
    elif key == validation.LATENTS_KEY:
        latents = scaled(autoencoder, x)
    else:
        mean, log_variance = ops.split(x, 2, axis=-1) if doubled else autoencoder.moments(x)
        latents = means_of(autoencoder, mean)
        if seed is not None:
            noise = keras.random.normal(ops.shape(latents), dtype=latents.dtype, seed=seed)
            latents = latents + ops.exp(0.5 * log_variance) * noise
        latents = scaled(autoencoder, latents)
    return ops.stop_gradient(ops.cast(latents, "float32")), conditions


def check_packed(data, model):
    """Raises unless a model has use for the latents that were packed, if data hold some.

    Args:
        data: what is trained on; of `data.Batches` the attribute `latents` counts.
        model: the model that is trained.

    Raises:
        ValueError: a model without an autoencoder, latents of another size or kind.
    """
    packed, shape = getattr(data, "latents", None), getattr(model, "sample_shape", ())
    if packed is None:
        return
    if not hasattr(model, "sample_latents") or model.autoencoder is None:
        raise ValueError(
            f"Packed latents are for a DiffusionModel with the autoencoder that made them. Received: {packed} for a "
            f"{type(model).__name__}{' without an autoencoder' if hasattr(model, 'sample_latents') else ''}. Train it "
            "on the pictures, or pass autoencoder="
        )
    fits = len(shape) == len(packed.shape) and all(a in (None, b) for a, b in zip(shape, packed.shape, strict=True))
    if not fits:
        raise ValueError(
            f"The network takes latents of shape {tuple(shape)}. Received: {packed}. Pack pictures of the size that "
            "the network is for, or make a network for these latents"
        )
    if model.sample_latents and packed.kind != "moments":
        raise ValueError(
            "A model with sample_latents=True draws latents from their distributions. Received: "
            f"{packed}. Pack the pictures with latents='moments', or leave sample_latents out"
        )


def check_fingerprint(data, model):
    """Raises unless latents that were packed, if data hold some, are those of the model's autoencoder.

    Args:
        data, model: as in `check_packed`.

    Raises:
        ValueError: latents of another autoencoder.
    """
    packed = getattr(data, "latents", None)
    own = None if packed is None else autoencoder_fingerprint(model.autoencoder)
    if packed is not None and own != packed.fingerprint:
        raise ValueError(
            f"Packed latents are those of the model's autoencoder. Received: {packed}, fingerprint "
            f"{packed.fingerprint}, for a model with the {type(model.autoencoder).__name__} {own}. Pack the pictures "
            "again with this autoencoder, or train with the one of then"
        )
