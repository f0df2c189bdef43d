"""Samplers: a plan and a step.

`plan` does all scalar maths of a grid of levels on the host in float64 and returns a table with one row per step; tests
and plots can look at it without a backend. `step` does only linear algebra on x, inside one compiled loop over the
rows. So another η, spacing or schedule is another table for the same program. What a multistep method does not know yet
at its first steps is a zero in the table.

    level 0 ──row 0──▶ level 1 ──row 1──▶ … ──row n−1──▶ level n

Where level n is clean (σ = 0) the last step is x ← x0 for every method. Methods with one evaluation per step write that
into their last row. Those with inner stages cannot (a stage would be evaluated at σ = 0): their last step is `close`,
after the loop.

A method may need several rows for a step (a row is then one evaluation), or walk up and down again: `step_ends` says
after which rows x stands at the levels of the grid.
"""

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.registry import Registry
from keras_diffusion.core.brownian import brownian_table, coupling_table
from keras_diffusion.core.function_denoiser import as_denoiser
from keras_diffusion.core.precision import policy_config, solver_dtype, solver_layer_options
from keras_diffusion.samplers.grids import check_levels
from keras_diffusion.samplers.tables import recorded, rows_of, to_tensors
from keras_diffusion.samplers.walk import (
    Walk,
    check_part,
    course_of,
    eager,
    follow,
    noise_kind,
    noise_of,
    run_rows,
    start_walk,
)

SAMPLERS = Registry("sampler")


