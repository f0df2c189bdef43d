"""Inversion: the noise that a model would make a given sample of, by a walk upwards."""

import numpy as np

from keras_diffusion import samplers
from keras_diffusion.configs.checks import check_array
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import check_batch_size, check_guidance_scale
from keras_diffusion.models.generate import spacing_of
from keras_diffusion.models.guided_denoiser import DenoiserInputs, weight_values
from keras_diffusion.models.outputs import check_samples
from keras_diffusion.models.sample_shapes import encoded, sample_shape_of
from keras_diffusion.models.sampling_levels import sampling_levels
from keras_diffusion.models.sampling_loop import Request, joined, walk_batches


def invert(model, samples, conditions, num_steps, sampler, guidance_scale, weights, spacing, batch_size):
    """See `SamplingMethods.invert`."""
    guidance_scale, batch_size = check_guidance_scale(guidance_scale), check_batch_size(batch_size)
    sampler = samplers.get(sampler)
    if not sampler.ascends:
        raise ValueError(
            "Inversion needs a sampler that walks upwards: 'ddim_inversion' or 'dpmpp_2m_inversion'. "
            f"Received: sampler={type(sampler).__name__}"
        )
    samples = encoded(model, check_array("samples", samples, finite=False), "samples")
    shape = sample_shape_of(model, samples)
    count = len(samples) if np.ndim(samples) > len(shape) else 1
    samples = validation.start_images(samples, count, shape, "samples", pictures=model.autoencoder is None)
    conditions, _ = validation.generation_conditions(conditions, count, model.network, model.class_names)
    levels = sampling_levels(model.noise_schedule, spacing_of(model, spacing), num_steps)
    request = Request(
        sampler=sampler,
        levels=levels,
        schedule=model.noise_schedule,
        num_samples=count,
        batch_size=batch_size or count,
        first_x=lambda rows: samples[rows],
        inputs=DenoiserInputs(weight_values(model, weights), conditions, np.float32(guidance_scale), {}, {}, ()),
        guided=guidance_scale != 1.0,
    )
    x, _, _ = joined(walk_batches(model, request))
    latents = (x / levels.sigma[0]).astype("float32")
    check_samples(latents, sampler, num_steps, request.inputs.values, "Latents")
    return latents
