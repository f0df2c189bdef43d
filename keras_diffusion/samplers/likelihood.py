"""Log-likelihood: how probable a model takes a sample to be.

The probability-flow ODE carries data to noise and back, one to one, so the densities of the two differ by the volume
that it stretches on the way. In the coordinates in which it is finite from the cleanest level to pure noise,

    y = x/(α+σ),  s = σ/(α+σ):       dy/ds = ε − x0,        d log p(y)/ds = −div_y (ε − x0) = −(α+σ)·tr ∂(ε − x0)/∂x

Integrated upwards from level 0 to level 1, with d the number of elements of a sample, and back from y to x,

    log p(x; level 0) = log p(x; level 1) + ∫ (α+σ)·tr ∂(ε − x0)/∂x ds + d·log((α₁+σ₁)/(α₀+σ₀))

The trace is exact, one product with the Jacobian per element, or Hutchinson's estimate E[vᵀJv] with v = ±1, one product
per probe. The density at level 1 is the prior's. N(0, σ²), which is often used, forgets the data that is still in x
there, and hundredths of a nat with it at σ/α = 10; N(α·mean, α²·std² + σ²) with the moments of the data does not. At
pure noise (α = 0) the two are the same, and exact.

Reference: Song et al. 2021, arXiv:2011.13456, section 4.3 and appendix D.2; Grathwohl et al. 2019 (FFJORD),
arXiv:1810.01367.
"""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_choice, check_text, check_whole
from keras_diffusion.configs.registry import serializable
from keras_diffusion.core.autodiff import pullback
from keras_diffusion.core.denoiser_memory import initial_memories
from keras_diffusion.core.function_denoiser import as_denoiser
from keras_diffusion.core.noise import counter_normal, seed_words
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.samplers.grids import upwards
from keras_diffusion.samplers.runge_kutta import RungeKuttaSampler
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler
from keras_diffusion.samplers.tables import to_tensors
from keras_diffusion.samplers.walk import Walk, course_of, eager, follow

_EXACT_UP_TO = 16  # elements of a sample; beyond, "auto" estimates the trace


def log_likelihood(
    denoise,
    x,
    levels,
    schedule=None,
    method="rk4",
    divergence="auto",
    num_probes=1,
    probes=None,
    seed=None,
    prior="gaussian",
    data_mean=0.0,
    data_std=0.5,
):
    """Log-density of samples at the cleanest of some levels.

    Args:
        denoise: a `Denoiser` that remembers nothing.
        x: samples `(B, ...)` at the cleanest level, on its scale α·x0 + σ·ε.
        levels: `Levels` of n + 1 entries, falling or rising, none of them clean. The last, noisiest one is where the
            prior holds.
        schedule: `NoiseSchedule` of the levels; see `Sampler.plan`.
        method: Runge–Kutta sampler's name: "euler", "heun", "rk4" (default), …. The error falls with its order.
        divergence: "exact", "hutchinson", or "auto" (default): exact for up to 16 elements.
        num_probes: probes of Hutchinson's estimate ≥ 1; its standard deviation falls with their root. Default 1.
        probes: array `(num_probes, B, ...)` of ±1 in place of drawn ones.
        seed: int, of the probes; None (default) takes a new one. Sample i's probes depend on (seed, i) alone.
        prior: "gaussian" (default), N(α·data_mean, α²·data_std² + σ²); or a function (x, `Levels` of the noisiest
            level) → log-densities `(B,)`.
        data_mean, data_std: moments of the data for the prior, numbers or arrays that broadcast to a sample. 0 and 0
            give N(0, σ²), as k-diffusion has it. Default 0 and 0.5, about those of images in [−1, 1].

    Returns:
        array `(B,)`, in nats. On another scale of the same levels it differs by d·log of the scale, as densities do.

    Raises:
        ValueError: a clean level, an unknown method or kind of divergence, probes of the wrong shape, or a denoiser
            with a memory.
    """
    denoise, flow = as_denoiser(denoise), ProbabilityFlow(method)
    course = course_of(flow, levels, schedule)
    x = ops.convert_to_tensor(x, dtype=solver_dtype())
    probes = make_probes(x.shape, divergence, num_probes, seed) if probes is None else _given(probes, x)
    programs = eager(flow, denoise, to_tensors(course.table), None)
    walk, _ = follow(course, flow.start(x, denoise, probes), {}, *programs)
    return flow.log_density(walk, course.levels, prior, data_mean, data_std)


