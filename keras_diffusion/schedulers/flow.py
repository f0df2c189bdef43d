"""The flow-matching schedule (rectified flow): a straight line from data to noise, α = 1 − t, σ = t.

The derivative along the line, ε − x0, is the velocity that `VelocityPredictor` asks for. Large images need more time at
high noise;
`shift` multiplies σ/α:   σ = s·t/(1 + (s − 1)·t),  α = 1 − σ.
"""

import math

from keras_diffusion.configs.checks import check_number, check_numbers
from keras_diffusion.schedulers.noise_schedule import SCHEDULES, NoiseSchedule


@SCHEDULES.register("flow", "flow_matching", "rectified_flow")
class FlowNoiseSchedule(NoiseSchedule):
    """α = 1 − σ, σ = s·t/(1 + (s − 1)·t).

    Args:
        shift: s > 0; 1 is the plain line. Stable Diffusion 3 uses 3; see `flow_shift` for one that depends on the
            resolution.

    Example:

    >>> levels = kd.schedulers.FlowNoiseSchedule(shift=3.0).levels([0.0, 0.5, 1.0])
    >>> levels.sigma, levels.alpha
    (array([0.  , 0.75, 1.  ]), array([1.  , 0.25, 0.  ]))

    Reference:
        Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747; shift: Esser et al. 2024,
        arXiv:2403.03206, eq. 23.
    """

    def __init__(self, shift=1.0, **kwargs):
        super().__init__(**kwargs)
        self.shift = check_number("shift", shift, above=0, rule="`shift` multiplies σ/α and must be positive")

    def alpha_sigma(self, t, xp):
        total = 1.0 + (self.shift - 1.0) * t
        return (1.0 - t) / total, self.shift * t / total

    def time_at(self, log_snr, xp):
        ratio = xp.exp(-0.5 * log_snr) / self.shift  # t/(1 − t)
        return 1.0 / (1.0 + 1.0 / ratio)


def flow_shift(tokens, base_tokens=256, max_tokens=4096, base_shift=0.5, max_shift=1.15, kind="exponential"):
    """The shift for samples of a given size, which Flux calls dynamic: μ grows linearly with the number of tokens.

    Args:
        tokens: number of positions that the network sees: (height/patch)·(width/patch), of the latents where there are
            some.
        base_tokens, max_tokens: numbers of tokens at which μ is `base_shift` and `max_shift`. Default 256 and 4096.
        base_shift, max_shift: default 0.5 and 1.15.
        kind: "exponential" (default): the shift is e^μ; "linear": it is μ.

    Returns:
        `shift` of a `FlowNoiseSchedule`, a float.

    Raises:
        ValueError: fewer than one token, or an unknown kind.

    Example:

    >>> shift = kd.schedulers.flow_shift((1024 // 16) ** 2)  # 1024×1024 pixels, 8-fold latents, patches of 2
    >>> round(shift, 2)
    3.16

    Reference:
        Black Forest Labs' Flux as in diffusers' `calculate_shift`; why the shift grows with the size: Esser et al.
        2024, arXiv:2403.03206, section 5.3.2.
    """
    check_numbers(tokens=tokens, base_tokens=base_tokens, max_tokens=max_tokens)
    check_numbers(base_shift=base_shift, max_shift=max_shift)
    if base_tokens == max_tokens:
        raise ValueError(
            f"`base_tokens` and `max_tokens` must differ. Received: base_tokens={base_tokens}, max_tokens={max_tokens}"
        )
    if not tokens >= 1 or kind not in ("exponential", "linear"):
        raise ValueError(
            f"`tokens` counts positions and `kind` is 'exponential' or 'linear'. Received: tokens={tokens}, "
            f"kind={kind!r}"
        )
    mu = base_shift + (tokens - base_tokens) * (max_shift - base_shift) / (max_tokens - base_tokens)
    return math.exp(mu) if kind == "exponential" else mu
