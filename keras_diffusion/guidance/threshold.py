"""Thresholding: predicted images belong in [−limit, limit]; strong guidance drives them out of it.

Both wrappers change x0 and let ε follow from x = α·x0 + σ·ε, or keep the denoiser's ε, as diffusers' DDIM does.
"""

from keras import ops

from keras_diffusion.configs.checks import check_flag, check_number
from keras_diffusion.configs.registry import Registry
from keras_diffusion.denoisers.denoiser import Wrapper, with_x0

THRESHOLDS = Registry("threshold", saved=False)


@THRESHOLDS.register("static_threshold")
class StaticThreshold(Wrapper):
    """Clips x0 to [−limit, limit].

    Args:
        denoiser: the `Denoiser` to wrap.
        limit: largest magnitude, > 0. Default 1.
        keep_eps: whether ε stays as it was. Default False: it follows from x and the new x0.

    Example:

    >>> clipped = kd.guidance.StaticThreshold(conditional, limit=0.5)
    >>> float(kd.keras.ops.max(clipped(x, level).x0)) <= 0.5
    True

    Reference:
        Saharia et al. 2022 (Imagen), arXiv:2205.11487, section 2.3.
    """

    def __init__(self, denoiser, limit=1.0, keep_eps=False):
        rule = "`limit` is the largest magnitude of a sample and must be positive"
        self.limit = check_number("limit", limit, above=0, rule=rule)
        self.keep_eps = check_flag("keep_eps", keep_eps)
        super().__init__(denoiser)

    def __call__(self, x, level):
        prediction = self.denoiser(x, level)
        return _replaced(x, ops.clip(prediction.x0, -self.limit, self.limit), level, prediction, self.keep_eps)


@THRESHOLDS.register("dynamic_threshold")
class DynamicThreshold(Wrapper):
    """Clips each sample's x0 at a quantile of its magnitudes and scales it back into [−limit, limit].

    s = max(limit, quantile of |x0|, ceiling at most);  x0 ← clip(x0, −s, s)·limit/s

    Args:
        denoiser: the `Denoiser` to wrap.
        quantile: in (0, 1]; linear interpolation over all elements of a sample. Default 0.995.
        limit: half width of the data's range, > 0. Default 1.
        ceiling: largest s. Default none.
        keep_eps: see `StaticThreshold`.

    Example:

    >>> clipped = kd.guidance.DynamicThreshold(conditional, quantile=0.9, limit=0.5)
    >>> float(kd.keras.ops.max(clipped(x, level).x0)) <= 0.5
    True

    Reference:
        Saharia et al. 2022 (Imagen), arXiv:2205.11487, section 2.3.
    """

    def __init__(self, denoiser, quantile=0.995, limit=1.0, ceiling=None, keep_eps=False):
        for name, value in (("quantile", quantile), ("limit", limit), ("ceiling", ceiling)):
            check_number(name, value, optional=name == "ceiling")
        check_flag("keep_eps", keep_eps)
        if not 0 < quantile <= 1 or not limit > 0 or (ceiling is not None and not ceiling >= limit):
            raise ValueError(
                "Dynamic thresholding needs a quantile in (0, 1], a positive limit and a ceiling not below it. "
                f"Received: quantile={quantile}, limit={limit}, ceiling={ceiling}"
            )
        super().__init__(denoiser)

    def __call__(self, x, level):
        prediction = self.denoiser(x, level)
        x0 = prediction.x0
        s = ops.quantile(ops.reshape(ops.abs(x0), (ops.shape(x0)[0], -1)), self.quantile, axis=1)
        s = ops.clip(s, self.limit, float("inf") if self.ceiling is None else self.ceiling)
        s = ops.reshape(s, (-1,) + (1,) * (len(x0.shape) - 1))
        return _replaced(x, ops.clip(x0, -s, s) * (self.limit / s), level, prediction, self.keep_eps)


def _replaced(x, x0, level, prediction, keep_eps):
    return prediction._replace(x0=x0) if keep_eps else with_x0(x, x0, level)
