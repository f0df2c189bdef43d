"""Inversion: the noise that a model would make a given sample of. The part of `DiffusionModel` that walks upwards."""

import numpy as np

from keras_diffusion import samplers
from keras_diffusion.configs.checks import check_array
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import check_batch_size, check_guidance_scale
from keras_diffusion.models.sampling_loop import check_samples, sampling_levels
from keras_diffusion.models.weight_guard import reads_weights


class InversionMixin:
    """`invert`, for a model that can `generate`."""

    @reads_weights
    def invert(
        self,
        samples,
        conditions=None,
        num_steps=50,
        sampler="ddim_inversion",
        guidance_scale=1.0,
        weights="ema",
        spacing=None,
        batch_size=None,
    ):
        """The noise from which `generate` makes given samples again, deterministically.

        `generate(latents=model.invert(samples), sampler="ddim")` with the same number of steps, conditions and spacing
        gives the samples back, the better the more steps; with `sampler={"name": "ddim_inversion", "iterations": 5}`
        much better. "dpmpp_2m_inversion", followed by "dpmpp_2m", needs fewer steps. With other conditions it gives
        them changed: that is editing by inversion. Inversion under guidance is less exact, as guidance makes the path
            bend.

        Args:
            samples: `(N, ...)`, float in [−1, 1] or uint8. Where there is an autoencoder, it encodes them.
            conditions: dict, as in `generate`: what the samples show.
            num_steps: number of steps ≥ 1. Default 50.
            sampler: `Sampler` that walks upwards, its name, or a dict with options. Default "ddim_inversion".
            guidance_scale: w of classifier-free guidance; 1 (default) is off.
            weights: "ema" (default), the average, where there is one; or "raw".
            spacing: as in `generate`.
            batch_size: samples per batch; None (default): all at once.

        Returns:
            float32 array `(N, *sample_shape)`: x at the noisiest level divided by its σ, which for samples that the
            model knows is about standard normal. (Where that level is not pure noise, α > 0, x there holds a rest of
            the sample, α·x0; so do the latents.)

        Raises:
            ValueError: a sampler that walks downwards, samples of another shape than the network's, or as `generate`.
            FloatingPointError: latents that are not finite.
        """
        guidance_scale, batch_size = check_guidance_scale(guidance_scale), check_batch_size(batch_size)
        sampler = samplers.get(sampler)
        if not sampler.ascends:
            raise ValueError(
                "Inversion needs a sampler that walks upwards: 'ddim_inversion' or 'dpmpp_2m_inversion'. "
                f"Received: sampler={type(sampler).__name__}"
            )
        samples = self._encoded(check_array("samples", samples, finite=False), "samples")
        shape = self._sizes_known(samples)
        num_samples = len(samples) if np.ndim(samples) > len(shape) else 1
        samples = validation.start_images(samples, num_samples, shape, "samples", pictures=self.autoencoder is None)
        conditions, _ = validation.generation_conditions(conditions, num_samples, self.network, self.class_names)
        levels = sampling_levels(self.noise_schedule, self._spacing(spacing), num_steps)
        values, size, parts = self._weight_values(weights), batch_size or num_samples, []
        for first in range(0, num_samples, size):
            rows = slice(first, min(first + size, num_samples))
            given = {key: value[rows] for key, value in conditions.items()}
            guided, scale = guidance_scale != 1.0, np.float32(guidance_scale)
            x, _, _ = self._generator.run(
                sampler, levels, self.noise_schedule, samples[rows], values, given, scale, {}, guided, 0, first
            )
            parts.append(x / levels.sigma[0])
        latents = np.concatenate(parts).astype("float32")
        check_samples(latents, sampler, num_steps, values, "Latents")
        return latents
