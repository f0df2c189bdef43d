"""DPM-Solver++ SDE as a multistep method: η of each step's noise is fresh."""

from keras_diffusion.configs.checks import check_number
from keras_diffusion.samplers.dpmpp import DPMppSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("dpmpp_2m_sde")
class DPMppSDESampler(DPMppSampler):
    """Multistep DPM-Solver++ on the reverse SDE.

    One evaluation and one draw per step. The noise is Brownian by default.

    Args:
        order: 1, 2 or 3. Default 2.
        eta: η ≥ 0, the share of the SDE's noise; 0 is the ODE, 1 the reverse SDE. Default 1.
        s_noise: factor on the noise. Default 1.
        solver_type, reference_compatible, lower_order_final: see `DPMppSampler`.

    Raises:
        ValueError: unknown order or solver type, or negative `eta`.

    Example:

    >>> sampler = kd.samplers.DPMppSDESampler(order=3)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)
    """

    noises_per_step = 1
    noise = "brownian"

    def __init__(
        self,
        order=2,
        eta=1.0,
        s_noise=1.0,
        solver_type=None,
        reference_compatible=False,
        lower_order_final=False,
        **kwargs,
    ):
        super().__init__(order, solver_type, reference_compatible, lower_order_final, **kwargs)
        eta = check_number("eta", eta, 0, rule="`eta` is a share of fresh noise and must not be negative")
        self.eta, self.s_noise = eta, check_number("s_noise", s_noise, 0)


SAMPLERS.variant("dpmpp_3m_sde", DPMppSDESampler, order=3)
