"""RePaint: inpainting in which what is filled in and what is known have time to agree.

Where the image is known, x is replaced by the known image at the current noise level:

    x ← m·(α·known + σ·z) + (1 − m)·x

By itself, that leaves seams: the noise of the known part is drawn without regard to the rest. So the walk jumps back up
some steps now and then and comes down again; noising both parts together and denoising them together lets information
cross the border.

    · · · ▶ level i ─ ─ noise ─ ─▶ level i − jump_length ──▶ … ──▶ level i ─ ─ · · ·

`resamplings` is the number of walks down to each stop i.
"""

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_whole
from keras_diffusion.core.denoiser_memory import parts_of
from keras_diffusion.samplers.jumping import JumpingSampler
from keras_diffusion.samplers.sampler import SAMPLERS


@SAMPLERS.register("repaint")
class RePaintSampler(JumpingSampler):
    """RePaint around any sampler.

    What is known comes with the denoiser: `guidance.ReplaceKnown(denoiser, known, mask)`, which is what `generate`
    makes of `init` and `mask`. Without it the sampler jumps all the same. Evaluations: about `resamplings` times those
    of the wrapped sampler.

    Args:
        sampler: `Sampler`, its name, or a dict with options. Default "ddpm".
        jump_length: steps to jump back, and between one stop and the next, ≥ 1. Default 10, as in the paper, for 250
            steps. The last stop is the last noisy level; there are none where the grid has not more steps than this.
        resamplings: walks down to each stop ≥ 1; 1 is plain replacement. Default 10.
        s_noise: factor on the jumps' noise. Default 1.

    Raises:
        ValueError: a jump length or a number of resamplings below 1, or a sampler that cannot be wrapped.

    Example:

    >>> sampler = kd.samplers.RePaintSampler("ddim", jump_length=5, resamplings=2)
    >>> samples = sampler.sample(x, denoise, levels, schedule=schedule, seed=0)

    Reference:
        Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1 and appendix B (jumps).
    """

    table_options = ("s_noise", "jump_length", "resamplings")

    def __init__(self, sampler="ddpm", jump_length=10, resamplings=10, s_noise=1.0, **kwargs):
        super().__init__(sampler, s_noise, **kwargs)
        self.jump_length, self.resamplings = (
            check_whole(name, value, 1, rule=f"`{name}` counts steps or walks and must be an integer of at least 1")
            for name, value in (("jump_length", jump_length), ("resamplings", resamplings))
        )
        self.noises_per_step += 1

    def pieces(self, levels, schedule):
        last = len(levels.t) - 1
        noisy = last - (levels.sigma[-1] == 0)
        stops = range(noisy, self.jump_length - 1, -self.jump_length)[::-1]
        walks, here = [], 0
        for stop in stops if self.resamplings > 1 else ():
            walks += [(here, stop)] + [(stop - self.jump_length, stop)] * (self.resamplings - 1)
            here = stop
        walks.append((here, last))
        return [
            (levels.map(lambda v, a=start, b=end: v[a : b + 1]), np.arange(start + 1, end + 1))
            for start, end in walks
            if start < end
        ]

    def prepare(self, denoise, x, row, noise):
        x = super().prepare(denoise, x, row, noise)
        for part in parts_of(denoise):
            if hasattr(part, "known") and hasattr(part, "mask"):
                known, mask = (ops.convert_to_tensor(value, dtype=x.dtype) for value in (part.known, part.mask))
                # Where x stands at a level of the grid (a method may take several rows from one to the next): eq. 8a
                # and 8c.
                noisy = row["level"].alpha * known + row["level"].sigma * noise(self.noises_per_step - 1)
                x = x + row["starts"] * mask * (noisy - x)
        return x
