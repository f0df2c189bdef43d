"""Consistency models: one network call from any level to the end of the trajectory.

What makes a network a consistency model, besides its training, is its boundary condition: at the cleanest level it
returns its input.

    x0 ← c_skip·x + c_out·x0

Latent consistency models mix x with x0 by the timestep; EDM-style ones mix x/α with the network's raw output F so that
the boundary lies at a smallest σ_min:

    c_skip = σ_d²/((σ̂ − σ_min)² + σ_d²),   c_out = σ_d·(σ̂ − σ_min)/√(σ_d² + σ̂²),        σ̂ = σ/α

Since EDM's own x0 is σ_d²/(σ̂² + σ_d²)·x/α + σ̂·σ_d/√(σ̂² + σ_d²)·F, the second form also needs nothing but x and x0.
"""

from keras import ops

from keras_diffusion.configs.checks import check_numbers
from keras_diffusion.core.broadcast import expand_to_rank
from keras_diffusion.denoisers.denoiser import Wrapper, as_tensors, with_x0


class ConsistencyDenoiser(Wrapper):
    """A latent consistency model: c_skip = σ_d²/(τ² + σ_d²), c_out = τ/√(τ² + σ_d²), τ = scaling·timestep.

    A network's x0 is clipped before, where it is: `ConsistencyDenoiser(StaticThreshold(denoiser))`.

    Args:
        denoiser: the `Denoiser` to wrap.
        sigma_data: σ_d > 0. Default 0.5.
        timestep_scaling: factor on the timestep, > 0; 10 (default) makes c_skip vanish but at the first few timesteps.
        timesteps: number T of timesteps of the network's training; t is the timestep t·T − 1. Default 1000.

    Raises:
        ValueError: an argument that is not positive.

    Example:

    >>> denoise = kd.denoisers.MixtureDenoiser([1.0], [[1.0, 0.0]], [0.2])
    >>> x0, eps = kd.denoisers.ConsistencyDenoiser(denoise)(x, level)

    Reference:
        Luo et al. 2023, arXiv:2310.04378, section 4.1; the scaling as in diffusers' `LCMScheduler`.
    """

    def __init__(self, denoiser, sigma_data=0.5, timestep_scaling=10.0, timesteps=1000):
        check_numbers(sigma_data=sigma_data, timestep_scaling=timestep_scaling, timesteps=timesteps)
        if not (sigma_data > 0 and timestep_scaling > 0 and timesteps > 0):
            raise ValueError(
                "`sigma_data`, `timestep_scaling` and `timesteps` must be positive. "
                f"Received: sigma_data={sigma_data}, timestep_scaling={timestep_scaling}, timesteps={timesteps}"
            )
        super().__init__(denoiser)

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        tau = self.timestep_scaling * (self.timesteps * level.t - 1.0)
        total = tau**2 + self.sigma_data**2
        c_skip, c_out = (expand_to_rank(c, x) for c in (self.sigma_data**2 / total, tau / ops.sqrt(total)))
        return with_x0(x, c_skip * x + c_out * self.denoiser(x, level).x0, level)


class EDMConsistencyDenoiser(Wrapper):
    """A consistency model on EDM's preconditioning, the coefficients in the module.

    x0 ← c_skip·x/α + (σ̂ − σ_min)/σ̂·(x0 − σ_d²/(σ̂² + σ_d²)·x/α)

    Args:
        denoiser: the `Denoiser` to wrap: a network with the predictor "edm" of the same `sigma_data`.
        sigma_min: σ/α of the boundary, ≥ 0. Default 0.002.
        sigma_data: σ_d > 0. Default 0.5.

    Raises:
        ValueError: `sigma_min` negative or `sigma_data` not positive.

    Example:

    >>> denoise = kd.denoisers.MixtureDenoiser([1.0], [[1.0, 0.0]], [0.2])
    >>> x0, eps = kd.denoisers.EDMConsistencyDenoiser(denoise, sigma_min=0.01)(x, level)

    Reference:
        Song et al. 2023, arXiv:2303.01469, appendix C.
    """

    def __init__(self, denoiser, sigma_min=0.002, sigma_data=0.5):
        check_numbers(sigma_min=sigma_min, sigma_data=sigma_data)
        if not (sigma_min >= 0 and sigma_data > 0):
            raise ValueError(
                "The boundary's `sigma_min` must not be negative and `sigma_data` must be positive. "
                f"Received: sigma_min={sigma_min}, sigma_data={sigma_data}"
            )
        super().__init__(denoiser)

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        # All multiplied through with α, which may be 0: c·x/α = (α·σ_d²/(α²·…))·x.
        alpha, sigma, signal = level.alpha, level.sigma, level.alpha * self.sigma_data**2
        above = sigma - alpha * self.sigma_min
        boundary, own = (signal / (noise**2 + alpha * signal) for noise in (above, sigma))
        share = above / sigma
        boundary, own, share = (expand_to_rank(c, x) for c in (boundary, own, share))
        return with_x0(x, boundary * x + share * (self.denoiser(x, level).x0 - own * x), level)
