"""Heun's method: an Euler step, then the mean of the slopes at its two ends."""

from keras_diffusion.samplers.runge_kutta import RungeKuttaSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("heun")
class HeunSampler(RungeKuttaSampler):
    """Heun's method: Euler's step, then the mean of the slopes at both ends. Order 2.

    Two evaluations per step, one for the closing step. Arguments: see `RungeKuttaSampler`.

    Example:

    >>> sampler = kd.samplers.HeunSampler()
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)
    """

    a, b, c = ((), (1.0,)), (0.5, 0.5), (0.0, 1.0)


# Flow matching's own name: the straight line of a flow schedule is solved exactly where the velocity is constant along
# it.
SAMPLERS.variant("flow_heun", HeunSampler, coordinate="flow")
