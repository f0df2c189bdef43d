"""Sampling from consistency models: predict x0, noise it to the next level, repeat.

    x_s = α_s·x0 + σ_s·z

A consistency model's x0 is already a sample, so a few steps with all noise fresh refine it. The same as DDIM with all of the next level's
noise drawn anew; with an ordinary denoiser it is a poor sampler.
"""

from keras_diffusion.samplers.sampler import SAMPLERS, Sampler, pairs


@SAMPLERS.register("lcm", "consistency")
class LCMSampler(Sampler):
    """Multistep consistency sampling. One evaluation and one draw per step.

    Reference:
        Song et al. 2023, arXiv:2303.01469, algorithm 1; Luo et al. 2023, arXiv:2310.04378.
    """

    noises_per_step = 1

    def plan(self, levels, schedule=None):
        _, _, alpha_s, sigma_s = pairs(levels)
        return {"x0": alpha_s, "noise": sigma_s}

    def step(self, denoise, x, row, state, noise):
        return row["x0"] * denoise(x, row["level"]).x0 + row["noise"] * noise(0), state
