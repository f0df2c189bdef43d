"""Adaptive solvers: steps as long as an error tolerance allows.

Two solvers of neighbouring orders share their evaluations; their difference is the error of a trial step in λ =
log(α/σ):

    error = √mean((x_low − x_high)²/δ²),     δ = max(atol, rtol·max(|x_low|, |x_prev|))     in x/α, over the whole batch

A `PIDController` makes the next step's length of it, and says whether this one counts; a rejected one is tried again
from where it began. One grid is one row of the table, and one `while_loop` on the device; of the grid only the first
and the last noisy level count. All samples of a batch take the same steps, so a sample depends, within the tolerance,
on those that it is generated with.

The levels in between are read off a finely tabulated curve in the table (t and log α at 1025 even values of λ, linear
in between), so that another schedule is no other program. σ/α is always exact; α is to 2·10⁻⁵ where the walk covers
e^16, and cancels out.

λ is infinite at pure noise. There the walk starts at σ/α = 1000, where x differs from pure noise by x0/1000. (Further
up rtol, which is relative to x, would let the error grow beyond that.)
"""

import math
import warnings

import keras
import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_choice, check_number, check_numbers, check_whole
from keras_diffusion.core import noise as noise_sources
from keras_diffusion.core.denoiser_memory import get_memory, memory_scope, set_memory
from keras_diffusion.core.function_denoiser import as_denoiser
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.samplers.between import level_at_ratio
from keras_diffusion.samplers.pid_controller import PIDController
from keras_diffusion.samplers.sampler import Sampler
from keras_diffusion.samplers.tables import to_tensors
from keras_diffusion.samplers.walk import RecordX0, Walk, course_of, eager, follow, noise_of, start_walk

_NODES = 1025
_PURE_RATIO = 1e3
_ARRIVED = 1e-5  # in λ, as in k-diffusion


