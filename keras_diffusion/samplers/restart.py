"""Restart: jump back up in a small range of noise, several times.

Walking down by the ODE is exact but keeps the errors made on the way; walking by the SDE forgets them but makes larger
ones at every step. Restart does one after the other: ODE down to σ_min, then K times noise up to σ_max at once and the
ODE down again. The noise is as large as the SDE's in total, and the discretization error as small as the ODE's.
"""

import numpy as np

from keras_diffusion.configs.checks import check_number, shown
from keras_diffusion.core.levels import Levels
from keras_diffusion.samplers.between import level_at_ratio
from keras_diffusion.samplers.jumping import JumpingSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("restart")
class RestartSampler(JumpingSampler):
    """Restarts around any sampler.

    Each restart adds K·steps steps to those of the grid. Their levels are Karras's (ρ = 7) between the ends.

    Args:
        sampler: `Sampler`, its name, or a dict with options. Default "heun".
        restarts: sequence of (low, high, repeats, steps): the range of σ/α, 0 < low < high; K ≥ 1; and the steps ≥ 1
            from high to low. It happens at the noisy level of the grid next to `low` and starts from `high`, or from
            the grid's first level if that is lower. A range that the grid does not reach is left out. Default ((0.06,
            0.3, 2, 2),), the cheapest of the paper's for CIFAR-10; for images with many classes, higher ranges such as
            (1, 2, …) as well.
        s_noise: factor on the restarts' noise. Default 1.

    Raises:
        ValueError: restarts that are no such tuples, or a sampler that cannot be wrapped.

    Example:

    >>> sampler = kd.samplers.RestartSampler("heun", restarts=[(0.1, 0.5, 2, 3)])
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Xu et al. 2023, arXiv:2306.14878, algorithm 1 (with restarts at several ranges) and section 3.2.
    """

    table_options = ("s_noise", "restarts")

    def __init__(self, sampler="heun", restarts=((0.06, 0.3, 2, 2),), s_noise=1.0, **kwargs):
        super().__init__(sampler, s_noise, **kwargs)
        if not isinstance(restarts, (list, tuple)):
            raise ValueError(
                f"`restarts` is a list of (low, high, repeats, steps). Received: restarts={shown(restarts)}"
            )
        self.restarts = tuple(_checked(restart) for restart in restarts)

    def pieces(self, levels, schedule):
        with np.errstate(divide="ignore"):
            ratio = levels.sigma / levels.alpha
        inside = np.arange(1, len(ratio))[np.isfinite(ratio[1:]) & (ratio[1:] > 0)]
        jumps = []
        for low, high, repeats, steps in self.restarts if len(inside) else ():
            place = inside[np.argmin(np.abs(np.log(ratio[inside] / low)))]
            top = min(high, ratio[0])
            if max(low, ratio[place]) < top:
                jumps += [(place, self._grid(top, ratio[place], steps, levels, place, schedule))] * repeats
        pieces, here = [], 0
        for place, grid in sorted(jumps, key=lambda jump: jump[0]):
            if place > here:
                pieces.append(
                    (levels.map(lambda v, here=here, place=place: v[here : place + 1]), np.arange(here + 1, place + 1))
                )
                here = place
            pieces.append((grid, np.append(np.full(len(grid.t) - 2, -1), place)))
        if here < len(ratio) - 1:
            pieces.append((levels.map(lambda v: v[here:]), np.arange(here + 1, len(ratio))))
        return pieces

    def _grid(self, top, bottom, steps, levels, place, schedule):
        ratios = np.linspace(top ** (1 / 7), bottom ** (1 / 7), steps + 1)[:-1] ** 7
        upper = level_at_ratio(ratios, levels, schedule)
        return Levels(*(np.append(field, end[place]) for field, end in zip(upper, levels, strict=True)))


def _checked(restart):
    numbers = [check_number("restart", value) for value in restart] if isinstance(restart, (list, tuple)) else []
    if len(numbers) != 4 or not 0 < numbers[0] < numbers[1] or not all(n.is_integer() and n >= 1 for n in numbers[2:]):
        raise ValueError(
            "A restart is (low, high, repeats, steps) with 0 < low < high, in σ/α, and two integers of at least 1. "
            f"Received: restart={shown(restart)}"
        )
    low, high, repeats, steps = numbers
    return low, high, int(repeats), int(steps)
