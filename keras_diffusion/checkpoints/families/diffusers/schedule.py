"""diffusers' `scheduler_config.json` → noise schedule, spacing, predictor and sampler.

diffusers' scheduler is three things here: the noise levels of training, the meaning of the network's output, and how
it is sampled. The first two must match exactly; the third is what `generate` does by default.

    beta_schedule, beta_start, beta_end, trained_betas, rescale_betas_zero_snr    → noise schedule
    timestep_spacing, steps_offset, use_…_sigmas, sigma_min, sigma_max            → its spacing
    prediction_type                                                               → predictor, on timesteps
    FlowMatch…: shift                                                             → flow schedule, velocity
    EDM…: sigma_min, sigma_max, sigma_data, rho                                   → VE schedule, EDM's predictor
    the class, solver_order, algorithm_type, variance_type, …                     → sampler
    clip_sample, thresholding                                                     → threshold

Which classes and keys there are is in `scheduler_classes.py`; the way back is in `schedule_writing.py`.
"""

from keras_diffusion import predictors, schedulers
from keras_diffusion.checkpoints.families.diffusers.scheduler_classes import complete
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.models.sampling_defaults import check_sampling_defaults

PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}
RANGES = {"linear": "linear", "scaled_linear": "scaled_linear", "sigmoid": "sigmoid_beta"}
_CURVES = {"squaredcos_cap_v2": "cosine_beta", "laplace": "laplace_beta", "exp": "exp"}
# What networks of a class are trained with, for files without a scheduler.
_LINEAGE = {
    "UNet2DConditionModel": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
    },
    "UNet2DModel": {},
    "DiTTransformer2DModel": {},
}


def read_schedule(config, class_name, path=None):
    """The noise schedule and predictor of a scheduler.

    Args:
        config: dict of `scheduler_config.json`, or None for what networks of the class usually have.
        class_name: diffusers' class of the network.
        path: the folder, for errors.

    Returns:
        (noise schedule, predictor, notes).

    Raises:
        CheckpointError: a scheduler, a key, a prediction type or a table of betas that is not known here.
    """
    notes = []
    if config is None:
        config = _LINEAGE[class_name]
        told = ", ".join(f"{key}={value}" for key, value in config.items()) or "linear betas from 1e-4 to 0.02"
        notes.append(f"No scheduler is beside the network; assumed: noise is predicted, 1000 timesteps, {told}.")
    name, known, config, more = complete(config, path)
    notes += more
    try:
        schedule = _schedule(name, known, config, notes, path)
    except (ValueError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"The config of this {name} makes no noise schedule: {error}", path) from error
    return schedule, _read_predictor(known, config, path), notes


def read_sampling(config, path=None):
    """How a scheduler samples: `sampling_defaults` of a `DiffusionModel`; {} for None.

    Args:
        config: dict of `scheduler_config.json`, or None where there is none.
        path: the folder, for errors.

    Raises:
        CheckpointError: as `read_schedule`, or options that the samplers here do not have.
    """
    if config is None:
        return {}
    name, known, config, _ = complete(config, path)
    try:
        sampling = {"sampler": known.sampler(config)}
        threshold = _threshold(config)
        if threshold:
            sampling["guidance"] = {**threshold, **({"keep_eps": True} if known.keeps_eps else {})}
        return check_sampling_defaults(sampling)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"The options of this {name} make no sampler here: {error}", path) from error


def _threshold(config):
    if config.get("thresholding"):
        options = {"quantile": config["dynamic_thresholding_ratio"], "ceiling": config["sample_max_value"]}
        return {"name": "dynamic_threshold", **options}
    return {"name": "static_threshold", "limit": config["clip_sample_range"]} if config.get("clip_sample") else None


