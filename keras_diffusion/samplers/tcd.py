"""Trajectory consistency sampling: jump down along the ODE's trajectory further than wanted, then noise up again.

    x_s = α_s·x0 + σ_s·ε,  s = (1 − γ)·t_next            what a distilled network does well in one step
    x_next = α_next·(x0 + σ̂_s·ε + √(σ̂_next² − σ̂_s²)·z)   σ̂ = σ/α

γ = 0 is DDIM(0); γ = 1 jumps to t = 0 and, where that is clean, draws all noise anew as LCM does. The jump does not
shrink with the number of steps, so with an ordinary denoiser this is a poor sampler.
"""

import numpy as np

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.ddim import DDIMSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("tcd")
class TCDSampler(DDIMSampler):
    """Strategic stochastic sampling of trajectory consistency models. One evaluation and one draw per step.

    On the whole timesteps of a discrete schedule, s is a whole timestep too, rounded down. Without a schedule, σ/α at s
    is interpolated between the levels of the grid; below the last one it stays.

    Args:
        eta: γ in [0, 1], how far down the jump goes. Default 0.3.
        s_noise: factor on the noise. Default 1.

    Raises:
        ValueError: `eta` outside [0, 1].

    Example:

    >>> sampler = kd.samplers.TCDSampler(eta=0.2)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Zheng et al. 2024, arXiv:2402.19159, strategic stochastic sampling; diffusers' `TCDScheduler`.
    """

    def __init__(self, eta=0.3, s_noise=1.0, **kwargs):
        check_number("eta", eta, 0, 1, rule="`eta` is the share of a time that is jumped over and must lie in [0, 1]")
        super().__init__(eta, s_noise, **kwargs)

    def plan(self, levels, schedule=None):
        following = levels.map(lambda v: v[1:])
        ratio = following.sigma / following.alpha
        low = (
            np.minimum(self._ratio_at(self._jump(following.t, schedule), levels, schedule), ratio)
            if self.eta
            else ratio
        )
        fresh = np.sqrt(ratio**2 - low**2)
        return {"x0": following.alpha, "eps": following.alpha * low, "noise": self.s_noise * following.alpha * fresh}

    def _jump(self, t, schedule):
        """s for times t, (n,)."""
        if schedule is not None and schedule.timesteps:
            index = t * schedule.timesteps - 1.0
            whole = np.round(index)
            if np.allclose(index, whole, rtol=0, atol=1e-6):
                return (np.floor((1.0 - self.eta) * whole + 1e-9) + 1.0) / schedule.timesteps
        return (1.0 - self.eta) * t

    def _ratio_at(self, s, levels, schedule):
        """σ/α at times s, (n,)."""
        if schedule is not None:
            level = schedule.levels(s)
            return level.sigma / level.alpha
        inside = levels.alpha > 0
        t, ratio = levels.t[inside][::-1], (levels.sigma[inside] / levels.alpha[inside])[::-1]
        return np.interp(s, t, ratio)
