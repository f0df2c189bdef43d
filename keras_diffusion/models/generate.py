"""`generate`: check the arguments, make a request of them, walk, decode."""

import math
from collections import namedtuple

import numpy as np

from keras_diffusion import samplers, schedulers
from keras_diffusion.configs.checks import check_array, shown
from keras_diffusion.core.noise import check_seed, initial_noise
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import check_mask_use, check_walk, latent_mask_of
from keras_diffusion.models.guidance_argument import check_two_scales, read_guidance
from keras_diffusion.models.guided_denoiser import DenoiserInputs, weight_values
from keras_diffusion.models.outputs import check_samples, decoded, to_pixels
from keras_diffusion.models.sample_shapes import encoded, sample_shape_of
from keras_diffusion.models.sampling_defaults import DEFAULT_SAMPLER
from keras_diffusion.models.sampling_levels import sampling_levels
from keras_diffusion.models.sampling_loop import Arrived, Request, joined, walk_batches
from keras_diffusion.networks.network import MASK_KEY
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.progress import progress_bar
from keras_diffusion.samplers.tables import recorded

#: The arguments of `SamplingMethods.generate`, in its order: first as the caller gave them, then checked.
GenerateArguments = namedtuple(
    "GenerateArguments",
    "num_samples conditions num_steps sampler guidance_scale seed init strength mask trajectory weights verbose "
    "spacing guidance batch_size clip dtype noise on_step latents negative_conditions size",
)


def generate(model, arguments):
    """Samples from a model.

    Args:
        model: `DiffusionModel`.
        arguments: `GenerateArguments`, as the caller gave them.

    Returns:
        see `SamplingMethods.generate`.
    """
    checked = _with_arrays(model, _checked(model, arguments))
    request = _request(model, checked)
    arrived = walk_batches(model, request) if checked.strength else [_unmoved(checked)]
    x, recordings, model.sampling_report = joined(arrived)
    x = decoded(model, x, request.batch_size)
    check_samples(x, request.sampler, checked.num_steps, request.inputs.values)
    x = to_pixels(x, x.ndim > 2 if checked.clip == "auto" else checked.clip, checked.dtype)
    return (x, *recordings) if request.kept else x


def _checked(model, given):
    """The arguments that need no network, checked: names are objects now, conditions have a row per sample."""
    given = check_walk(given)
    scale, strength = given.guidance_scale, given.strength
    init = None if given.init is None else check_array("init", given.init, finite=False)
    latents = None if given.latents is None else check_array("latents", given.latents, finite=False)
    num_samples = given.num_samples
    if latents is not None and num_samples is None and np.ndim(latents) > len(model.sample_shape):
        num_samples = len(latents)
    conditions, negative, num_samples = _checked_conditions(model, given, num_samples, scale)
    if init is None and (strength != 1.0 or given.mask is not None):
        raise ValueError(
            f"`strength` and `mask` act on `init`: pass the images too. Received: strength={strength}, init=None"
        )
    own = model.sampling_defaults
    guiding = read_guidance(given.guidance, scale, own.get("guidance"), own_wrappers=given.clip is not False)
    check_two_scales(guiding, conditions)
    sampler = samplers.get(own.get("sampler", DEFAULT_SAMPLER) if given.sampler is None else given.sampler)
    if sampler.ascends:
        raise ValueError(
            f"Samples are made walking down; for the way up call `invert`. Received: sampler={type(sampler).__name__}"
        )
    check_mask_use(sampler, given.mask)
    return given._replace(
        num_samples=num_samples,
        conditions=conditions,
        sampler=sampler,
        init=init,
        spacing=spacing_of(model, given.spacing),
        guidance=guiding,
        seed=check_seed(given.seed),
        batch_size=given.batch_size or num_samples,
        latents=latents,
        negative_conditions=negative,
    )


