"""Euler's method: x_s = α_s·x0 + σ_s·ε, the DDIM point."""

from keras_diffusion.samplers.runge_kutta import RungeKuttaSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("euler", "SimplifiedEulerSampler")
class EulerSampler(RungeKuttaSampler):
    """Euler's method; without churn it is DDIM(0), and on a flow schedule the usual flow-matching sampler. Order 1.

    One evaluation per step. Arguments: see `RungeKuttaSampler`.

    Example:

    >>> sampler = kd.samplers.EulerSampler()
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)
    """


# Flow matching's own name: the straight line of a flow schedule is solved exactly where the velocity is constant along
# it.
SAMPLERS.variant("flow_euler", EulerSampler, coordinate="flow")
