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

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.registry import Registry
from keras_diffusion.core import noise as noise_sources
from keras_diffusion.core.brownian import brownian_table, coupling_table
from keras_diffusion.core.denoiser_memory import initial_memories, memory_scope, parts_of
from keras_diffusion.core.function_denoiser import as_denoiser
from keras_diffusion.core.precision import policy_config, solver_dtype, solver_layer_options
from keras_diffusion.samplers.grids import check_levels
from keras_diffusion.samplers.tables import check_noise_kind, noise_source, recorded, rows_of, to_tensors

SAMPLERS = Registry("sampler")


class Walk(NamedTuple):
    """What is carried from row to row.

    Fields:
        x: samples `(B, ...)`.
        state: what the sampler remembers, as `Sampler.initial_state` makes it.
        memory: what the denoiser remembers, as `core.denoiser_memory.initial_memories` makes it.
    """

    x: Any
    state: Any
    memory: Any


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

    def check(self, levels):
        """`levels` as float64 arrays; raises unless this sampler can walk along them."""
        return check_levels(levels)

    def table(self, levels, schedule=None, noise="given"):
        """`plan` with the columns "level" and what drawn noise needs: "brownian", or "coupling" for several draws.
        Checks the levels.

        Args:
            levels, schedule: as in `plan`.
            noise: "given" (default) as an array, or to be drawn: "independent" or "brownian".
        """
        levels = self.check(levels)
        table = {"level": levels.map(lambda v: v[:-1]), **self.plan(levels, schedule)}
        if noise == "brownian" and self.noises_per_step:
            table["brownian"] = brownian_table(self.noise_spans(levels))
        elif noise == "independent" and self.noises_per_step > 1:
            table["coupling"] = self.coupling(levels)
        return table

    def noise_spans(self, levels):
        """The span of each draw on the clock of Brownian noise: η·log-SNR at its start and end, `(rows,
        noises_per_step, 2)`.
        """
        clock = (getattr(self, "eta", 1.0) or 1.0) * levels.log_snr
        return np.repeat(np.stack([clock[:-1], clock[1:]], axis=1)[:, None], self.noises_per_step, axis=1)

    def coupling(self, levels):
        """How the draws of a row hang together where the rows are independent, `(rows, draws, draws)`: see
        `coupling_table`.
        """
        return coupling_table(self.noise_spans(levels))

    def step_ends(self, levels):
        """Rows after which x stands at levels 1 … n, int array (n,)."""
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
        """Whether the last step is `close`, after the loop, rather than the last row of the table."""
        return self.evaluations_per_step > 1 and levels.sigma[-1] == 0

    def report(self, state):
        """What the last state tells of the walk, a dict of numbers; empty unless the method has something to say.

        Runs on the host.
        """
        return {}

    def start(self, x, denoise):
        """The `Walk` at the first level."""
        return Walk(x, self.initial_state(x), initial_memories(denoise, x))

    def call(self, x, denoise, plan, noise):
        walk, _ = self.run(self.start(x, denoise), {}, denoise, plan, noise, 0, rows_of(plan))
        return walk.x

    def run(self, walk, record, denoise, plan, noise, start, stop):
        """Rows `start` to `stop` of the table in one loop.

        Args:
            walk: `Walk` before row `start`.
            record: dict of buffers `(m, *x.shape)` to be written: "x" receives x after each row, "x0" the denoiser's
                first x0 of each row. Row i goes to place i modulo m.
            denoise, plan, noise: as in the call.
            start, stop: ints or integer scalar tensors; which rows run does not change the compiled program.

        Returns:
            (walk, record) after the rows.
        """

        def body(i, carry):
            walk, record = Walk(*carry[0]), carry[1]
            row = keras.tree.map_structure(lambda column: ops.take(column, i, axis=0), plan)
            watched = _Watched(denoise) if "x0" in record else denoise
            with memory_scope(denoise, walk.memory, walk.x) as memory:
                x, state = self.step(watched, walk.x, row, walk.state, lambda draw: noise(i, draw))
                memory = memory()
            seen = {"x": x, "x0": watched.x0 if "x0" in record else None}
            return (x, state, memory), {key: _write(buffer, i, seen[key]) for key, buffer in record.items()}

        carry, record = ops.fori_loop(start, stop, body, (tuple(walk), record))
        return Walk(*carry), record

    def finish(self, walk, record, denoise, plan, noise, index):
        """The closing step, which is row `index` of the table: as `run` for that row."""
        row = keras.tree.map_structure(lambda column: ops.take(column, index, axis=0), plan)
        with memory_scope(denoise, walk.memory, walk.x):
            x = self.close(denoise, walk.x, row, lambda draw: noise(index, draw))
        return walk._replace(x=x), {key: _write(buffer, index, x) for key, buffer in record.items()}

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
        levels = self.check(levels)
        stop = _check_part(start, stop, len(levels.t) - 1, len(self.step_ends(levels)))
        if start and not isinstance(x, Walk):  # without a history, the rest of the grid is a grid of its own
            rest = levels.map(lambda v: v[start:])
            return self.sample(x, denoise, rest, noise, schedule, trajectory, seed, 0, stop - start, return_walk)
        drawn = (
            check_noise_kind(self.noise if noise is None else noise)
            if noise is None or isinstance(noise, str)
            else None
        )
        kept = recorded(trajectory)
        plan = to_tensors(self.table(levels, schedule, drawn or "given"))
        walk = x if isinstance(x, Walk) else None
        x = ops.convert_to_tensor(x.x if walk else x, dtype=solver_dtype())
        walk = walk._replace(x=x) if walk else self.start(x, denoise)
        rows, ends = rows_of(plan), self.step_ends(levels)
        if stop == len(levels.t) - 1:  # the whole rest, also of samplers that choose their own steps
            last, ends_here = rows, ends[start:]
        else:
            last, ends_here = ends[stop - 1] + 1, ends[start:stop]
        first = ends[start - 1] + 1 if start else 0
        in_loop = min(last, rows - 1 if self.closes_apart(levels) else rows)
        if drawn:
            source = noise_source(plan, noise_sources.seed_words(seed), x.shape)
        else:
            source = self._given(noise, rows, x, closing=levels.sigma[-1] == 0)
        record = {key: ops.zeros((rows, *x.shape), x.dtype) for key in kept}
        walk, record = self.run(walk, record, denoise, plan, source, int(first), int(in_loop))
        if in_loop < last:
            walk, record = self.finish(walk, record, denoise, plan, source, rows - 1)
        self.report(walk.state)  # which warns where the method has reason to
        result = walk if return_walk else walk.x
        if not kept:
            return result
        at = ops.convert_to_tensor(ends_here.astype("int32"))
        return (result, *(ops.take(record[key], at, axis=0) for key in kept))

    def _given(self, noise, rows, x, closing):
        needed = self.noises_per_step
        shape = tuple(np.shape(noise))
        if needed and (
            len(shape) < 2 or shape[0] not in (rows, rows - closing) or shape[1] < needed or shape[2:] != tuple(x.shape)
        ):
            raise ValueError(
                f"`noise` holds the normals of every step and draw: its shape must be (steps, noises_per_step, "
                f"*x.shape) = "
                f"{(rows, needed, *x.shape)}. Received: noise of shape {shape}. Pass None to have it drawn."
            )
        noise = ops.convert_to_tensor(noise, dtype=x.dtype)
        if needed and shape[0] < rows:  # a step to a clean level multiplies its draw by 0
            noise = ops.concatenate([noise, ops.zeros((1, *shape[1:]), noise.dtype)])
        return lambda i, draw: ops.take(noise, i, axis=0)[draw]