@serializable
class ProbabilityFlow(Sampler):
    """Carries samples and their log-density from the cleanest level up to the noisiest.

    Args:
        method: name of a `RungeKuttaSampler`. Default "rk4".

    Raises:
        ValueError: another sampler; a clean level (by `check`).

    Reference:
        Song et al. 2021, arXiv:2011.13456, section 4.3 and appendix D.2.
    """

    ascends = True

    def __init__(self, method="rk4", **kwargs):
        super().__init__(**kwargs)
        self.name_of_method, self.method = check_text("method", method), SAMPLERS.get(method)
        if not isinstance(self.method, RungeKuttaSampler) or self.method.noises_per_step:
            raise ValueError(
                "`method` must be the name of a deterministic Runge–Kutta sampler, such as 'rk4'. Received: "
                f"method={method!r}"
            )
        self.method.coordinate = "flow"
        self.evaluations_per_step = self.method.evaluations_per_step

    def check(self, levels):
        rising = upwards(levels)
        if rising.sigma[0] == 0:
            raise ValueError(
                "A likelihood is the density at the cleanest level, and the network is evaluated there: it must not "
                "be clean. "
                f"Received: sigma={rising.sigma}. End at a small noise level."
            )
        return rising

    def closes_apart(self, levels):
        return False

    def plan(self, levels, schedule=None):
        plan = self.method.plan(levels, schedule)
        length = np.diff(levels.sigma / (levels.alpha + levels.sigma))
        weights = [
            length * b * (stage.alpha + stage.sigma) for b, stage in zip(self.method.b, plan["stages"], strict=True)
        ]
        return {**plan, "trace": np.stack(weights, axis=1)}

    def start(self, x, denoise, probes):
        """The `Walk` at the cleanest level.

        Args:
            x: samples `(B, ...)` at the cleanest level, on its scale.
            denoise: a `Denoiser` that remembers nothing.
            probes: tensor `(m, B or 1, ...)`, as `make_probes` makes them.

        Returns:
            `Walk`, whose state holds the probes and the integral `(B, m)`, 0 at first.

        Raises:
            ValueError: a denoiser that remembers.
        """
        if initial_memories(denoise, x):
            raise ValueError(
                "A likelihood needs a denoiser that is a function of x and the level alone. Received: one that "
                "remembers."
            )
        return Walk(x, {"integral": ops.zeros((x.shape[0], probes.shape[0]), x.dtype), "probes": probes}, ())

    def step(self, denoise, x, row, state, noise):
        traced = _Traced(denoise, state["probes"])
        x, _ = self.method.step(traced, x, row, (), noise)
        integral = state["integral"] + sum(row["trace"][j] * trace for j, trace in enumerate(traced.traces))
        return x, {**state, "integral": integral}

    def log_density(self, walk, levels, prior="gaussian", data_mean=0.0, data_std=0.5):
        """The log-densities at the cleanest level, of a walk that has arrived at the noisiest.

        Args:
            walk: `Walk` after the last row.
            levels: the checked, rising `Levels`.
            prior, data_mean, data_std: as in `log_likelihood`.

        Returns:
            float64 array `(B,)`, in nats.

        Raises:
            ValueError: another prior than "gaussian" or a function.
        """
        top, dims = levels.map(lambda v: v[-1]), math.prod(walk.x.shape[1:])
        if callable(prior):
            at_top = ops.convert_to_numpy(prior(walk.x, top))
        elif prior == "gaussian":
            x = ops.convert_to_numpy(walk.x).astype("float64")
            variance = top.alpha**2 * np.square(data_std) + top.sigma**2
            elements = -0.5 * ((x - top.alpha * np.asarray(data_mean)) ** 2 / variance + np.log(2 * np.pi * variance))
            at_top = elements.reshape(-1, dims).sum(axis=1)
        else:
            raise ValueError(
                f"`prior` must be 'gaussian' or a function (x, level) → log-densities. Received: prior={prior!r}"
            )
        stretch = dims * np.log((top.alpha + top.sigma) / (levels.alpha[0] + levels.sigma[0]))
        return at_top + ops.convert_to_numpy(walk.state["integral"]).sum(axis=1) + stretch

    def get_config(self):
        return {**super().get_config(), "method": self.name_of_method}


