"""Loss weightings: how much an error counts at each noise level.

A weighting is a function of the log-SNR alone and applies to the squared error of x0, whatever the network predicts:

    loss = w(λ)·|x̂0 − x0|² = w(λ)·s·|ŷ − y|²,      s = (σ/(a·σ − b·α))²  for a network output y = a·x0 + b·ε

so that ε-, v- and EDM-prediction are trained on the same loss and differ in what the network has to represent.

    name            w on the x0 error          the same on the ε error (divide by SNR = e^λ)
    none            1/s: plain error of y      –
    snr             SNR                        1
    min_snr         min(SNR, γ)                min(SNR, γ)/SNR
    truncated_snr   max(SNR, 1), or bounded    max(1, 1/SNR)
    p2              SNR/(k + SNR)^γ            1/(k + SNR)^γ
    sigmoid         SNR·sigmoid(b − λ)         sigmoid(b − λ)
    edm             SNR + 1/σ_d²               1 + 1/(σ_d²·SNR)
    soft_min_snr    1/(σ²/α² + σ_d²)           –

A schedule may end at α = 0 or begin at σ = 0, where λ is infinite and factors above are 0·∞: there λ is taken for ±40,
beyond all that a draw of t comes to, so that every weight is finite.
"""

import math

from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import check_number, check_numbers
from keras_diffusion.configs.registry import Registry

LOSS_WEIGHTINGS = Registry("loss weighting", default="none")

_LIMIT = 40.0  # of |λ|; e^40 squared still is a float32


def _bounded(log_snr):
    return ops.clip(ops.convert_to_tensor(log_snr), -_LIMIT, _LIMIT)


def _snr(log_snr):
    return ops.exp(_bounded(log_snr))


@LOSS_WEIGHTINGS.base
class LossWeighting(ArgumentsMixin):
    """Base class: `weighting(log_snr) -> w`, the weight on the squared x0 error.

    Call arguments:
        log_snr: λ = log(α²/σ²), a tensor of any shape.

    Returns:
        weights, shaped like `log_snr`.
    """

    def __call__(self, log_snr):
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(log_snr)")

    def on_output(self, log_snr, x0_error_scale):
        """The weight w(λ)·s on the squared error of the network's output.

        Args:
            log_snr: λ = log(α²/σ²), a tensor or number of any shape, `()` or `(B,)`.
            x0_error_scale: s of the predictor at these levels, shaped like `log_snr`; see `Predictor.x0_error_scale`.

        Returns:
            weights, shaped like `log_snr`.
        """
        scale = ops.clip(x0_error_scale, math.exp(-_LIMIT), math.exp(_LIMIT))
        return self(_bounded(log_snr)) * scale


@LOSS_WEIGHTINGS.register("none")
class NoWeighting(LossWeighting):
    """The plain squared error of the network's output.

    As a function of the log-SNR alone it would depend on the predictor, so it cannot be called: use `on_output`.

    Raises:
        ValueError: when called.

    Example:

    >>> weighting = kd.training.NoWeighting()
    >>> float(weighting.on_output(0.0, x0_error_scale=3.0))
    1.0

    Reference:
        Ho et al. 2020, arXiv:2006.11239, eq. 14 (the "simple" loss, there of ε).
    """

    def __call__(self, log_snr):
        raise ValueError(
            "NoWeighting leaves the error of the network's output as it is; its weight on x0 depends on the "
            "predictor. Use on_output."
        )

    def on_output(self, log_snr, x0_error_scale):
        return ops.ones_like(log_snr)


@LOSS_WEIGHTINGS.register("snr", "epsilon")
class SNRWeighting(LossWeighting):
    """w = SNR: the plain ε loss of DDPM, whatever the network predicts.

    Example:

    >>> weighting = kd.training.SNRWeighting()
    >>> [round(float(weighting(log_snr)), 3) for log_snr in (-2.0, 0.0, 2.0)]
    [0.135, 1.0, 7.389]

    Reference:
        Ho et al. 2020, arXiv:2006.11239, eq. 14; as a weight on x0: Salimans & Ho 2022, arXiv:2202.00512, section 4.
    """

    def __call__(self, log_snr):
        return _snr(log_snr)


@LOSS_WEIGHTINGS.register("min_snr")
class MinSNRWeighting(LossWeighting):
    """w = min(SNR, γ): the clean levels no longer dominate the gradient.

    Args:
        gamma: γ > 0. Default 5.

    Example:

    >>> weighting = kd.training.MinSNRWeighting(gamma=5.0)
    >>> [round(float(weighting(log_snr)), 3) for log_snr in (-2.0, 0.0, 2.0)]
    [0.135, 1.0, 5.0]

    Reference:
        Hang et al. 2023, arXiv:2303.09556.
    """

    def __init__(self, gamma=5.0):
        self.gamma = check_number(
            "gamma", gamma, above=0, rule="`gamma` caps a signal-to-noise ratio and must be positive"
        )

    def __call__(self, log_snr):
        return ops.minimum(_snr(log_snr), self.gamma)


