"""diffusers' scheduler classes, as far as their configs are understood here: keys with their defaults, grid, and
sampler.

A key that a class has not is left out by diffusers itself, which writes configs of one class for another; here too
where it says nothing but how to sample (`_HARMLESS`). Any other is an error, as is a value that would change what the
network is told or asked for.
"""

from collections.abc import Callable
from typing import NamedTuple

from keras_diffusion.containers.errors import CheckpointError

_BETAS = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "steps_offset": 0,
}
_STABLE = {"beta_start": 0.00085, "beta_end": 0.012}  # Stable Diffusion's
_LEADING, _LINSPACE = {"timestep_spacing": "leading"}, {"timestep_spacing": "linspace"}
_ZERO = {"rescale_betas_zero_snr": False}
_CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
_THRESHOLD = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
_CURVES = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_ORDER = {"solver_order": 2, "lower_order_final": True}
_FINAL = {"final_sigmas_type": "zero"}
_FLOW_SIGMAS = {
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
}
_LAMBDA = {"lambda_min_clipped": float("-inf"), "variance_type": None}
_TABLE = {**_BETAS, **_CLIP, **_THRESHOLD, **_LEADING, **_ZERO}
_DDIM = {**_TABLE, "set_alpha_to_one": True}
_DDPM = {**_TABLE, "variance_type": "fixed_small"}
_K = {**_BETAS, **_STABLE, **_CURVES, **_LINSPACE}
_SOLVER = {**_BETAS, **_THRESHOLD, **_CURVES, **_LINSPACE, **_ORDER, **_FLOW_SIGMAS}
_DPM = {**_SOLVER, **_LAMBDA, **_FINAL, "algorithm_type": "dpmsolver++", "solver_type": "midpoint"}
# The single-step solver's grid is "linspace" whatever the config says.
_SINGLE = {key: _DPM[key] for key in _DPM if key not in ("timestep_spacing", "steps_offset")}
_UNIPC = {
    **_SOLVER,
    **_ZERO,
    **_FINAL,
    "predict_x0": True,
    "solver_type": "bh2",
    "disable_corrector": [],
    "solver_p": None,
    "sigma_min": None,
    "sigma_max": None,
    "shift_terminal": None,
}
_LCM = {
    **_DDIM,
    **_STABLE,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
}
_EDM = {
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "rho": 7.0,
    "sigma_schedule": "karras",
    **_FINAL,
}
_FLOW = {"num_train_timesteps": 1000, "shift": 1.0}
_FLOW_MORE = {
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
    "base_shift": 0.5,
    "max_shift": 1.15,
    **_CURVES,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
    "invert_sigmas": False,
    "shift_terminal": None,
}
_EULER = {
    **_BETAS,
    **_CURVES,
    **_LINSPACE,
    **_ZERO,
    **_FINAL,
    "interpolation_type": "linear",
    "sigma_min": None,
    "sigma_max": None,
    "timestep_type": "discrete",
}


class SchedulerClass(NamedTuple):
    """What is known of a class.

    Attributes:
        kind: of its grid, as `DiffusersSpacing` has it; "edm" for EDM's.
        keys: its keys with its defaults.
        sampler: function of the config → sampler, a name or a dict.
        told: timesteps that the network is told under `use_karras_sigmas`, and under the other curves.
        keeps_eps: whether clipping leaves ε as it was.
    """

    kind: str
    keys: dict
    sampler: Callable
    told: tuple = ("exact", "exact")
    keeps_eps: bool = False


def _ddpm(config):
    large = str(config["variance_type"]).startswith("fixed_large")
    return {"name": "ddpm", "variance": "fixed_large"} if large else "ddpm"


def _multistep(config):
    name = _MULTISTEP[config["algorithm_type"]]
    return {"name": name, "order": config["solver_order"], "solver_type": config["solver_type"]}


def _singlestep(config):
    algorithm = config["algorithm_type"]
    return {
        "name": "dpm_singlestep",
        "order": config["solver_order"],
        "algorithm": "dpmpp" if algorithm.endswith("++") else "dpm",
        "solver_type": config["solver_type"],
        **({"eta": 1.0} if algorithm.startswith("sde") else {}),
    }