def _checked_conditions(model, given, num_samples, guidance_scale):
    """(conditions, negative conditions, number of samples), the first two dicts of arrays with one row per sample."""
    network, names = model.network, model.class_names
    conditions, num_samples = validation.generation_conditions(given.conditions, num_samples, network, names)
    if guidance_scale != 1.0 and not conditions:
        raise ValueError(
            "Guidance strengthens a condition, and none is given. "
            f"Received: guidance_scale={guidance_scale}; the network's conditions are: "
            f"{', '.join(model.condition_keys) or 'none'}"
        )
    negative, _ = validation.generation_conditions(given.negative_conditions, num_samples, network, names)
    if guidance_scale == 1.0 and negative:
        raise ValueError(
            "Negative conditions are what guidance leads away from, and a scale of 1 is no guidance. "
            f"Received: guidance_scale=1, negative_conditions={shown(given.negative_conditions)}. Give a "
            "guidance_scale as well"
        )
    if MASK_KEY in negative and "context" in conditions:  # one batch holds both
        conditions.setdefault(MASK_KEY, np.ones(conditions["context"].shape[:2], bool))
    validation.check_negative(negative, conditions)
    _check_null_class(model, conditions, negative, guidance_scale)
    return conditions, negative, num_samples


def _check_null_class(model, conditions, negative, guidance_scale):
    """Networks without a label for "no class" need one for every sample, and one to lead away from."""
    if "labels" not in model.condition_keys or model.network.null_labels is not None:
        return
    if "labels" not in conditions or (guidance_scale != 1.0 and "labels" not in negative):
        raise ValueError(
            "Labels left out, and guidance without a negative label, mean “no class”, which this network does not "
            f"know. Received: conditions={sorted(conditions)}, guidance_scale={guidance_scale}. Pass labels, and for "
            "guidance `negative_conditions`"
        )


def spacing_of(model, spacing):
    """The `Spacing` that is asked for; for None the model's own, else the schedule's."""
    choices = (spacing, model.sampling_defaults.get("spacing"), model.noise_schedule.spacing)
    return schedulers.get_spacing(next(choice for choice in choices if choice is not None))


def _with_arrays(model, checked):
    """The arguments with `init`, `mask` and `latents` as the network sees them, and `size` the shape of a sample."""
    init, mask, latents = encoded(model, checked.init, "init"), checked.mask, checked.latents
    count = checked.num_samples
    concat = checked.conditions.get("concat")
    shape = sample_shape_of(model, latents if init is None else init, checked.size, concat)
    limits.check(math.prod(shape), "image_pixels", "The number of values of a sample")
    validation.check_concat_size(concat, shape)
    if init is not None:
        init = validation.start_images(init, count, shape, pictures=model.autoencoder is None)
        factor = getattr(model.autoencoder, "size_multiple", 1)
        mask = None if mask is None else latent_mask_of(mask, count, shape, factor)
    if latents is not None:
        latents = validation.start_images(latents, count, shape, "latents", pictures=False)
    return checked._replace(init=init, mask=mask, latents=latents, size=shape)


def _request(model, checked):
    """The `Request` of checked arguments."""
    count, init, latents, guiding = checked.num_samples, checked.init, checked.latents, checked.guidance
    levels = sampling_levels(model.noise_schedule, checked.spacing, checked.num_steps, checked.strength or 1.0)
    inputs = DenoiserInputs(
        values=weight_values(model, checked.weights),
        conditions=checked.conditions,
        scale=np.float32(checked.guidance_scale),
        negative=checked.negative_conditions,
        numbers={key: np.float32(value) for key, value in guiding.numbers.items()},
        known=() if checked.mask is None else (init, checked.mask),
    )

    def first_x(rows):
        """σ·z, or α·init + σ·z; z is drawn unless it is given as `latents`."""
        z = initial_noise(checked.seed, range(count)[rows], checked.size) if latents is None else latents[rows]
        alpha, sigma = levels.alpha[0], levels.sigma[0]
        return sigma * z if init is None else alpha * init[rows] + sigma * z

    return Request(
        sampler=checked.sampler,
        levels=levels,
        schedule=model.noise_schedule,
        num_samples=count,
        batch_size=checked.batch_size,
        first_x=first_x,
        inputs=inputs,
        guiding=guiding,
        guided=checked.guidance_scale != 1.0,
        seed=checked.seed,
        noise=checked.noise,
        kept=recorded(checked.trajectory),
        on_step=checked.on_step,
        progress=progress_bar(checked.verbose, checked.num_steps * -(-count // checked.batch_size)),
    )


def _unmoved(checked):
    """What a strength of 0 leaves: `init`, at every step."""
    kept = recorded(checked.trajectory)
    return Arrived(checked.init, tuple(np.repeat(checked.init[None], checked.num_steps, axis=0) for _ in kept), {})