@LOSS_WEIGHTINGS.register("truncated_snr")
class TruncatedSNRWeighting(LossWeighting):
    """w = max(SNR, 1), or, with a largest value, min(max(SNR, 1), maximum).

    For x0-prediction give a `maximum` of some 5 or 20: the output's error is then weighted by SNR itself, which is
    huge where there is hardly any noise, and training does not survive it.

    Args:
        maximum: largest weight, ≥ 1; None (default): none, as published.

    Example:

    >>> weighting = kd.training.TruncatedSNRWeighting()
    >>> [round(float(weighting(log_snr)), 3) for log_snr in (-2.0, 0.0, 2.0)]
    [1.0, 1.0, 7.389]
    >>> float(kd.training.TruncatedSNRWeighting(maximum=5.0)(2.0))
    5.0

    Reference:
        Salimans & Ho 2022, arXiv:2202.00512, section 4; the bound is that of min-SNR, arXiv:2303.09556.
    """

    late_arguments = ("maximum",)

    def __init__(self, maximum=None):
        self.maximum = check_number("maximum", maximum, 1.0, optional=True)

    def __call__(self, log_snr):
        weight = ops.maximum(_snr(log_snr), 1.0)
        return weight if self.maximum is None else ops.minimum(weight, self.maximum)


@LOSS_WEIGHTINGS.register("p2")
class P2Weighting(LossWeighting):
    """w = SNR/(k + SNR)^γ.

    Args:
        k: > 0. Default 1.
        gamma: γ ≥ 0; 0 is the ε loss. Default 1.

    Raises:
        ValueError: `k` not positive, or a negative `gamma`.

    Example:

    >>> weighting = kd.training.P2Weighting(gamma=0.5)
    >>> [round(float(weighting(log_snr)), 3) for log_snr in (-2.0, 0.0, 2.0)]
    [0.127, 0.707, 2.551]

    Reference:
        Choi et al. 2022, arXiv:2204.00227.
    """

    def __init__(self, k=1.0, gamma=1.0):
        check_numbers(k=k, gamma=gamma)
        if not k > 0 or not gamma >= 0:
            raise ValueError(f"P2 weighting needs k > 0 and gamma >= 0. Received: k={k}, gamma={gamma}")

    def __call__(self, log_snr):
        snr = _snr(log_snr)
        return snr / (self.k + snr) ** self.gamma


@LOSS_WEIGHTINGS.register("sigmoid")
class SigmoidWeighting(LossWeighting):
    """w = SNR·sigmoid(bias − λ).

    Args:
        bias: log-SNR up to which levels keep their ε weight. Default 2.

    Example:

    >>> weighting = kd.training.SigmoidWeighting(bias=1.0)
    >>> [round(float(weighting(log_snr)), 3) for log_snr in (-2.0, 0.0, 2.0)]
    [0.129, 0.731, 1.987]

    Reference:
        Kingma & Gao 2023, arXiv:2303.00848; Hoogeboom et al. 2024 (SiD2), arXiv:2410.19324.
    """

    def __init__(self, bias=2.0):
        self.bias = check_number("bias", bias)

    def __call__(self, log_snr):
        return _snr(log_snr) * ops.sigmoid(self.bias - _bounded(log_snr))


class _SigmaDataWeighting(LossWeighting):
    def __init__(self, sigma_data=0.5):
        rule = "`sigma_data` is a standard deviation and must be positive"
        self.sigma_data = check_number("sigma_data", sigma_data, above=0, rule=rule)


@LOSS_WEIGHTINGS.register("edm")
class EDMWeighting(_SigmaDataWeighting):
    """w = (σ̂² + σ_d²)/(σ̂·σ_d)² = SNR + 1/σ_d², σ̂ = σ/α: weight 1 on the output of an EDM-preconditioned network.

    Args:
        sigma_data: σ_d > 0. Default 0.5.

    Example:

    >>> weighting = kd.training.EDMWeighting(sigma_data=1.0)
    >>> [round(float(weighting(log_snr)), 3) for log_snr in (-2.0, 0.0, 2.0)]
    [1.135, 2.0, 8.389]

    Reference:
        Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    def __call__(self, log_snr):
        return _snr(log_snr) + 1.0 / self.sigma_data**2


@LOSS_WEIGHTINGS.register("soft_min_snr")
class SoftMinSNRWeighting(_SigmaDataWeighting):
    """w = 1/(σ̂² + σ_d²), σ̂ = σ/α: min-SNR with γ = 1/σ_d² and a smooth bend.

    Args:
        sigma_data: σ_d > 0. Default 0.5.

    Example:

    >>> weighting = kd.training.SoftMinSNRWeighting(sigma_data=1.0)
    >>> [round(float(weighting(log_snr)), 3) for log_snr in (-2.0, 0.0, 2.0)]
    [0.119, 0.5, 0.881]

    Reference:
        Crowson et al. 2024 (HDiT), arXiv:2401.11605.
    """

    def __call__(self, log_snr):
        return 1.0 / (_snr(-log_snr) + self.sigma_data**2)
