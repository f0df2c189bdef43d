"""What blocks of transformers have in common: dropout and rematerialization.

Rematerialization forgets what a block computed on the way forward and computes it again on the way back: memory for
time. Randomness and recomputation do not mix, so the masks of dropout are drawn outside of what is recomputed.
"""

import keras
from keras import ops

from keras_diffusion.core.noise import generator_seed
from keras_diffusion.layers.layer import Layer
from keras_diffusion.layers.options import check_dropout


class SequenceBlock(Layer):
    """Base class of blocks. Subclasses define `build` and `step`.

    Args:
        dropout: share of each branch's output that training sets to 0, in [0, 1). Default 0.
        remat: whether training computes the block again on the way back, instead of remembering it. Default False.
        seed: int or None; of dropout.

    Raises:
        ValueError: `dropout` outside [0, 1).
    """

    def __init__(self, dropout=0.0, remat=False, seed=None, **kwargs):
        super().__init__(**kwargs)
        check_dropout(dropout)
        self.seed_generator = keras.random.SeedGenerator(generator_seed(seed)) if dropout > 0 else None

    def step(self, x, first, second, *others):
        """One pass through the block.

        Args:
            x: tokens `(B, N, C)`.
            first, second: what the outputs of its two branches are multiplied by, `()` or shaped like `x`: the masks of
                dropout.
            *others: further inputs of the block, such as condition vectors `(B, E)`.

        Returns:
            tokens `(B, N, C)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement step(x, first, second, *others)")

    def run(self, x, *others, training=False):
        """`step` with masks, and rematerialized if asked for.

        Args:
            x: tokens `(B, N, C)`.
            *others: further inputs of `step`.
            training: whether dropout drops.

        Returns:
            tokens `(B, N, C)`.
        """
        masks = self._dropout_masks(2, ops.shape(x), training) or [ops.ones((), x.dtype)] * 2
        return self._recomputed(self.step, training)(x, *masks, *others)
