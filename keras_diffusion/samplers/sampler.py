"""Samplers: a plan and a step.

`plan` does all scalar maths of a grid of levels on the host in float64 and returns a table with one row per step; tests and plots can
look at it without a backend. `step` does only linear algebra on x, inside one compiled loop over the rows. So another η, spacing or
schedule is another table for the same program. What a multistep method does not know yet at its first steps is a zero in the table.

    level 0 ──row 0──▶ level 1 ──row 1──▶ … ──row n−1──▶ level n

Where level n is clean (σ = 0) the last step is x ← x0 for every method. Methods with one evaluation per step write that into their
last row. Those with inner stages cannot (a stage would be evaluated at σ = 0): their last step is `close`, after the loop.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.core import noise as noise_sources
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.precision import solver_dtype, solver_layer_options
from keras_diffusion.core.registry import Registry

SAMPLERS = Registry("sampler")


@SAMPLERS.base
class Sampler(keras.layers.Layer):
    """Base class of samplers.

    A subclass writes `plan` and `step`, and `initial_state` where it remembers something between steps.

    Call arguments:
        x: noisy samples `(B, ...)` at the first level.
        denoise: a `Denoiser`. This and the next two by keyword, as Keras wants arguments that are no tensors.
        plan: table of tensors from `table`, leading axis = rows.
        noise: function (step, draw) → standard normal tensor shaped like x.

    Returns:
        x after the last row (before `close`), shaped like `x`.
    """

    evaluations_per_step = 1
    noises_per_step = 0
    table_options: tuple[str, ...] = ()  # options that act through the table alone: changing them needs no new program

    def __init__(self, **kwargs):
        super().__init__(**solver_layer_options(kwargs))
        self.built = True

    def plan(self, levels, schedule=None):
        """The table of a grid.

        Args:
            levels: `Levels` of n + 1 entries with falling noise, the last of which may be clean.
            schedule: `NoiseSchedule` that the levels lie on, for methods that evaluate between them. Where it is missing, a grid that is
                variance preserving, variance exploding or a straight flow is recognized.

        Returns:
            dict of float64 arrays (or tuples and `Levels` of such) with leading axis n.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement plan(levels, schedule)")

    def initial_state(self, x):
        """What is carried from step to step, a pytree of fixed structure and shapes. Default: nothing."""
        return ()

    def step(self, denoise, x, row, state, noise):
        """One step: x at this row's level → (x at the next one, new state). Tensors only, no branches."""
        raise NotImplementedError(f"{type(self).__name__} must implement step(denoise, x, row, state, noise)")

    def close(self, denoise, x, row, noise):
        """The step to a clean level, for methods with inner stages."""
        return denoise(x, row["level"]).x0

    def table(self, levels, schedule=None):
        """`plan` with the column "level": the levels that the steps start from. Checks the levels."""
        levels = check_levels(levels)
        return {"level": levels.map(lambda v: v[:-1]), **self.plan(levels, schedule)}

    def structure(self):
        """What the compiled step depends on besides the table, hashable: samplers with equal structures share a program."""
        options = {key: value for key, value in self.get_config().items() if key not in ("name", *self.table_options)}
        return type(self).__name__, self.evaluations_per_step, self.noises_per_step, repr(sorted(options.items()))

    def closes_apart(self, levels):
        """Whether the last step is `close`, after the loop, rather than the last row of the table."""
        return self.evaluations_per_step > 1 and levels.sigma[-1] == 0

    def call(self, x, denoise, plan, noise):
        rows = keras.tree.flatten(plan)[0].shape[0]
        x, _, _ = self.run(x, self.initial_state(x), None, denoise, plan, noise, 0, rows)
        return x

    def run(self, x, state, trajectory, denoise, plan, noise, start, stop):
        """Rows `start` to `stop` of the table in one loop.

        Args:
            x, state: as `step` takes them.
            trajectory: buffer `(rows, *x.shape)` that x after each row is written into, or None.
            denoise, plan, noise: as in the call.
            start, stop: ints or integer scalar tensors; which rows run does not change the compiled program.

        Returns:
            (x, state, trajectory) after the rows.
        """
        recorded = trajectory is not None

        def body(i, carry):
            x, state, trajectory = carry
            row = keras.tree.map_structure(lambda column: ops.take(column, i, axis=0), plan)
            x, state = self.step(denoise, x, row, state, lambda draw: noise(i, draw))
            if recorded:
                # 0·i has the integer type of i: JAX refuses a mixture, which plain zeros would be with 64-bit types enabled.
                trajectory = ops.slice_update(trajectory, (i,) + (0 * i,) * len(x.shape), x[None])
            return x, state, trajectory

        carry = (x, state, trajectory if recorded else ops.zeros((), x.dtype))
        x, state, trajectory = ops.fori_loop(start, stop, body, carry)
        return x, state, trajectory if recorded else None

    def sample(self, x, denoise, levels, noise=None, schedule=None, trajectory=False, seed=None):
        """Walks down a grid of levels.

        Args:
            x: noisy samples `(B, ...)` at the first level, on its scale: α·x0 + σ·ε.
            denoise: a `Denoiser`.
            levels: `Levels` of n + 1 entries with falling noise. A clean last one (σ = 0) gives the closing x ← x0.
            noise: array `(n, noises_per_step, B, ...)` of standard normals, or None to draw them. That of a closing step may
                be left out; where churn would add noise before it, none is then added.
            schedule: see `plan`.
            trajectory: also return x after every step.
            seed: int, for `noise=None`; None takes a new one.

        Returns:
            x `(B, ...)` at the last level, or (x, xs) with xs `(n, B, ...)`.

        Raises:
            ValueError: levels out of order, or noise of the wrong shape.
        """
        levels = check_levels(levels)
        plan = to_tensors(self.table(levels, schedule))
        x = ops.convert_to_tensor(x, dtype=solver_dtype())
        rows = len(levels.t) - 1
        in_loop = rows - 1 if self.closes_apart(levels) else rows
        noise = self._noise_source(noise, rows, x, seed, closing=levels.sigma[-1] == 0)
        buffer = ops.zeros((in_loop, *x.shape), x.dtype) if trajectory else None
        x, _, buffer = self.run(x, self.initial_state(x), buffer, denoise, plan, noise, 0, in_loop)
        if in_loop < rows:
            last = keras.tree.map_structure(lambda column: column[-1], plan)
            x = self.close(denoise, x, last, lambda draw: noise(rows - 1, draw))
            buffer = ops.concatenate([buffer, x[None]]) if trajectory else None
        return (x, buffer) if trajectory else x

    def _noise_source(self, noise, rows, x, seed, closing):
        if noise is None:
            words = noise_sources.seed_words(seed)
            return lambda i, draw: noise_sources.counter_normal(words, i, draw, tuple(x.shape))
        needed = self.noises_per_step
        shape = tuple(np.shape(noise))
        if needed and (len(shape) < 2 or shape[0] not in (rows, rows - closing) or shape[1] < needed or shape[2:] != tuple(x.shape)):
            raise ValueError(
                f"`noise` holds the normals of every step and draw: its shape must be (steps, noises_per_step, *x.shape) = "
                f"{(rows, needed, *x.shape)}. Received: noise of shape {shape}. Pass None to have it drawn."
            )
        noise = ops.convert_to_tensor(noise, dtype=x.dtype)
        if needed and shape[0] < rows:  # a step to a clean level multiplies its draw by 0
            noise = ops.concatenate([noise, ops.zeros((1, *shape[1:]), noise.dtype)])
        return lambda i, draw: ops.take(noise, i, axis=0)[draw]


