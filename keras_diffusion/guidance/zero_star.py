"""CFG-Zero*: guidance from the multiple of the unconditional velocity that comes closest to the conditional one.

    s = ⟨u_c, u_∅⟩/|u_∅|²                the least of |u_c − s·u_∅|²
    u = s·u_∅ + w·(u_c − s·u_∅)          u = ε − x0
    u = 0                                at the beginning, where asked for

An undertrained network's velocities are wrong by a factor first of all, and the difference of two of them has that
error in it. A perfect network has no use for s.
"""

from keras import ops

from keras_diffusion.configs.checks import check_number
from keras_diffusion.core.broadcast import expand_to_rank, sample_axes
from keras_diffusion.guidance.pair import GUIDANCES, PairGuidance


@GUIDANCES.register("zero_star", "cfg_zero_star")
class CFGZeroStarGuidance(PairGuidance):
    """Classifier-free guidance with an optimized scale, and zero velocity at first.

    Args:
        conditional, unconditional, scale, interval, rescale: see `PairGuidance`.
        predictor: `Predictor`, or its name: the prediction that is combined. Default "velocity".
        zero_init: share of the way, in [0, 1], on which the combined output is 0: where σ/(α + σ) > 1 − zero_init. With
            the velocity, x/(α + σ) then stays where it is. 0 (default) is off; the paper takes 0.04.

    Raises:
        ValueError: `zero_init` outside [0, 1].

    Example:

    >>> guided = kd.guidance.CFGZeroStarGuidance(conditional, unconditional, scale=3.0, zero_init=0.04)
    >>> x0, eps = guided(x, level)

    Reference:
        Fan et al. 2025, arXiv:2503.18886, section 4.
    """

    def __init__(
        self, conditional, unconditional, scale, zero_init=0.0, interval=None, rescale=None, predictor="velocity"
    ):
        super().__init__(conditional, unconditional, scale, interval, rescale, predictor)
        rule = "`zero_init` is a share of the way and must lie in [0, 1]"
        self.zero_init = check_number("zero_init", zero_init, 0, 1, rule=rule)

    def combine(self, conditional, unconditional, x, level):
        product, square = (
            ops.sum(y * unconditional, axis=sample_axes(x), keepdims=True) for y in (conditional, unconditional)
        )
        unconditional = product / (square + 1e-8) * unconditional
        guided = unconditional + self.scale * (conditional - unconditional)
        begun = level.sigma / (level.alpha + level.sigma) <= 1.0 - self.zero_init
        return guided * expand_to_rank(ops.cast(begun, guided.dtype), guided)