class _Watched:
    """A denoiser that keeps its first x0."""

    def __init__(self, denoise):
        self.denoise, self.x0 = denoise, None

    def parts(self):
        return parts_of(self.denoise)

    def __call__(self, x, level):
        prediction = self.denoise(x, level)
        if self.x0 is None:
            self.x0 = prediction.x0
        return prediction


def _check_part(start, stop, steps, ends):
    """`stop` as a number; raises unless `start` and `stop` are levels of a grid of `steps` steps, in this order.

    A sampler that chooses its own steps does not stand at the levels between: it has another number of `ends`.
    """
    stop = steps if stop is None else stop
    if (start, stop) != (0, steps) and ends != steps:
        raise ValueError(
            f"An adaptive sampler does not stop at the levels of its grid. Received: {start=}, {stop=}. Walk down the "
            f"part that you want: "
            "levels.map(lambda v: v[start : stop + 1])"
        )
    whole = all(isinstance(level, int | np.integer) and not isinstance(level, bool) for level in (start, stop))
    if not whole or not 0 <= start < stop <= steps:
        raise ValueError(
            f"A walk starts and stops at levels of its grid: integers with 0 <= start < stop <= {steps}. Received: "
            f"{start=}, {stop=}"
        )
    return stop


def _write(buffer, i, value):
    # All indices with the integer type of i: JAX refuses a mixture, which plain zeros would be with 64-bit types
    # enabled.
    return ops.slice_update(buffer, (i % buffer.shape[0],) + (0 * i,) * (len(buffer.shape) - 1), value[None])