class AdaptiveSampler(Sampler):
    """Base class: error control around `attempt`, a step by two solvers.

    Args:
        order: of the better solver.
        rtol, atol: relative and absolute tolerance, ≥ 0 and not both 0. Default 0.05, 0.0078 (one grey value of 256).
            `rtol` is relative to x/α, noise and all: where σ/α starts at 50 and more take a smaller one.
        h_init: length of the first trial in λ, > 0. Default 0.05.
        pcoeff, icoeff, dcoeff, accept_safety: see `PIDController`.
        eta: η in [0, 1], the share of ancestral noise, one draw for every step that counts; 0 (default) is the ODE.
        s_noise: factor on the noise. Default 1.
        max_steps: largest number of trials. Default 1000. A walk that has not arrived then stops where it is, with a
            warning.

    Raises:
        ValueError: an option out of range; Brownian noise (by `noise_spans`), or x0 of every step (by `step`), asked
            for.
    """

    orders: tuple[int, ...] = ()  # those that `attempt` can do
    table_options = (
        "rtol",
        "atol",
        "h_init",
        "pcoeff",
        "icoeff",
        "dcoeff",
        "accept_safety",
        "eta",
        "s_noise",
        "max_steps",
    )

    couples_samples = True  # one step size for the whole batch

    def __init__(
        self,
        order=3,
        rtol=0.05,
        atol=0.0078,
        h_init=0.05,
        pcoeff=0.0,
        icoeff=1.0,
        dcoeff=0.0,
        accept_safety=0.81,
        eta=0.0,
        s_noise=1.0,
        max_steps=1000,
        **kwargs,
    ):
        super().__init__(**kwargs)
        order = check_choice("order", order, self.orders, f"`order` must be one of {', '.join(map(str, self.orders))}")
        numbers = check_numbers(rtol=rtol, atol=atol, h_init=h_init)
        max_steps = check_whole("max_steps", max_steps)
        if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
            raise ValueError(
                f"Tolerances must not be negative, and one must be positive. Received: rtol={rtol}, atol={atol}"
            )
        if not (h_init > 0 and max_steps >= 1):
            raise ValueError(
                f"The first step and the number of steps must be positive. Received: h_init={h_init}, "
                f"max_steps={max_steps}"
            )
        eta = check_number("eta", eta, 0, 1, rule="`eta` is the share of ancestral noise and must lie in [0, 1]")
        self.order, (self.rtol, self.atol, self.h_init), self.max_steps = order, numbers, max_steps
        self.eta, self.s_noise = eta, check_number("s_noise", s_noise, 0)
        self.controller = PIDController(pcoeff, icoeff, dcoeff, accept_safety)
        self.evaluations_per_step = order
        self.noises_per_step = 1 if eta else 0

    def attempt(self, denoise, x, start, end, down, level):
        """One step by two solvers.

        Args:
            denoise: a `Denoiser`.
            x: samples `(B, ...)` at λ = `start`.
            start, end: λ at the start of the step and of the level that it leads to.
            down: λ that it goes down to, on the scale α of `end`: more than `end` where noise will be added.
            level: function λ → `Levels`.

        Returns:
            (x by the lower order, x by the higher).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement attempt(denoise, x, start, end, down, level)")

    # The plan ---------------------------------------------------------------------------------------------------------

    def plan(self, levels, schedule=None):
        clean = levels.sigma[-1] == 0
        noisy = levels.map(lambda v: v[:-1]) if clean else levels
        ratio = np.divide(noisy.sigma, noisy.alpha, out=np.full(len(noisy.t), np.inf), where=noisy.alpha > 0)
        if len(ratio) > 1 and np.isinf(ratio[0]):
            ratio[0] = max(_PURE_RATIO, ratio[1])
        half = (
            -np.log(ratio[[0, -1]]) if np.isfinite(ratio[0]) else np.zeros(2)
        )  # one level of pure noise: nowhere to walk to
        curve = noisy.map(lambda v: np.full(_NODES, v[0]))
        if half[1] > half[0]:
            curve = level_at_ratio(np.exp(-np.linspace(*half, _NODES)), levels, schedule)
        row = {
            "start": half[0],
            "end": half[1],
            "scale": curve.sigma[0] / noisy.sigma[0] if noisy.alpha[0] == 0 else 1.0,
            "curve_t": curve.t,
            "curve_log_alpha": np.log(np.maximum(curve.alpha, 1e-30)),
            "nodes_per_unit": (_NODES - 1) / (half[1] - half[0]) if half[1] > half[0] else 0.0,
            "exponents": self.controller.exponents(1.5 if self.eta else self.order),
            "accept_safety": self.controller.accept_safety,
            **{key: getattr(self, key) for key in ("rtol", "atol", "h_init", "eta", "s_noise", "max_steps")},
        }
        rows = 1 + int(clean)
        table = {key: np.repeat(np.asarray(value, "float64")[None], rows, axis=0) for key, value in row.items()}
        return {"level": noisy.map(lambda v: v[[0, -1]][:rows]), **table}

    def step_ends(self, levels):
        return np.arange(1 + int(levels.sigma[-1] == 0))

    def noise_spans(self, levels):
        raise ValueError(
            "Brownian noise is tabulated before the walk, and an adaptive sampler chooses its steps on the way. "
            "Received: noise='brownian'. Take noise='independent'."
        )

    # The walk ---------------------------------------------------------------------------------------------------------

    def initial_state(self, x):
        count = ops.zeros((), "int32")
        return {
            "nfe": count,
            "accepted": count,
            "rejected": count,
            "error": ops.zeros((), x.dtype),
            "left": ops.zeros((), x.dtype),
        }

    def step(self, denoise, x, row, state, noise):
        if isinstance(denoise, RecordX0):
            raise ValueError(
                "An adaptive sampler chooses its steps on the device, and how many: there is no x0 of every step to "
                "record or to hand to a hook. Take trajectory='x', or `solve`, which returns x after every step."
            )

        def go_on(*carry):
            return self._goes_on(carry, row)

        def body(*carry):
            return self._trial(denoise, carry, row, noise)

        *_, x, state, memory = ops.while_loop(go_on, body, self._begin(denoise, x, row, state))
        set_memory(denoise, memory)
        return x, state

    def _begin(self, denoise, x, row, state):
        x = row["scale"] * x
        state = {**state, "left": row["end"] - row["start"]}
        return row["start"], row["h_init"], ops.zeros_like(row["exponents"][:2]), x, x, state, get_memory(denoise)

    def _goes_on(self, carry, row):
        _, h, *_, state, _ = carry
        trials = ops.cast(state["accepted"] + state["rejected"], h.dtype)
        # A step length that is no number compares as False: what diverges stops.
        return ops.logical_and(state["left"] > _ARRIVED, ops.logical_and(h > 0, trials < row["max_steps"]))

    def _trial(self, denoise, carry, row, noise):
        start, h, past, previous, x, state, memory = carry
        set_memory(denoise, memory)

        def level(half):
            return _level(half, row)

        end = ops.minimum(row["end"], start + h)
        down, up = self._ancestral(start, end, row) if self.noises_per_step else (end, None)
        low, high = self.attempt(denoise, x, start, end, down, level)
        alpha = level(end).alpha
        # δ in x/α, as in k-diffusion where α = 1, multiplied through with α.
        size = ops.maximum(ops.abs(low), ops.abs(previous) * (alpha / level(start).alpha))
        scaled = (low - high) / ops.maximum(alpha * row["atol"], row["rtol"] * size)
        error = ops.sqrt(ops.sum(ops.square(scaled)) / math.prod(x.shape))  # ops.mean of float64 is a float32
        accepted, h, past = self.controller.update(error, h, past, row["exponents"], row["accept_safety"])
        if self.noises_per_step:
            high = high + row["s_noise"] * alpha * up * noise(ops.cast(state["accepted"], noise_sources.word_dtype()))
        kept = (end, low, high, get_memory(denoise))
        start, previous, x, memory = keras.tree.map_structure(
            lambda new, old: ops.where(accepted, new, old), kept, (start, previous, x, memory)
        )
        one = ops.cast(accepted, "int32")
        state = {
            "nfe": state["nfe"] + self.order,
            "accepted": state["accepted"] + one,
            "rejected": state["rejected"] + 1 - one,
            "error": error,
            "left": row["end"] - start,
        }
        return start, h, past, previous, x, state, memory

    def _ancestral(self, start, end, row):
        """λ that a step goes down to, and the σ/α of the noise added there."""
        ratio = ops.exp(-end)
        fresh = row["eta"] ** 2 * -ops.expm1(2.0 * (start - end))  # share of the variance at the end
        down = ops.minimum(row["end"], end - 0.5 * ops.log1p(-fresh))
        return down, ops.sqrt(ops.maximum(ratio**2 - ops.exp(-2.0 * down), 0.0))

    def state_after_close(self, state):
        return {**state, "nfe": state["nfe"] + 1}

    # What it tells ----------------------------------------------------------------------------------------------------

    def report(self, state):
        """Counts of the walk. Warns where it stopped before its end.

        Args:
            state: the state after the last row.

        Returns:
            dict of scalars: "nfe" (network evaluations), "accepted" and "rejected" (steps), "error" (of the last trial,
            in tolerances) and "arrived" (1 or 0).
        """
        counts = {key: state[key] for key in ("nfe", "accepted", "rejected", "error")}
        arrived = bool(ops.convert_to_numpy(state["left"]) <= _ARRIVED)
        if not arrived:
            trials = int(ops.convert_to_numpy(state["accepted"] + state["rejected"]))
            warnings.warn(
                f"The adaptive walk stopped before its end, after {trials} trials with an error of "
                f"{float(state['error']):.3g} tolerances: "
                "the samples are still noisy. Take larger tolerances (rtol, atol) or max_steps; an error that is not "
                "finite is the "
                "denoiser's, or comes of too few draws in `noise`.",
                stacklevel=2,
            )
        return {**counts, "arrived": ops.cast(arrived, "int32")}

    def solve(self, x, denoise, levels, noise=None, schedule=None, seed=None, max_trials=None):
        """`sample`, trial by trial on the host, with a log: for looking on, and slower.

        Args:
            x, denoise, levels, noise, schedule, seed: as in `sample`.
            max_trials: largest number of trials here; None (default): `max_steps`.

        Returns:
            x `(B, ...)`, and a dict of arrays with one entry per trial: "sigma_after" (σ/α where the walk then is),
            "error", "h_next", "accepted" (0 or 1), "x" `(trials, B, ...)`.

        Raises:
            ValueError: as `sample`.
        """
        denoise, course = as_denoiser(denoise), course_of(self, levels, schedule)
        plan, x = to_tensors(course.table), ops.convert_to_tensor(x, dtype=solver_dtype())
        source = noise_of(self, noise, plan, x, seed, course.levels.sigma[-1] == 0)
        row = keras.tree.map_structure(lambda column: column[0], plan)
        log = {"sigma_after": [], "error": [], "h_next": [], "accepted": [], "x": []}

        def trials(walk, record, first, last):
            with memory_scope(denoise, walk.memory, x):
                carry = self._begin(denoise, walk.x, row, walk.state)
                while ops.convert_to_numpy(self._goes_on(carry, row)) and len(log["x"]) < (
                    max_trials or self.max_steps
                ):
                    before = carry[-2]["accepted"]
                    carry = self._trial(denoise, carry, row, lambda draw: source(0, draw))
                    start, h, _, _, here, state, _ = carry
                    seen = (ops.exp(-start), state["error"], h, state["accepted"] - before, here)
                    for key, value in zip(log, seen, strict=True):
                        log[key].append(ops.convert_to_numpy(value))
            return Walk(*carry[-3:]), record

        _, close = eager(self, denoise, plan, source)
        walk, _ = follow(course, start_walk(self, x, denoise), {}, trials, close)
        return walk.x, {key: np.array(values) for key, values in log.items()}

    def given_noise(self, noise, rows, x, closing):
        shape = np.shape(noise)
        draws = shape[1] if len(shape) > 1 else 0
        if self.noises_per_step and draws:
            # One draw for each step that counts. Beyond the last, x is no number any more and the walk stops.
            noise = np.concatenate([np.asarray(noise), np.full((shape[0], 1, *shape[2:]), np.nan)], axis=1)
        given = super().given_noise(noise, rows, x, closing)
        return lambda i, draw: given(i, ops.minimum(draw, ops.cast(draws, noise_sources.word_dtype())))


def _level(half, row):
    """The level at λ, from the tabulated curve."""
    position = ops.clip((half - row["start"]) * row["nodes_per_unit"], 0.0, _NODES - 1.0)
    left = ops.minimum(ops.floor(position), _NODES - 2.0)
    part, index = position - left, ops.cast(left, "int32")
    t, log_alpha = (
        (1.0 - part) * ops.take(row[key], index, axis=0) + part * ops.take(row[key], index + 1, axis=0)
        for key in ("curve_t", "curve_log_alpha")
    )
    alpha = ops.exp(log_alpha)
    return Levels(t, alpha, alpha * ops.exp(-half))
