"""diffusers' `scheduler_config.json` ↔ noise schedule, spacing and predictor.

A scheduler there is three things here: the noise levels that the network was trained with, what its output means, and how it is sampled.
The first two must be taken over exactly; the third is `generate`'s to choose, and of the config only the spacing becomes its default.

    beta_schedule, beta_start, beta_end, trained_betas, rescale_betas_zero_snr    → noise schedule
    timestep_spacing, steps_offset, use_karras_sigmas                             → its spacing
    prediction_type                                                               → predictor, told timesteps
    FlowMatch…: shift                                                             → flow schedule, velocity
    EDM…: sigma_min, sigma_max, sigma_data                                        → variance-exploding schedule, EDM's predictor
"""

from keras_diffusion import predictors, schedulers
from keras_diffusion.checkpoints.errors import CheckpointError

_PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}
_RANGES = {"linear": "linear", "scaled_linear": "scaled_linear", "sigmoid": "sigmoid_beta"}
_CURVES = {"squaredcos_cap_v2": "cosine_beta", "laplace": "laplace_beta", "exp": "exp"}
_SPACINGS = {"leading": "leading", "trailing": "trailing", "linspace": "linspace"}
# Schedulers whose levels are not a table of betas, or whose network is told something else; EDM's and flow matching are above.
_OTHERS = ("ScoreSde", "KarrasVe", "CMStochastic", "IPNDM", "VQDiffusion", "Amused", "RePaint", "UnCLIP", "Cosine", "CogVideoX")
# What the networks of a class are trained with, where no scheduler is beside them.
_LINEAGE = {
    "UNet2DConditionModel": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1},
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
        CheckpointError: a scheduler, a prediction type or a table of betas that is not known here.
    """
    notes = []
    if config is None:
        config = _LINEAGE[class_name]
        told = ", ".join(f"{key}={value}" for key, value in config.items()) or "linear betas from 1e-4 to 0.02"
        notes.append(f"No scheduler is beside the network; assumed: noise is predicted, 1000 timesteps, {told}.")
    name, timesteps = config.get("_class_name", "DDPMScheduler"), config.get("num_train_timesteps", 1000)
    if name.startswith("FlowMatch"):
        if config.get("use_dynamic_shifting"):
            notes.append("The scheduler shifts with the size of the image; see schedulers.flow_shift. Taken: no shift.")
        shift = 1.0 if config.get("use_dynamic_shifting") else config.get("shift", 1.0)
        return schedulers.get("flow", shift=shift), _predictor("velocity", timesteps, "flow_timestep"), notes
    if name.startswith("EDM"):
        _known("prediction_type", config.get("prediction_type", "epsilon"), ("epsilon",), path)
        _known("sigma_schedule", config.get("sigma_schedule", "karras"), ("karras", "exponential"), path)
        limits = {"sigma_min": config.get("sigma_min", 0.002), "sigma_max": config.get("sigma_max", 80.0)}
        return schedulers.get("ve", **limits), predictors.get("edm", sigma_data=config.get("sigma_data", 0.5)), notes
    if name.startswith(_OTHERS):
        raise CheckpointError(
            f"Networks are read here that were trained with tables of betas, flow matching or EDM. Received: _class_name={name!r}. "
            "If the network is one of these, put its scheduler_config.json there; else read its weights as a single component.",
            path,
        )
    if config.get("clip_sample"):
        notes.append("The scheduler clips predicted images to [-1, 1]: guidance=partial(StaticThreshold, limit=1.0) does.")
    if config.get("thresholding"):
        notes.append("The scheduler thresholds predicted images: guidance=partial(DynamicThreshold, …) does.")
    prediction = config.get("prediction_type", "epsilon")
    _known("prediction_type", prediction, _PREDICTIONS, path)
    options = {"zero_terminal_snr": bool(config.get("rescale_betas_zero_snr", False)), "spacing": _spacing(config)}
    if prediction == "epsilon" and options["zero_terminal_snr"]:
        raise CheckpointError(
            "A network that predicts noise says nothing about the image where there is nothing but noise, which rescaled betas end with. "
            f"Received: prediction_type={prediction!r}, rescale_betas_zero_snr=True. Put into scheduler_config.json what it was trained "
            "with: prediction_type 'v_prediction', or rescale_betas_zero_snr false.",
            path,
        )
    return _discrete(config, timesteps, options, path), _predictor(_PREDICTIONS[prediction], timesteps, "timestep"), notes


def write_schedule(schedule, predictor):
    """The config of a scheduler, a dict.

    Args:
        schedule: a discrete `NoiseSchedule`, or a `FlowNoiseSchedule`.
        predictor: ε, x0 or v; for flow matching: velocity.

    Raises:
        ValueError: what diffusers' schedulers cannot be.
    """
    kind, prediction = type(schedule), _prediction(predictor)
    if kind is schedulers.FlowNoiseSchedule and prediction == "flow_prediction":
        shift = {"num_train_timesteps": predictor.timesteps, "shift": schedule.shift}
        return {"_class_name": "FlowMatchEulerDiscreteScheduler", **shift}
    if schedule.timesteps is None or prediction == "flow_prediction" or predictor.condition != "timestep":
        raise ValueError(
            "Schedulers of diffusers have a table of betas and tell the network timesteps. Received: "
            f"noise_schedule={type(schedule).__name__}, predictor={type(predictor).__name__} with condition={predictor.condition!r}"
        )
    ranges = {
        schedulers.LinearNoiseSchedule: "linear",
        schedulers.ScaledLinearNoiseSchedule: "scaled_linear",
        schedulers.SigmoidBetaNoiseSchedule: "sigmoid",
    }
    curves = {schedulers.CosineBetaNoiseSchedule: "squaredcos_cap_v2", schedulers.LaplaceBetaNoiseSchedule: "laplace"}
    config = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "trained_betas": None}
    zero_snr = schedule.zero_terminal_snr
    if kind in ranges:
        scale = 1000.0 / schedule.timesteps
        config |= {"beta_schedule": ranges[kind], "beta_start": scale * schedule.beta_start, "beta_end": scale * schedule.beta_end}
    elif kind in curves and schedule.max_beta == 0.999 and getattr(schedule, "offset", 0.008) == 0.008:
        config |= {"beta_schedule": curves[kind]}
    else:
        config |= {"trained_betas": schedule.betas.tolist()}  # the rescaled ones
        zero_snr = False
    spacing = schedule.spacing if isinstance(schedule.spacing, (str, dict)) else "trailing"
    name = spacing if isinstance(spacing, str) else spacing.get("name", "trailing")
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": schedule.timesteps,
        **config,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": zero_snr,
        "timestep_spacing": name if name in _SPACINGS else "trailing",
        "steps_offset": 0 if isinstance(spacing, str) else spacing.get("offset", 0),
        "clip_sample": False,
        "set_alpha_to_one": True,
    }


def _known(key, value, known, path):
    if value not in known:
        raise CheckpointError(f"`{key}` of a scheduler is one of {', '.join(map(repr, known))} here. Received: {key}={value!r}.", path)


def _discrete(config, timesteps, options, path):
    if config.get("trained_betas") is not None:
        return schedulers.get("discrete", betas=config["trained_betas"], **options)
    betas = config.get("beta_schedule", "linear")
    if betas in _CURVES:
        return schedulers.get(_CURVES[betas], timesteps=timesteps, **options)
    _known("beta_schedule", betas, (*_RANGES, *_CURVES), path)
    # Betas here are meant for 1000 steps.
    scale = timesteps / 1000.0
    limits = {"beta_start": config.get("beta_start", 1e-4) * scale, "beta_end": config.get("beta_end", 0.02) * scale}
    return schedulers.get(_RANGES[betas], timesteps=timesteps, **limits, **options)


def _spacing(config):
    if config.get("use_karras_sigmas"):
        return "karras"
    spacing = config.get("timestep_spacing", "leading")
    return {"name": "leading", "offset": config.get("steps_offset", 0)} if spacing == "leading" else _SPACINGS.get(spacing, "leading")


def _predictor(name, timesteps, condition):
    return predictors.get(name, condition=condition, timesteps=timesteps)


def _prediction(predictor):
    for prediction, name in _PREDICTIONS.items():
        if type(predictor) is type(predictors.get(name)):
            return prediction
    raise ValueError(f"Networks of diffusers predict ε, x0, v or a velocity. Received: predictor={type(predictor).__name__}")
