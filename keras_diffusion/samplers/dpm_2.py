"""DPM-Solver-2: the midpoint rule in σ/α, with the middle taken in log(σ/α)."""

import numpy as np

from keras_diffusion.samplers.runge_kutta import RungeKuttaSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpm_2")
class DPM2Sampler(RungeKuttaSampler):
    """DPM-Solver-2: the midpoint rule in σ̂, with the middle taken in log σ̂. Order 2, two evaluations per step.

    In the flow coordinate, where a step may start at pure noise, the middle is the middle. Arguments: see
    `RungeKuttaSampler`.

    Example:

    >>> sampler = kd.samplers.DPM2Sampler()
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Karras et al. 2022, arXiv:2206.00364, algorithm 2 with the midpoint rule, as k-diffusion's `sample_dpm_2`; Lu et
        al. 2022, arXiv:2206.00927.
    """

    a, b, c = ((), (0.5,)), (0.0, 1.0), (0.0, 0.5)

    def position(self, node, start, end, flow):
        return super().position(node, start, end, flow) if flow else np.sqrt(start * end)