def _unipc(config):
    return {
        "name": "unipc",
        "order": config["solver_order"],
        "solver_type": config["solver_type"] if config["solver_type"] in ("bh1", "bh2") else "bh2",
        "lower_order_final": config["lower_order_final"],
        "predict_x0": config["predict_x0"],
        **({"disable_corrector": list(config["disable_corrector"])} if config["disable_corrector"] else {}),
    }


def _sa(config):
    orders = {key: config[key] for key in ("predictor_order", "corrector_order", "lower_order_final")}
    return {"name": "sa_solver", **orders, "predict_x0": config["algorithm_type"] == "data_prediction"}


def _named(name):
    return lambda config: name


_WHOLE = ("rounded", "truncated")
_MULTISTEP = {
    "dpmsolver++": "dpmpp_2m",
    "dpmsolver": "dpm_solver",
    "sde-dpmsolver++": "dpmpp_2m_sde",
    "sde-dpmsolver": "dpm_2m_sde",
}
CLASSES = {
    "DDIMScheduler": SchedulerClass("table", _DDIM, _named("ddim"), keeps_eps=True),
    "DDIMParallelScheduler": SchedulerClass("table", _DDIM, _named("ddim"), keeps_eps=True),
    "DDPMScheduler": SchedulerClass("table", _DDPM, _ddpm),
    "DDPMParallelScheduler": SchedulerClass("table", _DDPM, _ddpm),
    "PNDMScheduler": SchedulerClass(
        "table",
        {**_BETAS, **_LEADING, "skip_prk_steps": False, "set_alpha_to_one": False},
        lambda config: {"name": "pndm", "skip_prk_steps": bool(config["skip_prk_steps"])},
    ),
    "EulerDiscreteScheduler": SchedulerClass("sigma", _EULER, _named("euler")),
    "EulerAncestralDiscreteScheduler": SchedulerClass(
        "sigma", {**_BETAS, **_LINSPACE, **_ZERO}, _named("euler_ancestral")
    ),
    "LMSDiscreteScheduler": SchedulerClass("sigma", {**_BETAS, **_CURVES, **_LINSPACE}, _named("lms")),
    "HeunDiscreteScheduler": SchedulerClass("sigma", {**_K, **_CLIP, "clip_sample": False}, _named("heun")),
    "KDPM2DiscreteScheduler": SchedulerClass("sigma", _K, _named("dpm_2"), ("rounded", "exact")),
    "KDPM2AncestralDiscreteScheduler": SchedulerClass("sigma", _K, _named("dpm_2_ancestral"), ("rounded", "exact")),
    "DPMSolverSDEScheduler": SchedulerClass("sigma", {**_K, "noise_sampler_seed": None}, _named("dpmpp_sde")),
    "DPMSolverMultistepScheduler": SchedulerClass(
        "solver", {**_DPM, **_ZERO, "euler_at_final": False, "use_lu_lambdas": False}, _multistep, _WHOLE
    ),
    "DPMSolverSinglestepScheduler": SchedulerClass(
        "solver", {**_SINGLE, "lower_order_final": False}, _singlestep, _WHOLE
    ),
    "UniPCMultistepScheduler": SchedulerClass("solver", _UNIPC, _unipc, _WHOLE),
    "DEISMultistepScheduler": SchedulerClass(
        "solver",
        {**_SOLVER, "algorithm_type": "deis", "solver_type": "logrho"},
        lambda config: {
            "name": "deis",
            "order": config["solver_order"],
            "lower_order_final": config["lower_order_final"],
        },
        _WHOLE,
    ),
    "SASolverScheduler": SchedulerClass(
        "solver",
        {
            **_SOLVER,
            **_LAMBDA,
            "predictor_order": 2,
            "corrector_order": 2,
            "tau_func": None,
            "algorithm_type": "data_prediction",
        },
        _sa,
        _WHOLE,
    ),
    "LCMScheduler": SchedulerClass("consistency", _LCM, _named("lcm")),
    "TCDScheduler": SchedulerClass("consistency", _LCM, _named("tcd")),
    "EDMEulerScheduler": SchedulerClass("edm", _EDM, _named("euler")),
    "EDMDPMSolverMultistepScheduler": SchedulerClass(
        "edm",
        {
            **_EDM,
            **_THRESHOLD,
            **_ORDER,
            "algorithm_type": "dpmsolver++",
            "solver_type": "midpoint",
            "euler_at_final": False,
        },
        _multistep,
    ),
    "FlowMatchEulerDiscreteScheduler": SchedulerClass(
        "flow", {**_FLOW, **_FLOW_MORE, "stochastic_sampling": False}, _named("euler")
    ),
    "FlowMatchHeunDiscreteScheduler": SchedulerClass("flow", _FLOW, _named("heun")),
    "FlowMatchLCMScheduler": SchedulerClass(
        "flow", {**_FLOW, **_FLOW_MORE, "scale_factors": None, "upscale_mode": "bicubic"}, _named("lcm")
    ),
}
# Values that are understood, where not all are; "sigma_min" and the like are numbers or None.
_VALUES = {
    "timestep_type": ("discrete",),
    "interpolation_type": ("linear", "log_linear"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "sigma_schedule": ("karras", "exponential"),
    "use_lu_lambdas": (False, None),
    "use_flow_sigmas": (False, None),
    "shift_terminal": (None,),
    "invert_sigmas": (False, None),
    "stochastic_sampling": (False, None),
    "scale_factors": (None,),
    "tau_func": (None,),
    "solver_p": (None,),
}
_ALGORITHM_VALUES = {
    "DEISMultistepScheduler": ("deis", "dpmsolver", "dpmsolver++"),
    "SASolverScheduler": ("data_prediction", "noise_prediction"),
    "EDMDPMSolverMultistepScheduler": ("dpmsolver++", "sde-dpmsolver++"),
}
_VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range")
# Keys of other classes that concern only their samplers.
_HARMLESS = frozenset(
    """
    clip_sample clip_sample_range thresholding dynamic_thresholding_ratio sample_max_value set_alpha_to_one
    skip_prk_steps steps_offset variance_type eta interpolation_type final_sigmas_type algorithm_type solver_type
    solver_order lower_order_final euler_at_final predict_x0 disable_corrector noise_sampler_seed
    original_inference_steps timestep_scaling predictor_order corrector_order lambda_min_clipped timestep_spacing
    flow_shift time_shift_type rho sigma_data
    """.split()
)


def complete(config, path=None):
    """(name of the class, `SchedulerClass`, whole config, notes) of a `scheduler_config.json`.

    Raises:
        CheckpointError: a class, a key or a value that is not known here.
    """
    name = str(config.get("_class_name", "DDPMScheduler")).removeprefix("Flax")
    known = CLASSES.get(name)
    if known is None:
        raise CheckpointError(
            "Networks are read here that were trained with tables of betas, flow matching or EDM. Received: "
            f"_class_name={name!r}. Known classes: {', '.join(CLASSES)}. If the network is one of these, put its "
            "scheduler_config.json there; else read its weights as a single component.",
            path,
        )
    notes = []
    foreign = {key: value for key, value in config.items() if key not in known.keys and not key.startswith("_")}
    for key, value in foreign.items():
        defaults = [other.keys[key] for other in CLASSES.values() if key in other.keys]
        if not defaults or (key not in _HARMLESS and value not in defaults and value):
            raise CheckpointError(
                f"A {name} is known here with the keys {', '.join(known.keys)}. Received: {key}={value!r}. If it says "
                "nothing of the network, take it out of scheduler_config.json; else put another scheduler there",
                path,
            )
    whole = {**known.keys, **{key: value for key, value in config.items() if key in known.keys}}
    _check_values(name, whole, path)
    if whole.get("final_sigmas_type") == "sigma_min" or config.get("set_alpha_to_one") is False:
        notes.append(
            "The source leaves the noise of its cleanest level in the samples; here the last step takes it out."
        )
    return name, known, whole, notes


def algorithms(name):
    """The values of `algorithm_type` that a class knows here."""
    return _ALGORITHM_VALUES.get(name, tuple(_MULTISTEP))


def _check_values(name, config, path):
    values = {**_VALUES, "algorithm_type": algorithms(name)}
    if name.startswith("DDPM"):
        values["variance_type"] = _VARIANCES
    for key, known in values.items():
        if key in config and config[key] not in known:
            raise CheckpointError(
                f"`{key}` of a scheduler is one of {', '.join(map(repr, known))} here. Received: "
                f"{key}={config[key]!r}. "
                "Put the config of another scheduler there: its networks must be the same kind",
                path,
            )
    curves = [key for key in _CURVES if config.get(key)]
    if len(curves) > 1:
        raise CheckpointError(f"Noise levels are spaced in one way. Received: {', '.join(curves)}", path)
