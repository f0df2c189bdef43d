"""Writes grids.npz: where diffusers' schedulers evaluate the network, by their own set_timesteps in float64.

pip install --target peers --no-deps diffusers==0.42.1, and huggingface_hub with its dependencies; then, torch and scipy
being there:

    PYTHONPATH=peers python tests/golden/diffusers_grids/write.py
"""

import json
import sys
import types
from importlib import import_module
from pathlib import Path

import diffusers
import diffusers.utils.import_utils as available
import numpy as np
import torch
from diffusers.utils import logging

# The schedulers cast to float32 here and there; and one of them imports a package that its grid does not need.
torch.float32, np.float32 = torch.float64, np.float64
sys.modules["torchsde"] = types.ModuleType("torchsde")
available._torchsde_available = True
logging.set_verbosity_error()
STEPS = (1, 2, 5, 10, 25, 50)
TABLE = ("DDIMScheduler", "DDPMScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler")
SIGMA = (
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler"),
    *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler"),
)
SOLVER = (
    *(
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
    ),
    "SASolverScheduler",
)
SD = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
SPACINGS = [
    {"timestep_spacing": "linspace"},
    {"timestep_spacing": "trailing"},
    {"timestep_spacing": "leading", "steps_offset": 1},
]
CURVES = [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}]
COSINE, ZERO = {"beta_schedule": "squaredcos_cap_v2"}, {"rescale_betas_zero_snr": True}


def configs():
    """Pairs of a class and its config, without what is its default."""
    for name in (*TABLE, *SIGMA, *SOLVER, "PNDMScheduler", "LCMScheduler", "TCDScheduler"):
        known = scheduler_class(name)().config
        wanted = [
            {},
            SD,
            *SPACINGS,
            *CURVES,
            *({**SPACINGS[2], **curve} for curve in CURVES),
            COSINE,
            {**COSINE, **CURVES[0]},
        ]
        wanted += [{**ZERO, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}]
        wanted += [{**COSINE, "lambda_min_clipped": -5.1, **spacing} for spacing in SPACINGS]
        wanted += [{"final_sigmas_type": "sigma_min"}, {"num_train_timesteps": 250}, {"set_alpha_to_one": False}]
        if name == "EulerDiscreteScheduler":
            limits = {"sigma_min": 0.1, "sigma_max": 10.0}
            wanted += [{"interpolation_type": "log_linear"}, *({**curve, **limits} for curve in CURVES)]
        if name in ("LCMScheduler", "TCDScheduler"):
            wanted = [{}, {"original_inference_steps": 100}, {"steps_offset": 1}, ZERO]
        if name == "PNDMScheduler":
            wanted = [
                {"skip_prk_steps": True},
                {"skip_prk_steps": True, **SD},
                {},
                *({"skip_prk_steps": True, **s} for s in SPACINGS),
            ]
        for config in wanted:
            kept = {key: value for key, value in config.items() if key in known}
            if len(kept) == len(config) or config is SD:
                yield name, kept
    for shift in (1.0, 3.0):
        yield "FlowMatchEulerDiscreteScheduler", {"shift": shift}
        yield "FlowMatchHeunDiscreteScheduler", {"shift": shift}
    for name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"):
        for config in ({}, {"sigma_schedule": "exponential"}, {"sigma_min": 0.01, "sigma_max": 50.0, "rho": 5.0}):
            yield name, config


def scheduler_class(name):
    module = (
        import_module("diffusers.schedulers.scheduling_dpmsolver_sde") if name == "DPMSolverSDEScheduler" else diffusers
    )
    return getattr(module, name)


def grid(name, config, steps):
    """(timesteps, σ/α) of the evaluations at the starts of steps; of flow matching σ."""
    scheduler = scheduler_class(name)(**config)
    scheduler.set_timesteps(steps)
    timesteps = np.asarray(scheduler.timesteps, "float64")
    if hasattr(scheduler, "sigmas") and name not in (*TABLE, "PNDMScheduler", "LCMScheduler", "TCDScheduler"):
        sigmas = np.asarray(scheduler.sigmas, "float64")[:-1]
        if "Heun" in name or "KDPM2" in name or name == "DPMSolverSDEScheduler":  # the second stages stand between
            timesteps, sigmas = timesteps[::2], sigmas[::2]
        return timesteps, sigmas[: len(timesteps)]
    if name == "PNDMScheduler" and not config.get("skip_prk_steps"):
        # Four evaluations for each of three steps; of few steps there is nothing but those.
        timesteps = np.concatenate([timesteps[:12:4], timesteps[12:]])
    elif name == "PNDMScheduler":
        timesteps = np.delete(timesteps, 1)  # the second evaluation of the first step
    a = np.asarray(scheduler.alphas_cumprod, "float64")[timesteps.astype(int)]
    with np.errstate(divide="ignore"):
        return timesteps, np.sqrt((1 - a) / a)


def main():
    cases, columns = [], {"timesteps": [], "sigmas": []}
    for name, config in configs():
        for steps in STEPS:
            try:
                values = grid(name, config, steps)
            except (ValueError, IndexError) as error:
                print("not made:", name, config, steps, type(error).__name__, error)
                continue
            cases.append({"config": {"_class_name": name, **config}, "steps": steps, "evaluations": len(values[0])})
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    arrays = {key: np.concatenate(column).astype("f4") for key, column in columns.items()}
    np.savez_compressed(Path(__file__).with_name("grids.npz"), cases=json.dumps(cases), **arrays)
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