def standard_error(integral):
    """Of Hutchinson's estimate, array `(B,)`: how much the probes differ; NaN of a single one.

    Args:
        integral: tensor `(B, m)`, the part of each probe.
    """
    parts = ops.convert_to_numpy(integral).astype("float64")
    count = parts.shape[1]
    if count == 1:
        return np.full(len(parts), np.nan)
    return count**0.5 * parts.std(axis=1, ddof=1)  # of m·part, over √m


def is_exact(divergence, dims):
    """Whether the trace of samples of `dims` elements is taken exactly."""
    return divergence == "exact" or (divergence == "auto" and dims <= _EXACT_UP_TO)


def make_probes(shape, divergence="auto", num_probes=1, seed=None, first_index=0):
    """Vectors v such that the trace of J is the sum of vᵀJv (exact) or close to it (Hutchinson's estimate).

    Args:
        shape: `(B, ...)`.
        divergence, num_probes, seed: see `log_likelihood`.
        first_index: index of the batch's first sample.

    Returns:
        tensor `(m, B or 1, ...)`.
    """
    dims = math.prod(shape[1:])
    num_probes = check_probes(divergence, num_probes)
    if is_exact(divergence, dims):
        return ops.convert_to_tensor(np.eye(dims).reshape(dims, 1, *shape[1:]), dtype=solver_dtype())
    words = seed_words(seed)
    signs = [
        2.0 * ops.cast(counter_normal(words, k, 0, tuple(shape), first_index) >= 0, solver_dtype()) - 1.0
        for k in range(num_probes)
    ]
    return ops.stack(signs) / num_probes**0.5


def check_probes(divergence, num_probes):
    """`num_probes` as an int ≥ 1; raises for it and for an unknown `divergence`."""
    known = ("auto", "exact", "hutchinson")
    check_choice("divergence", divergence, known, "`divergence` must be 'auto', 'exact' or 'hutchinson'")
    return check_whole(
        "num_probes", num_probes, 1, rule="`num_probes` counts probes and must be an integer of at least 1"
    )


def _given(probes, x):
    shape = tuple(np.shape(probes))
    if len(shape) < 1 or shape[1:] != tuple(x.shape):
        raise ValueError(
            f"`probes` hold ±1 for every probe: shape (num_probes, *x.shape) = (…, {', '.join(map(str, x.shape))}). "
            f"Received: shape {shape}"
        )
    return ops.convert_to_tensor(probes, dtype=x.dtype) / shape[0] ** 0.5


class _Traced:
    """A denoiser that notes the trace of ∂(ε − x0)/∂x wherever it is evaluated."""

    def __init__(self, denoise, probes):
        self.denoise, self.probes, self.traces = denoise, probes, []

    def __call__(self, x, level):
        def velocity(x):
            prediction = self.denoise(x, level)
            return prediction.eps - prediction.x0, prediction

        _, prediction, vjp = pullback(velocity, x)

        def add(k, total):
            probe = ops.broadcast_to(ops.take(self.probes, k, axis=0), x.shape)
            trace = ops.sum(ops.reshape(probe * vjp(probe), (x.shape[0], -1)), axis=1, keepdims=True)
            return total + trace * ops.cast(ops.equal(ops.arange(count), k), x.dtype)

        count = self.probes.shape[0]
        zero = ops.zeros((x.shape[0], count), x.dtype)
        self.traces.append(add(0, zero) if count == 1 else ops.fori_loop(0, count, add, zero))
        return prediction
