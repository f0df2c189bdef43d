"""Noise schedule, predictor and sampler → diffusers' `scheduler_config.json`; `schedule.py` reads it."""

import contextlib

from keras_diffusion import predictors, samplers, schedulers
from keras_diffusion.checkpoints.families.diffusers.schedule import PREDICTIONS, RANGES
from keras_diffusion.checkpoints.families.diffusers.scheduler_classes import CLASSES, algorithms

_WRITTEN = {**PREDICTIONS, "flow_prediction": "velocity"}
_WORDS = {
    schedulers.LinearNoiseSchedule: "linear",
    schedulers.ScaledLinearNoiseSchedule: "scaled_linear",
    schedulers.SigmoidBetaNoiseSchedule: "sigmoid",
    schedulers.CosineBetaNoiseSchedule: "squaredcos_cap_v2",
    schedulers.LaplaceBetaNoiseSchedule: "laplace",
}
# Options of samplers here, and the keys that they are there.
_OPTIONS = {
    "variance": "variance_type",
    "order": "solver_order",
    "solver_type": "solver_type",
    "lower_order_final": "lower_order_final",
    "predict_x0": "predict_x0",
    "disable_corrector": "disable_corrector",
    "predictor_order": "predictor_order",
    "corrector_order": "corrector_order",
    "skip_prk_steps": "skip_prk_steps",
}
# Keys that a class need not have to be written, at the values at which they say nothing.
_SILENT = {"clip_sample": False, "rescale_betas_zero_snr": False, "set_alpha_to_one": True, "steps_offset": 0}


def write_schedule(schedule, predictor, sampling=None):
    """The config of a scheduler, a dict.

    Args:
        schedule: a discrete `NoiseSchedule`, or a `FlowNoiseSchedule`.
        predictor: ε, x0 or v; for flow matching: velocity.
        sampling: `sampling_defaults` of the model, or None. Its sampler decides the class, DDIM's where diffusers has
            none that samples so; its threshold is written.

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
            f"noise_schedule={type(schedule).__name__}, predictor={type(predictor).__name__} with "
            f"condition={predictor.condition!r}"
        )
    spacing = schedule.spacing if isinstance(schedule.spacing, (str, dict)) else "trailing"
    spacing = {"name": spacing} if isinstance(spacing, str) else spacing
    name = spacing.get("spacing", "linspace") if spacing.get("name") == "diffusers" else spacing.get("name")
    config = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": schedule.timesteps,
        **_write_betas(schedule),
        "prediction_type": prediction,
        "timestep_spacing": name if name in ("leading", "trailing", "linspace") else "trailing",
        "steps_offset": spacing.get("offset", 0),
        **_write_threshold(sampling or {}),
        "set_alpha_to_one": True,
    }
    return _written_as(config, (sampling or {}).get("sampler", "ddim"))


def _write_betas(schedule):
    config = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "trained_betas": None}
    config["rescale_betas_zero_snr"] = schedule.zero_terminal_snr
    word = _WORDS.get(type(schedule))
    if word in RANGES:
        scale = 1000.0 / schedule.timesteps
        limits = {"beta_start": scale * schedule.beta_start, "beta_end": scale * schedule.beta_end}
        return {**config, "beta_schedule": word, **limits}
    if word is not None and schedule.max_beta == 0.999 and getattr(schedule, "offset", 0.008) == 0.008:
        return {**config, "beta_schedule": word}
    # The rescaled ones.
    return {**config, "trained_betas": schedule.betas.tolist(), "rescale_betas_zero_snr": False}


def _write_threshold(sampling):
    guidance = sampling.get("guidance") or []
    for entry in guidance if isinstance(guidance, list) else [guidance]:
        options = {"name": entry} if isinstance(entry, str) else entry
        if options["name"] == "static_threshold":
            return {"clip_sample": True, "clip_sample_range": options.get("limit", 1.0)}
        if options["name"] == "dynamic_threshold":
            ceiling, quantile = options.get("ceiling"), options.get("quantile", 0.995)
            highest = {"sample_max_value": 1e6 if ceiling is None else ceiling}  # diffusers' always has a ceiling
            return {"clip_sample": False, "thresholding": True, **highest, "dynamic_thresholding_ratio": quantile}
    return {"clip_sample": False}


def _prediction(predictor):
    for prediction, name in _WRITTEN.items():
        if type(predictor) is type(predictors.get(name)):
            return prediction
    raise ValueError(
        f"Networks of diffusers predict ε, x0, v or a velocity. Received: predictor={type(predictor).__name__}"
    )


def _written_as(config, sampler):
    """The config of the class that samples like `sampler`, a name or a dict; DDIM's where no class does.

    Args:
        config: of DDIM's class.
        sampler: as `samplers.get` takes it.
    """
    wanted, has = _identity(sampler)
    for name, known in CLASSES.items():
        lacking = {key: value for key, value in config.items() if key not in known.keys and key != "_class_name"}
        if known.kind not in ("table", "sigma", "solver") or any(_SILENT.get(key) != lacking[key] for key in lacking):
            continue
        # Samplers without an option for it end as they do whatever the key says.
        apart = () if "lower_order_final" in known.sampler(known.keys) else ("lower_order_final",)
        options = {theirs: has[ours] for ours, theirs in _OPTIONS.items() if has.get(ours) is not None}
        for algorithm in algorithms(name) if "algorithm_type" in known.keys else (None,):
            values = {**config, **options, "algorithm_type": algorithm}
            whole = {key: values.get(key, value) if key not in apart else value for key, value in known.keys.items()}
            with contextlib.suppress(ValueError):  # options of other samplers, of the same name
                if _identity(known.sampler(whole)) == (wanted, has):
                    said = {key: whole[key] for key in whole if key in config or whole[key] != known.keys[key]}
                    return {"_class_name": name, **said}
    return config


def _identity(sampler):
    """(class, options) of a sampler: equal where two sample alike."""
    sampler = samplers.get(sampler)
    return type(sampler), {key: value for key, value in sampler.get_config().items() if key != "name"}
