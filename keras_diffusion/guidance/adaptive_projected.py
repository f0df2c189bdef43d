"""Adaptive projected guidance: the part of the guidance that only makes the prediction larger is left out.

    Δ ← y_c − y_∅ + β·Δ_before                  momentum, β < 0: what the last step has already done is held back
    Δ ← Δ·min(1, r/|Δ|)                         no step is larger than r
    Δ∥ = ⟨Δ, y_c⟩/|y_c|²·y_c
    y  = y_c + (w − 1)·(Δ − (1 − η)·Δ∥)

Δ∥ raises saturation and contrast, the rest changes what is seen. η = 1 with neither r nor β is classifier-free
guidance. The direction of y_c says nothing about saturation where zero is not the middle of the data, as in a latent
space with a shift.
"""

from keras import ops

from keras_diffusion.configs.checks import check_choice, check_number, check_whole
from keras_diffusion.core.broadcast import sample_axes
from keras_diffusion.guidance.pair import GUIDANCES, PairGuidance


@GUIDANCES.register("adaptive_projected", "apg")
class AdaptiveProjectedGuidance(PairGuidance):
    """Guidance orthogonal to the conditional prediction, with a largest norm and momentum.

    Args:
        conditional, unconditional, scale, interval, rescale, predictor: see `PairGuidance`.
        eta: share η of the parallel part that is kept. Default 0.
        norm_threshold: largest norm r of Δ, > 0, or None (default) for any. Grows with the square root of a sample's
            size.
        momentum: β in (−1, 1), usually negative, or None (default) for none. What is remembered lasts for one walk of a
            sampler.
        axis: None (default): norms and products over all of a sample; −1: over the channels of each position; or a
            tuple of axes.
        base: "conditional" (default), as above; "unconditional": y = y_∅ + w·(…), which at w = 1 is not y_c.

    Raises:
        ValueError: a threshold that is not positive, momentum outside (−1, 1), or an unknown base.

    Example:

    >>> guided = kd.guidance.AdaptiveProjectedGuidance(conditional, unconditional, scale=3.0, momentum=-0.5)
    >>> x0, eps = guided(x, level)

    Reference:
        Sadat et al. 2024, arXiv:2410.02416, section 4, on x0.
    """

    def __init__(
        self,
        conditional,
        unconditional,
        scale,
        eta=0.0,
        norm_threshold=None,
        momentum=None,
        interval=None,
        rescale=None,
        predictor="x0",
        axis=None,
        base="conditional",
    ):
        super().__init__(conditional, unconditional, scale, interval, rescale, predictor)
        rule = "`norm_threshold` is the largest norm of the guidance and must be positive, or None for any"
        check_number("norm_threshold", norm_threshold, above=0, rule=rule, optional=True)
        rule = "`momentum` must lie in (−1, 1), or the sum grows without bound"
        check_number("momentum", momentum, above=-1, below=1, rule=rule, optional=True)
        check_choice(
            "base", base, ("conditional", "unconditional"), "`base` is what is guided: 'conditional' or 'unconditional'"
        )
        check_number("eta", eta)
        for number in axis if isinstance(axis, (list, tuple)) and axis else (axis,):
            check_whole(
                "axis", number, -8, 8, rule="`axis` is an axis of a sample, several, or None for all", optional=True
            )

    def initial_memory(self, x):
        return None if self.momentum is None else ops.zeros_like(x)

    def combine(self, conditional, unconditional, x, level):
        step = self._remembered(conditional - unconditional, x, level)
        axes = sample_axes(x) if self.axis is None else self.axis
        if self.norm_threshold is not None:
            square = ops.sum(ops.square(step), axis=axes, keepdims=True)
            # The larger of the two under the root: no division by 0, and derivatives where Δ = 0.
            step = step * (self.norm_threshold / ops.sqrt(ops.maximum(square, self.norm_threshold**2)))
        step = step - (1.0 - self.eta) * projection(step, conditional, axes)
        if self.base == "conditional":
            return conditional + (self.scale - 1.0) * step
        return unconditional + self.scale * step

    def _remembered(self, difference, x, level):
        if self.memory is None:
            return difference
        step, inside = difference + self.momentum * self.memory, self.inside(x, level)
        self.memory = step if inside is None else ops.where(inside, step, self.memory)
        return step


def projection(y, onto, axes, tiny=1e-24):
    """The part of `y` that is parallel to `onto`: ⟨y, onto⟩/|onto|²·onto, products over `axes`."""
    product, square = (ops.sum(v * onto, axis=axes, keepdims=True) for v in (y, onto))
    return product / ops.maximum(square, tiny) * onto
