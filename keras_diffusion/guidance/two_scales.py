"""Guidance with two scales: one for known channels beside the sample ("concat"), one for all other conditions.

    y = y(∅, ∅) + w_c·(y(∅, c) − y(∅, ∅)) + w·(y(T, c) − y(∅, c))

y(∅, c) knows the channels c and no text or label T. A larger w_c keeps closer to the image that is edited, a larger w
to the words. With w_c = 1 it is classifier-free guidance that keeps the known channels in both predictions.
"""

from keras_diffusion.configs.checks import check_number
from keras_diffusion.core.levels import Prediction
from keras_diffusion.guidance.pair import GUIDANCES, PairGuidance


@GUIDANCES.register("two_scales", "pix2pix")
class TwoScaleGuidance(PairGuidance):
    """InstructPix2Pix's guidance: the image to edit and the words have a scale each. Two evaluations, of a doubled and
    a single batch.

    Args:
        conditional: `Denoiser` with all conditions.
        unconditional: `Denoiser` with the known channels alone.
        scale: w of the other conditions, a number or a scalar tensor.
        concat_scale: w_c of the known channels, diffusers' `image_guidance_scale`. Default 1.5.
        interval: (low, high): guide only where low < σ/α ≤ high. Default: everywhere.
        empty: `Denoiser` with neither; `generate` makes it, of the negative conditions where there are some.

    Raises:
        ValueError: a `concat_scale` that is no number, an interval that is empty; when called, no `empty`.

    Example:

    >>> guided = kd.guidance.TwoScaleGuidance(conditional, unconditional, scale=7.5, concat_scale=1.5, empty=empty)
    >>> x0, eps = guided(x, level)

    Reference:
        Brooks et al. 2023, arXiv:2211.09800, eq. 3.
    """

    def __init__(self, conditional, unconditional, scale, concat_scale=1.5, interval=None, empty=None):
        super().__init__(conditional, unconditional, scale, interval)
        rule = "`concat_scale` is the guidance scale of known channels, a finite number"
        self.concat_scale = check_number("concat_scale", concat_scale, rule=rule)

    def guide(self, conditional, unconditional, x, level):
        """The guided prediction, with a third one from `empty`.

        Args:
            conditional, unconditional, x, level: as in `PairGuidance.guide`.

        Returns:
            `Prediction` with x = α·x0 + σ·ε.

        Raises:
            ValueError: no `empty`.
        """
        if self.empty is None:
            raise ValueError(
                "Guidance with two scales has a third prediction, without any condition. Received: empty=None. Pass a "
                "denoiser as `empty`; `generate` makes it by itself."
            )
        empty = self.empty(x, level)
        return Prediction(
            *(
                e + self.concat_scale * (u - e) + self.scale * (c - u)
                for c, u, e in zip(conditional, unconditional, empty, strict=True)
            )
        )
