"""Log-likelihood under a trained model, by a walk upwards. The maths is in `samplers/likelihood.py`.

The network is evaluated from σ/α = `sigma_min` up to the end of the schedule, and the density is that of the data with
this little noise.
"""

import math
from collections import namedtuple

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_array, check_numbers
from keras_diffusion.core.noise import check_seed, philox
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import check_batch_size, check_verbose
from keras_diffusion.models.guided_denoiser import DenoiserInputs, weight_values
from keras_diffusion.models.outputs import check_samples
from keras_diffusion.models.sample_shapes import sample_shape_of
from keras_diffusion.models.sampling_levels import likelihood_levels
from keras_diffusion.models.sampling_loop import Request, walk_batches
from keras_diffusion.runtime.devices import to_host
from keras_diffusion.runtime.progress import progress_bar, progress_lines
from keras_diffusion.samplers.likelihood import ProbabilityFlow, check_probes, is_exact, make_probes, standard_error
from keras_diffusion.samplers.walk import Walk

#: The arguments of `SamplingMethods.log_likelihood`, in its order: first as the caller gave them, then checked.
LikelihoodArguments = namedtuple(
    "LikelihoodArguments",
    "data conditions num_steps method divergence num_probes seed prior data_mean data_std sigma_min weights batch_size "
    "verbose",
)


def log_likelihood(model, arguments):
    """Log-densities of samples under a model.

    Args:
        model: `DiffusionModel`.
        arguments: `LikelihoodArguments`, as the caller gave them.

    Returns:
        see `SamplingMethods.log_likelihood`.
    """
    checked, flow = _checked(model, arguments), ProbabilityFlow(arguments.method)
    levels = flow.check(likelihood_levels(model.noise_schedule, checked.num_steps, checked.sigma_min))
    dims = math.prod(checked.data.shape[1:])
    request = _request(model, checked, flow, levels)
    densities, errors = [], []
    for batch in walk_batches(model, request):
        integral = ops.convert_to_tensor(to_host(batch.state["integral"])[: len(batch.x)])
        walk = Walk(ops.convert_to_tensor(batch.x), {"integral": integral}, ())
        densities.append(flow.log_density(walk, levels, checked.prior, checked.data_mean, checked.data_std))
        errors.append(standard_error(integral))
    model.likelihood_report = _report(checked, dims, np.concatenate(errors))
    # From the density of α·data to that of the data.
    result = np.concatenate(densities).astype("float64") + dims * math.log(levels.alpha[0])
    check_samples(result, flow, checked.num_steps, request.inputs.values, "Log-likelihoods")
    return result


def bits_per_dim(model, data, conditions, seed, options):
    """See `SamplingMethods.bits_per_dim`; `options` is a dict."""
    seed, data = check_seed(seed), check_array("data", data, finite=False)
    if data.dtype == np.uint8:
        data = data if data.ndim > len(model.sample_shape) else data[None]
        noise = [philox(seed, i).random(image.shape) for i, image in enumerate(data)]
        data = ((data + np.stack(noise) - 0.5) / 127.5 - 1.0).astype("float32")
    nats = model.log_likelihood(data, conditions, seed=seed, **options)
    unit = math.prod(sample_shape_of(model, data)) * math.log(2.0)
    if model.likelihood_report["standard_error"] is not None:
        model.likelihood_report["standard_error"] /= unit
    return -nats / unit + math.log2(127.5)


def _checked(model, given):
    data = check_array("data", given.data, finite=False)
    shape = sample_shape_of(model, data)
    count = len(data) if np.ndim(data) > len(shape) else 1
    data = validation.start_images(data, count, shape, "data", pictures=model.autoencoder is None)
    network, names = model.network, model.class_names
    conditions, count = validation.generation_conditions(given.conditions, count, network, names)
    seed, batch_size = check_seed(given.seed), check_batch_size(given.batch_size)
    check_numbers(data_mean=given.data_mean, data_std=given.data_std, sigma_min=given.sigma_min)

    check_verbose(given.verbose)
    check_probes(given.divergence, given.num_probes)
    return given._replace(data=data, conditions=conditions, seed=seed, batch_size=batch_size or count)


def _request(model, checked, flow, levels):
    count, steps = len(checked.data), checked.num_steps * -(-len(checked.data) // checked.batch_size)
    progress = progress_bar(checked.verbose, steps)
    if progress is None and checked.verbose == "auto":
        progress = progress_lines(steps, "Likelihood")

    def start(flow, x, denoise, first):
        probes = make_probes(x.shape, checked.divergence, checked.num_probes, checked.seed, first)
        return flow.start(x, denoise, probes)

    return Request(
        sampler=flow,
        levels=levels,
        schedule=model.noise_schedule,
        num_samples=count,
        batch_size=checked.batch_size,
        first_x=lambda rows: levels.alpha[0] * checked.data[rows],
        inputs=DenoiserInputs(weight_values(model, checked.weights), checked.conditions, np.float32(1.0), {}, {}, ()),
        progress=progress,
        start=start,
    )


def _report(checked, dims, errors):
    """What `likelihood_report` holds."""
    if is_exact(checked.divergence, dims):
        return {"divergence": "exact", "num_probes": None, "standard_error": np.zeros(len(errors))}
    count = int(checked.num_probes)
    error = errors.astype("float64") if count > 1 else None
    return {"divergence": "hutchinson", "num_probes": count, "standard_error": error}