def to_tensors(plan):
    """A table's float64 columns as tensors of the solver's type."""
    return keras.tree.map_structure(lambda column: ops.convert_to_tensor(np.asarray(column, solver_dtype())), plan)


def check_levels(levels):
    """`levels` as float64 arrays; raises unless they are a grid that a sampler can walk down."""
    levels = Levels(*(np.atleast_1d(np.asarray(v, "float64")) for v in levels))
    t, alpha, sigma = levels
    rule = None
    with np.errstate(invalid="ignore"):  # ∞ − ∞ of two clean levels is not > 0 either
        falls = t.shape == alpha.shape == sigma.shape and np.all(np.diff(levels.log_snr) > 0)
    if not t.shape == alpha.shape == sigma.shape or t.ndim != 1 or len(t) < 2:
        rule = "t, alpha and sigma must be vectors of one length n + 1, n ≥ 1 being the number of steps"
    elif not (np.all(np.isfinite(alpha)) and np.all(np.isfinite(sigma)) and np.all(alpha >= 0) and np.all(sigma >= 0)):
        rule = "alpha and sigma must be finite and not negative"
    elif not falls:
        rule = "the noise must fall strictly from each level to the next (σ/α decreasing), and only the last level may be clean"
    if rule:
        raise ValueError(f"A sampler walks down a grid of levels: {rule}. Received: alpha={alpha}, sigma={sigma}")
    return levels


def pairs(levels):
    """(α, σ) at the start and at the end of every step: four arrays (n,)."""
    return levels.alpha[:-1], levels.sigma[:-1], levels.alpha[1:], levels.sigma[1:]
