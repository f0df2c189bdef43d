"""Inpainting by replacement: where the image is known, it replaces the denoiser's prediction.

x0 is replaced by the known image inside the mask at every step. Cheap, one network call per step; the unknown part sees
the known one only through the network, so seams can stay visible; `samplers.RePaintSampler` walks up and down again to
mend them.
"""

from keras import ops

from keras_diffusion.denoisers.denoiser import Wrapper, as_tensors, with_x0


class ReplaceKnown(Wrapper):
    """x0 ← mask·known + (1 − mask)·x0.

    Args:
        denoiser: the `Denoiser` to wrap.
        known: clean samples `(B, ...)`.
        mask: 1 where `known` is to be kept, 0 where the denoiser fills in; of a shape that broadcasts to `known`.

    Example:

    >>> guided = kd.guidance.ReplaceKnown(conditional, known=np.zeros((2, 2)), mask=np.array([1.0, 0.0]))
    >>> float(guided(x, level).x0[0, 0])
    0.0
    """

    def __init__(self, denoiser, known, mask):
        super().__init__(denoiser)

    def __call__(self, x, level):
        x, level = as_tensors(x, level)
        known, mask = (ops.convert_to_tensor(value, dtype=x.dtype) for value in (self.known, self.mask))
        return with_x0(x, mask * known + (1.0 - mask) * self.denoiser(x, level).x0, level)
