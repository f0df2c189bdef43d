"""Known channels beside the sample: the condition "concat", and what Stable Diffusion's descendants expect in it.

    x_t   (H, W, C)  noisy, what is denoised ──┐
                                               ├── the network's first layer sees C + K channels, its output has C
    concat (H, W, K)  known, never noised ─────┘

Inpainting sees a mask and the rest of the image, InstructPix2Pix the image to edit, super-resolution the small image
enlarged. Known channels are not scaled with x_t (`Predictor.input_scale`), and zeros mean that nothing is known.
"""

import numpy as np

from keras_diffusion.models.arguments import mask_of
from keras_diffusion.models.latents import encoded_means
from keras_diffusion.models.validation import scaled_images
from keras_diffusion.runtime.devices import run_batch


def inpainting_condition(images, mask, autoencoder):
    """The condition "concat" of Stable Diffusion's inpainting networks: where to fill in, and the latents of all else.

    Args:
        images: `(N, H, W, channels)`, or one without the batch axis; float in [−1, 1] or uint8.
        mask: `(N, H, W, 1)`, `(N, H, W)`, `(H, W, 1)` or `(H, W)` in [0, 1], of the images' size: 1 where the image is
            kept, 0 where the model fills in, as in `generate`. (The pipelines of diffusers have it the other way
            round.)
        autoencoder: the model's, such as `networks.AutoencoderKL`.

    Returns:
        float32 array `(N, H/f, W/f, 1 + latent channels)`: 1 where the model fills in, then the scaled latents of the
        images with that part set to 0, middle grey. The latents are the mean of what the encoder tells.

    Raises:
        ValueError: images or a mask of another shape, a mask outside [0, 1], images of a size that the encoder does not
            take.

    Example:

    >>> concat = keras_diffusion.models.inpainting_condition(image, mask, model.autoencoder)
    >>> images = model.text_to_image("a bench in the snow", concat=concat)
    """
    images = _batch(images)
    kept = (
        mask_of(mask, len(images), (*images.shape[1:3], 1)) >= 0.5
    )  # the networks were trained on masks of zeros and ones
    kept = np.broadcast_to(kept, (*images.shape[:3], 1))
    latents = run_batch(autoencoder.encode, np.where(kept, images, 0.0).astype("float32"))
    # Every f-th pixel, as interpolation to the nearest one takes them.
    steps = [size // small for size, small in zip(images.shape[1:3], latents.shape[1:3], strict=True)]
    filled = 1.0 - kept[:, :: steps[0], :: steps[1]].astype("float32")
    return np.concatenate([filled, latents], axis=-1).astype("float32")


def pix2pix_condition(images, autoencoder):
    """The condition "concat" of InstructPix2Pix: the unscaled latents of the images to edit.

    Args:
        images: `(N, H, W, channels)`, or one without the batch axis; float in [−1, 1] or uint8.
        autoencoder: the model's, such as `networks.AutoencoderKL`.

    Returns:
        float32 array `(N, H/f, W/f, latent channels)`: the mean, which is the mode, of what the encoder tells, without
        the factor that the latents of diffusion have.

    Raises:
        ValueError: images of another rank, or of a size that the encoder does not take.

    Example:

    >>> concat = keras_diffusion.models.pix2pix_condition(image, model.autoencoder)
    >>> guidance = {"name": "two_scales", "concat_scale": 1.5}
    >>> images = model.text_to_image("make it winter", concat=concat, guidance=guidance)

    Reference:
        Brooks et al. 2023, arXiv:2211.09800, section 3.2.
    """
    return run_batch(lambda batch: encoded_means(autoencoder, batch), _batch(images)).astype("float32")


def check_output(network):
    """Raises ValueError unless a network's output has the channels of its samples, or twice as many: a learned variance
    behind them.
    """
    output = getattr(network, "output", None)
    if output is None or not hasattr(output, "shape") or not len(output.shape):
        return  # only a functional network tells before it runs
    shape = getattr(network, "sample_shape", None) or network.input["x"].shape[1:]
    channels, outputs = shape[-1], output.shape[-1]
    if outputs in (channels, 2 * channels):
        return
    remedy = (
        "Channels that are known and not denoised (a mask, another image) are a condition of their own: build the "
        "network for the sample "
        f"alone and with `concat_channels`, such as UNet((H, W, {outputs}), concat_channels={channels - outputs}), "
        "and pass them as "
        '"concat" beside "images"'
        if outputs < channels
        else f"Leave `out_channels` out, or take {2 * channels} for a learned variance"
    )
    raise ValueError(
        "A network that denoises has as many channels in its output as in its samples, or twice as many, with a "
        "learned variance. "
        f"Received: a {type(network).__name__} with {channels} channels in and {outputs} out. {remedy}"
    )


def _batch(images):
    images = np.asarray(images)
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4:
        raise ValueError(
            f"Images are (N, H, W, channels), or (H, W, channels) for one. Received: images of shape {images.shape}"
        )
    return scaled_images("images", images)
