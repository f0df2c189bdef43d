"""The flow-matching schedule (rectified flow): a straight line from data to noise, α = 1 − t, σ = t.

The derivative along the line, ε − x0, is the velocity that `VelocityPredictor` asks for. Large images need more time at high noise;
`shift` multiplies σ/α:   σ = s·t/(1 + (s − 1)·t),  α = 1 − σ.
"""

from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register("flow", "flow_matching", "rectified_flow")
class FlowNoiseSchedule(NoiseSchedule):
    """α = 1 − σ, σ = s·t/(1 + (s − 1)·t).

    Args:
        shift: s > 0; 1 is the plain line. Stable Diffusion 3 uses 3; e^μ is the dynamic shift of Flux.

    Reference:
        Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747; shift: Esser et al. 2024, arXiv:2403.03206, eq. 23.
    """

    def __init__(self, shift=1.0, **kwargs):
        super().__init__(**kwargs)
        if not shift > 0:
            raise ValueError(f"`shift` multiplies σ/α and must be positive. Received: shift={shift}")
        self.shift = shift

    def alpha_sigma(self, t, xp):
        total = 1.0 + (self.shift - 1.0) * t
        return (1.0 - t) / total, self.shift * t / total

    def time_at(self, log_snr, xp):
        ratio = xp.exp(-0.5 * log_snr) / self.shift  # t/(1 − t)
        return 1.0 / (1.0 + 1.0 / ratio)

    def get_config(self):
        return {**super().get_config(), "shift": self.shift}