def _schedule(name, known, config, notes, path):
    if known.kind == "flow":
        if config.get("use_dynamic_shifting"):
            notes.append("The scheduler shifts with the size of the image; see schedulers.flow_shift. Taken: no shift.")
        shift = 1.0 if config.get("use_dynamic_shifting") else config["shift"]
        return schedulers.get("flow", shift=shift, spacing=_grid(name, known, config))
    if known.kind == "edm":
        curve = {"name": "karras", "rho": config["rho"]} if config["sigma_schedule"] == "karras" else "exponential"
        return schedulers.get("ve", sigma_min=config["sigma_min"], sigma_max=config["sigma_max"], spacing=curve)
    options = {
        "zero_terminal_snr": bool(config.get("rescale_betas_zero_snr", False)),
        "spacing": _grid(name, known, config),
    }
    return _discrete(config, config["num_train_timesteps"], options, path)


def _grid(name, known, config):
    """The spacing: by its plain name where that is the same."""
    curves = [curve for curve in ("karras", "exponential", "beta") if config.get(f"use_{curve}_sigmas")]
    spacing, offset = config.get("timestep_spacing", "linspace"), config.get("steps_offset", 0)
    grid = {"name": "diffusers", "kind": known.kind}
    if curves:
        told = known.told[curves[0] != "karras"]
        if name == "DPMSolverMultistepScheduler" and config["beta_schedule"] == "squaredcos_cap_v2":
            told = known.told[1]
        limits = {key: config[key] for key in ("sigma_min", "sigma_max") if config.get(key) is not None}
        grid |= {"curve": curves[0], "told": told, **limits}
    if known.kind == "flow":
        return {**grid, "timesteps": config["num_train_timesteps"]}
    if known.kind == "consistency":
        return {**grid, "original_steps": config["original_inference_steps"]}
    if config.get("interpolation_type") == "log_linear":
        grid["log_linear"] = True
    if config.get("lambda_min_clipped", float("-inf")) > float("-inf"):
        grid["log_snr_min"] = 2.0 * config["lambda_min_clipped"]
    # Where the table ends in pure noise, the other kinds take a little less.
    plain = len(grid) == 2 and (known.kind == "table" or not config.get("rescale_betas_zero_snr"))
    if plain and spacing == "leading" and known.kind != "solver":
        return {"name": "leading", "offset": offset}
    if plain and spacing == "trailing":
        return "trailing"
    return {**grid, "spacing": spacing, **({"offset": offset} if spacing == "leading" else {})}


def _read_predictor(known, config, path):
    prediction, timesteps = config.get("prediction_type", "epsilon"), config["num_train_timesteps"]
    if known.kind == "flow":
        return _predictor("velocity", timesteps, "flow_timestep")
    if known.kind == "edm":
        _known("prediction_type", prediction, ("epsilon",), path)
        return predictors.get("edm", sigma_data=config["sigma_data"])
    _known("prediction_type", prediction, PREDICTIONS, path)
    if prediction == "epsilon" and config.get("rescale_betas_zero_snr"):
        raise CheckpointError(
            "A network that predicts noise says nothing about the image where there is nothing but noise, "
            f"which rescaled betas end with. Received: prediction_type={prediction!r}, "
            "rescale_betas_zero_snr=True. Put into scheduler_config.json what it was trained with: "
            "prediction_type 'v_prediction', or rescale_betas_zero_snr false.",
            path,
        )
    return _predictor(PREDICTIONS[prediction], timesteps, "timestep")


def _known(key, value, known, path):
    if value not in known:
        raise CheckpointError(
            f"`{key}` of a scheduler is one of {', '.join(map(repr, known))} here. Received: {key}={value!r}.", path
        )


def _discrete(config, timesteps, options, path):
    if config["trained_betas"] is not None:
        return schedulers.get("discrete", betas=config["trained_betas"], **options)
    betas = config["beta_schedule"]
    if betas in _CURVES:
        return schedulers.get(_CURVES[betas], timesteps=timesteps, **options)
    _known("beta_schedule", betas, (*RANGES, *_CURVES), path)
    # Betas here are meant for 1000 steps.
    scale = timesteps / 1000.0
    limits = {"beta_start": config["beta_start"] * scale, "beta_end": config["beta_end"] * scale}
    return schedulers.get(RANGES[betas], timesteps=timesteps, **limits, **options)


def _predictor(name, timesteps, condition):
    return predictors.get(name, condition=condition, timesteps=timesteps)
