"""The cases of tests/golden that were made with diffusers 0.42.1 (its float32 casts replaced by float64), run with the
samplers here.
"""

import compiled_sampling
import numpy as np
from golden_data import load, mixture

from keras_diffusion import guidance
from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import Denoiser
from keras_diffusion.denoisers.denoiser import with_x0


def cases(file, *schedulers):
    """The cases of a file, or those of some of diffusers' schedulers: a dict from names to `Case`."""
    return {name: case for name, case in load(file).items() if not schedulers or case.config["scheduler"] in schedulers}


def levels_of(case):
    """The levels at which diffusers evaluated the model, and the one that its last step leads to."""
    config = case.config
    options = config["scheduler_config"]
    alpha, sigma = case["eval_alpha"], case["eval_sigma"]
    if config["scheduler"].startswith("LMS"):  # x is on the variance-exploding scale
        alpha, sigma = np.ones_like(alpha), sigma / alpha
    last = case["sigmas"][-1]
    if options.get("use_flow_sigmas"):
        end = (1 - last, last)
    elif config["scheduler"].startswith("EDM"):
        end = (1.0, last)
    else:
        end = np.array([1.0, last]) / np.hypot(1.0, last)
    if last != case["sigmas"][-2]:
        alpha, sigma = np.append(alpha, end[0]), np.append(sigma, end[1])
    return Levels(np.linspace(1, 0, len(alpha)), alpha, sigma)


class Amplified(Denoiser):
    """A denoiser with its x0 multiplied by a number, so that thresholding has something to do."""

    def __init__(self, denoiser, gain):
        self.denoiser, self.gain = denoiser, gain

    def __call__(self, x, level):
        return with_x0(x, self.gain * self.denoiser(x, level).x0, level)


def denoiser_of(case):
    options, denoise = case.config["scheduler_config"], mixture(case.config["problem"])
    if case.config["x0_gain"] != 1:
        denoise = Amplified(denoise, case.config["x0_gain"])
    if options.get("thresholding"):
        denoise = guidance.DynamicThreshold(
            denoise, options["dynamic_thresholding_ratio"], 1.0, options["sample_max_value"]
        )
    return denoise


def trajectory(case, sampler, levels=None, schedule=None):
    """x after every step."""
    problem = case.config["problem"] + ("-threshold" if case.config["scheduler_config"].get("thresholding") else "")
    noise = case["noise"][:, None] if "noise" in case else None
    levels = levels_of(case) if levels is None else levels
    return compiled_sampling.sample(sampler, case["x"][0], problem, denoiser_of(case), levels, noise, schedule)


def largest_error(steps, case):
    """Relative to the largest x of the trajectory; a last step of zero length is left out."""
    return np.max(np.abs(steps - case["x"][1 : len(steps) + 1])) / np.abs(case["x"]).max()


def lower_order_final(case):
    """What diffusers calls so. Where its last sigma is repeated (a known issue) it lowers the order in a last step of
    zero length, which is left out here: all others are of full order."""
    return case.config["scheduler_config"]["lower_order_final"] and case["sigmas"][-1] != case["sigmas"][-2]
