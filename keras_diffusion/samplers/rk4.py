"""The classical Runge–Kutta method of order 4."""

from keras_diffusion.samplers.runge_kutta import RungeKuttaSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("rk4")
class RK4Sampler(RungeKuttaSampler):
    """The classical Runge–Kutta method. Order 4, four evaluations per step. Arguments: see `RungeKuttaSampler`.

    Example:

    >>> sampler = kd.samplers.RK4Sampler()
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)
    """

    a, b, c = ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 0.5, 0.5, 1.0)
