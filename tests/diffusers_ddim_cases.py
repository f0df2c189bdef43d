"""What the cases of diffusers' DDIM and DDPM have in common: levels from a table of ᾱ, and how they clip x0."""

import numpy as np
from diffusers_cases import Amplified
from golden_data import mixture

from keras_diffusion.core.levels import Levels
from keras_diffusion.guidance import DynamicThreshold, StaticThreshold


def alphas_of(case):
    """ᾱ of every timestep."""
    return case.arrays[f"alphas_cumprod/{case.config['alphas_cumprod_key']}"]


def levels_of(squares):
    """Levels of a variance-preserving grid with given ᾱ."""
    return Levels(np.linspace(1, 0, len(squares)), np.sqrt(squares), np.sqrt(1 - squares))


def denoiser_of(case, keep_eps):
    """The denoiser of a case with diffusers' clipping, and a name for it.

    DDIM keeps ε as it was unless told otherwise.
    """
    options, problem = case.config["scheduler_config"], case.config["problem"]
    keep_eps = keep_eps and not case.config["step_kwargs"].get("use_clipped_model_output")
    denoise, name = mixture(problem), f"{problem}, gain {case.config['x0_gain']}, {keep_eps}"
    if case.config.get("x0_gain", 1.0) != 1:
        denoise = Amplified(denoise, case.config.get("x0_gain", 1.0))
    if options.get("thresholding"):
        quantile, ceiling = options["dynamic_thresholding_ratio"], options["sample_max_value"]
        return DynamicThreshold(
            denoise, quantile, ceiling=ceiling, keep_eps=keep_eps
        ), f"{name}, quantile {quantile}, {ceiling}"
    if options["clip_sample"]:
        return StaticThreshold(denoise, options["clip_sample_range"], keep_eps), f"{name}, clipped"
    return denoise, problem