@SAMPLERS.base
class Sampler(ArgumentsMixin, keras.layers.Layer):
    """Base class of samplers.

    A subclass writes `plan` and `step`, and `initial_state` where it remembers something between steps.

    Call arguments:
        x: noisy samples `(B, ...)` at the first level.
        denoise: a `Denoiser`. This and the next two by keyword, as Keras wants arguments that are no tensors.
        plan: table of tensors from `table`, leading axis = rows.
        noise: function (row, draw) → standard normal tensor shaped like x.

    Returns:
        x after the last row (before `close`), shaped like `x`.
    """

    evaluations_per_step = 1
    noises_per_step = 0
    ascends = False  # whether it walks from samples to noise: takes falling levels all the same, from their end
    couples_samples = False  # whether what a sample becomes depends on the others of its batch
    noise = "independent"  # or "brownian": what is drawn unless the caller says otherwise
    table_options: tuple[str, ...] = ()  # options that act through the table alone: changing them needs no new program

    def __init__(self, **kwargs):
        super().__init__(**solver_layer_options(kwargs, self))
        self.built = True

    def plan(self, levels, schedule=None):
        """The table of a grid.

        Args:
            levels: `Levels` of n + 1 entries with falling noise, the last of which may be clean.
            schedule: `NoiseSchedule` that the levels lie on, for methods that evaluate between them. Where it is
                missing, a grid that is variance preserving, variance exploding or a straight flow is recognized.

        Returns:
            dict of float64 arrays (or tuples and `Levels` of such) with leading axis n. A column "level" is added
            unless there is one: the levels that the steps start from.

        Raises:
            ValueError: levels on which the method is not defined.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement plan(levels, schedule)")

    def initial_state(self, x):
        """What is carried from step to step, before the first one.

        Args:
            x: samples `(B, ...)` at the first level.

        Returns:
            pytree of tensors of fixed structure and shapes; () (default) for a method that remembers nothing.
        """
        return ()

    def step(self, denoise, x, row, state, noise):
        """One step: from x at this row's level to x at the next one. Tensors only, no branches.

        Args:
            denoise: a `Denoiser`: (x, level) → (x0, ε).
            x: samples `(B, ...)` at the row's level, on its scale α·x0 + σ·ε.
            row: the row of the table: the pytree that `plan` returned, less its leading axis, so numbers where the
                plan has arrays (n,).
            state: what the last step returned, at first `initial_state(x)`.
            noise: function from the number of a draw, 0 … noises_per_step − 1, to standard normals shaped like `x`.

        Returns:
            (x, state): samples `(B, ...)` at the next level, and a state of the same structure and shapes.

        Raises:
            ValueError: x0 of every step asked of a method that does not have it (the adaptive ones).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement step(denoise, x, row, state, noise)")

    def close(self, denoise, x, row, noise):
        """The step to a clean level, for methods with inner stages.

        Args:
            denoise, x, row, noise: as in `step`, with the last row of the table.

        Returns:
            clean samples `(B, ...)`: the denoiser's x0.
        """
        return denoise(x, row["level"]).x0

    def state_after_close(self, state):
        """The state after `close`, for methods that count evaluations in it.

        Args:
            state: the state before `close`.

        Returns:
            state of the same structure.
        """
        return state

    def check(self, levels):
        """The levels that this sampler walks along, checked.

        Args:
            levels: `Levels` of n + 1 entries.

        Returns:
            `Levels` of float64 arrays (n + 1,).

        Raises:
            ValueError: fewer than two levels, arrays of other shapes, NaN, or levels that this sampler cannot walk
                along: for most, noise that does not fall.
        """
        return check_levels(levels)

    def table(self, levels, schedule=None, noise="given"):
        """`plan` with the columns "level" and what drawn noise needs: "brownian", or "coupling" for several draws.
        Checks the levels.

        Args:
            levels, schedule: as in `plan`.
            noise: a name that says where the standard normals come from: "given" (default) as an array, or to be drawn,
                "independent" or "brownian".

        Returns:
            dict of float64 arrays (or tuples and `Levels` of such) with one row per step or part of a step.

        Raises:
            ValueError: as `check` and `plan`.
        """
        levels = self.check(levels)
        table = {"level": levels.map(lambda v: v[:-1]), **self.plan(levels, schedule)}
        if noise == "brownian" and self.noises_per_step:
            table["brownian"] = brownian_table(self.noise_spans(levels))
        elif noise == "independent" and self.noises_per_step > 1:
            table["coupling"] = self.coupling(levels)
        return table

    def noise_spans(self, levels):
        """The span of each draw on the clock of Brownian noise, which is η·log-SNR.

        Args:
            levels: checked `Levels` of n + 1 entries.

        Returns:
            float64 array `(rows, noises_per_step, 2)`: the clock at the start and the end of each draw.

        Raises:
            ValueError: a method for which Brownian noise has no meaning.
        """
        clock = (getattr(self, "eta", 1.0) or 1.0) * levels.log_snr
        return np.repeat(np.stack([clock[:-1], clock[1:]], axis=1)[:, None], self.noises_per_step, axis=1)

    def coupling(self, levels):
        """How the draws of a row hang together where the rows are independent.

        Args:
            levels: checked `Levels` of n + 1 entries.

        Returns:
            float64 array `(rows, draws, draws)`, a matrix for each row that makes its draws of as many independent
            ones; see `core.brownian.coupling_table`.
        """
        return coupling_table(self.noise_spans(levels))

    def step_ends(self, levels):
        """Where in the table the levels of the grid are reached.

        Args:
            levels: `Levels` of n + 1 entries.

        Returns:
            int array (n,): the rows after which x stands at levels 1 … n.
        """
        return np.arange(len(levels.t) - 1)

    def get_config(self):
        # What `keras.layers.Layer` says, without its import of TensorFlow: every compilation asks for it.
        own = {"name": self.name, "trainable": self.trainable, "dtype": policy_config(self.dtype_policy)}
        return {**own, **self.arguments_config()}

    def structure(self):
        """What the compiled step depends on besides the table, hashable: samplers with equal structures share a
        program.
        """
        options = {key: value for key, value in self.get_config().items() if key not in ("name", *self.table_options)}
        return type(self).__name__, self.evaluations_per_step, self.noises_per_step, repr(sorted(options.items()))

    def closes_apart(self, levels):
        """Whether the last step is `close`, after the loop, rather than the last row of the table.

        Args:
            levels: checked `Levels` of n + 1 entries.

        Returns:
            bool.
        """
        return self.evaluations_per_step > 1 and levels.sigma[-1] == 0

    def report(self, state):
        """What the last state tells of the walk. Runs on the host.

        Args:
            state: the state after the last row.

        Returns:
            dict of numbers; empty unless the method has something to say.
        """
        return {}

    def call(self, x, denoise, plan, noise):
        walk, _ = run_rows(self, start_walk(self, x, denoise), {}, denoise, plan, noise, 0, rows_of(plan))
        return walk.x

    def sample(
        self,
        x,
        denoise,
        levels,
        noise=None,
        schedule=None,
        trajectory=False,
        seed=None,
        start=0,
        stop=None,
        return_walk=False,
    ):
        """Walks down a grid of levels, or a part of it.

        Args:
            x: noisy samples `(B, ...)` at level `start`, on its scale: α·x0 + σ·ε. Or a `Walk` that stands there, as an
                earlier call returned it or made by hand: x with the history of a multistep method, newest first
                (`initial_state` says what it is made of), and what the denoiser remembers. Samples alone have no
                history: the method begins with them as at the first level of a grid.
            denoise: a `Denoiser`, or a function of (x, level) that returns (x0, ε).
            levels: `Levels` of n + 1 entries with falling noise. A clean last one (σ = 0) gives the closing x ← x0.
            noise: array `(n, noises_per_step, B, ...)` of standard normals; to draw them, "independent" from step to
                step or "brownian", of which grids with other numbers of steps receive the same; or None (default) for
                the sampler's own way. Of an array, that of a closing step may be left out; where churn would add noise
                before it, none is then added.
            schedule: see `plan`.
            trajectory: also return something of every step: True or "x" for x after it, "x0" for the denoiser's first
                x0 in it, "both".
            seed: int, for drawn noise; None takes a new one.
            start, stop: numbers of the levels at which the walk starts and stops, 0 ≤ start < stop ≤ n. Default: the
                first and the last.
            return_walk: return the `Walk` in place of its x, to go on with later. Default False.

        Returns:
            x `(B, ...)` at level `stop`, or (x, xs) with xs `(stop − start, B, ...)`; for "both" (x, xs, x0s).

        Raises:
            ValueError: no denoiser, levels out of order, no part of them, or noise of the wrong shape.

        Example:

        >>> half_way = sampler.sample(x, denoise, levels, stop=5, return_walk=True)
        >>> samples = sampler.sample(half_way, denoise, levels, start=5)
        """
        denoise = as_denoiser(denoise)
        levels, kept = self.check(levels), recorded(trajectory)
        steps, ends = len(levels.t) - 1, self.step_ends(levels)
        stop = check_part(start, stop, steps, len(ends))
        if start and not isinstance(x, Walk):  # without a history, the rest of the grid is a grid of its own
            rest = levels.map(lambda v: v[start:])
            return self.sample(x, denoise, rest, noise, schedule, trajectory, seed, 0, stop - start, return_walk)
        course = course_of(self, levels, schedule, noise_kind(self, noise))
        plan = to_tensors(course.table)
        given = x.x if isinstance(x, Walk) else x
        tensor = ops.convert_to_tensor(given, dtype=solver_dtype())
        walk = x._replace(x=tensor) if isinstance(x, Walk) else start_walk(self, tensor, denoise)
        loop, close = eager(self, denoise, plan, noise_of(self, noise, plan, tensor, seed, levels.sigma[-1] == 0))
        # To the last level means all rows, also of samplers that choose their own steps.
        first, last = (int(ends[start - 1]) + 1 if start else 0), None if stop == steps else int(ends[stop - 1]) + 1
        record = {key: ops.zeros((course.rows, *tensor.shape), tensor.dtype) for key in kept}
        walk, record = follow(course, walk, record, loop, close, first, last)
        self.report(walk.state)  # which warns where the method has reason to
        result = walk if return_walk else walk.x
        at = ops.convert_to_tensor(ends[start : None if last is None else stop].astype("int32"))
        return (result, *(ops.take(record[key], at, axis=0) for key in kept)) if kept else result

    def given_noise(self, noise, rows, x, closing):
        """The noise of a walk, read from an array.

        Args:
            noise: array `(rows, noises_per_step, B, ...)` of standard normals; that of a closing row may be left out.
            rows: number of rows of the table.
            x: samples `(B, ...)`.
            closing: whether the last level is clean.

        Returns:
            function (row, draw) → standard normals shaped like `x`.

        Raises:
            ValueError: an array of another shape.
        """
        needed = self.noises_per_step
        shape = tuple(np.shape(noise))
        if needed and (
            len(shape) < 2 or shape[0] not in (rows, rows - closing) or shape[1] < needed or shape[2:] != tuple(x.shape)
        ):
            raise ValueError(
                "`noise` holds the normals of every step and draw: its shape must be (steps, noises_per_step, "
                f"*x.shape) = {(rows, needed, *x.shape)}. Received: noise of shape {shape}. Pass None to have it drawn."
            )
        noise = ops.convert_to_tensor(noise, dtype=x.dtype)
        if needed and shape[0] < rows:  # a step to a clean level multiplies its draw by 0
            noise = ops.concatenate([noise, ops.zeros((1, *shape[1:]), noise.dtype)])
        return lambda i, draw: ops.take(noise, i, axis=0)[draw]
