"""DPM-Solver++ SDE: DPM-Solver++(2S) whose stage draws noise as well."""

import numpy as np

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.dpmpp_2s_ancestral import DPMpp2SAncestralSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpmpp_sde")
class DPMppSDESingleStepSampler(DPMpp2SAncestralSampler):
    """DPM-Solver++ SDE: 2S whose stage draws noise as well.

    Two evaluations and two draws per step, of Brownian noise by default: the first draw is a part of the
    second. Order 2 for η = 0.

    Args:
        eta: η in [0, 1]; 0 is the ODE. Default 1.
        s_noise: factor on the noise. Default 1.
        r: where the stage lies between the levels, in log-SNR, in (0, 1). Default 0.5.

    Raises:
        ValueError: `eta` outside [0, 1], or `r` outside (0, 1).

    Example:

    >>> sampler = kd.samplers.DPMppSDESingleStepSampler(r=0.4)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Lu et al. 2022, arXiv:2211.01095, algorithm 1; k-diffusion's `sample_dpmpp_sde`.
    """

    noises_per_step = 2
    noise = "brownian"
    noisy_stage = True
    table_options = ("eta", "s_noise", "r")

    def __init__(self, eta=1.0, s_noise=1.0, r=0.5, **kwargs):
        super().__init__(eta, s_noise, **kwargs)
        rule = "`r` places the stage between two levels and must lie in (0, 1)"
        self.r = check_number("r", r, above=0, below=1, rule=rule)

    def bends(self, start, down):
        return super().bends(start, down)[0] / (2.0 * self.r), np.zeros_like(start)

    def noise_spans(self, levels):
        start, end = levels.log_snr[:-1], levels.log_snr[1:]
        inside = np.isfinite(start) & np.isfinite(
            end
        )  # elsewhere there is no middle, and the stage's noise is not used
        with np.errstate(invalid="ignore"):
            middle = np.where(inside, start + self.r * (end - start), end)
        return np.stack([np.stack([start, middle], axis=1), np.stack([start, end], axis=1)], axis=1)
