"""Writes docs/solvers.md: every sampler with its measured order, cost, error per network evaluation, and peers.

The problem is a mixture of three Gaussians in the plane, whose denoiser is known exactly, so that all error is the
solver's. Everything is computed in float64 on the JAX backend, in about a minute.

    KERAS_BACKEND=jax python benchmarks/solvers.py [--out docs]
"""

import argparse
import functools
import math
from pathlib import Path

import jax
import keras
import numpy as np
from keras import ops

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import seed_words
from keras_diffusion.denoisers import MixtureDenoiser
from keras_diffusion.runtime.compile import Compiled
from keras_diffusion.runtime.files import write_whole
from keras_diffusion.samplers.sampler import SAMPLERS
from keras_diffusion.samplers.tables import noise_source, padded, rows_of, to_tensors
from keras_diffusion.samplers.walk import run_closing_row, run_rows, start_walk
from keras_diffusion.visualization import COLOURS, STYLE

jax.config.update("jax_enable_x64", True)
keras.config.set_floatx("float64")

DENOISE = MixtureDenoiser([0.5, 0.3, 0.2], [[1.2, -0.4], [-0.9, 0.8], [-0.3, -1.3]], [0.35, 0.25, 0.3])
SCHEDULE = schedulers.get("ve", sigma_min=0.005, sigma_max=10.0)
SPACING = schedulers.get_spacing("karras")
BUDGETS = (5, 10, 20, 50)
PATHS = 256  # samples for the error against the exact path of the ODE
POINTS = 20_000  # samples for the distance of distributions

GREY = STYLE["text.color"]
IN_COLOUR = (  # in the picture: seven of each kind
    *("ddim", "heun", "dpmpp_2m", "unipc", "ipndm", "rk4", "dpm_adaptive"),
    *("ddpm", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde", "edm", "restart", "sa_solver"),
)

# name: (k-diffusion's, diffusers', others') name of it. "–": not there.
PEERS = {
    "ddim": ("–", "DDIMScheduler", "FlaxDiff DDIMSampler"),
    "ddim_inversion": ("–", "DDIMInverseScheduler", "–"),
    "dpmpp_2m_inversion": ("–", "DPMSolverMultistepInverseScheduler", "–"),
    "ddpm": ("–", "DDPMScheduler", "FlaxDiff DDPMSampler"),
    "euler": ("sample_euler", "EulerDiscreteScheduler, EDMEulerScheduler", "FlaxDiff EulerSampler"),
    "flow_euler": ("–", "FlowMatchEulerDiscreteScheduler", "–"),
    "flow_heun": ("–", "FlowMatchHeunDiscreteScheduler", "–"),
    "euler_ancestral": ("sample_euler_ancestral", "EulerAncestralDiscreteScheduler", "FlaxDiff EulerAncestralSampler"),
    "heun": ("sample_heun", "HeunDiscreteScheduler", "EDM, FlaxDiff HeunSampler"),
    "edm": ("sample_heun(s_churn)", "–", "EDM edm_sampler"),
    "rk4": ("–", "–", "FlaxDiff RK4Sampler"),
    "dpm_2": ("sample_dpm_2", "KDPM2DiscreteScheduler", "–"),
    "dpm_2_ancestral": ("sample_dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler", "–"),
    "lms": ("sample_lms", "LMSDiscreteScheduler", "–"),
    "dpm_solver": ("–", "DPMSolverMultistepScheduler(dpmsolver)", "–"),
    "dpm_2m": ("–", "DPMSolverMultistepScheduler(dpmsolver)", "–"),
    "dpm_3m": ("–", "DPMSolverMultistepScheduler(dpmsolver)", "–"),
    "dpm_2m_sde": ("–", "DPMSolverMultistepScheduler(sde-dpmsolver)", "–"),
    "dpmpp_1": ("–", "DPMSolverMultistepScheduler", "–"),
    "dpmpp_2m": ("sample_dpmpp_2m", "DPMSolverMultistepScheduler", "–"),
    "dpmpp_3m": ("–", "DPMSolverMultistepScheduler", "–"),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", "DPMSolverMultistepScheduler(sde-dpmsolver++)", "–"),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", "DPMSolverMultistepScheduler(sde-dpmsolver++)", "–"),
    "dpmpp_2s_ancestral": ("sample_dpmpp_2s_ancestral", "–", "–"),
    "dpmpp_sde": ("sample_dpmpp_sde", "DPMSolverSDEScheduler", "–"),
    "dpm_singlestep": ("–", "DPMSolverSinglestepScheduler", "–"),
    "dpm_2s": ("–", "DPMSolverSinglestepScheduler(dpmsolver)", "–"),
    "dpm_3s": ("–", "DPMSolverSinglestepScheduler(dpmsolver)", "–"),
    "dpmpp_2s": ("–", "DPMSolverSinglestepScheduler", "–"),
    "dpmpp_3s": ("–", "DPMSolverSinglestepScheduler", "–"),
    "dpm_fast": ("sample_dpm_fast", "–", "–"),
    "dpm_adaptive": ("sample_dpm_adaptive", "–", "–"),
    "unipc": ("–", "UniPCMultistepScheduler", "–"),
    "deis": ("–", "DEISMultistepScheduler", "–"),
    "pndm": ("–", "PNDMScheduler", "–"),
    "ipndm": ("–", "IPNDMScheduler", "–"),
    "sa_solver": ("–", "SASolverScheduler", "–"),
    "lcm": ("–", "LCMScheduler", "–"),
    "tcd": ("–", "TCDScheduler", "–"),
    "consistency": ("–", "CMStochasticIterativeScheduler", "–"),
    "restart": ("–", "–", "the paper's code"),
    "repaint": ("–", "RePaintScheduler", "–"),
}
# They walk up, or are for another kind of denoiser or task: no error to measure here.
APART = {
    "ddim_inversion": "walk up, from data to noise",
    "dpmpp_2m_inversion": "walk up, from data to noise",
    "lcm": "need a consistency model",
    "tcd": "need a consistency model",
    "consistency": "need a consistency model",
    "repaint": "for inpainting",
}
DEPARTURES = [  # what, peers, here, why
    (
        "third-order multistep (`dpmpp_3m`, `dpmpp_3m_sde`, `dpm_3m`)",
        "k-diffusion and diffusers give the second difference half its Taylor weight",
        "the whole weight; `reference_compatible=True` gives theirs",
        "with half of it the method is of order 2",
    ),
    (
        "its SDE form",
        "diffusers has the constant of the second difference with the wrong sign",
        "as k-diffusion, with the whole weight",
        "the error does not fall as it should",
    ),
    (
        "churn with Euler steps",
        "diffusers evaluates the network before it adds the noise",
        "the noise first, as EDM's algorithm 2 and k-diffusion",
        "the network would receive another level than x has",
    ),
    (
        "noise of SDE solvers",
        "k-diffusion draws from a Brownian tree over σ",
        "increments of one Brownian path over the signal-to-noise ratio",
        "the noise of a step is then exactly the sum of the noise of its parts",
    ),
    (
        "previous timestep of DDIM and PNDM",
        'diffusers takes t − T // n, which is not on its grid under "linspace" or where n does not divide T',
        "the next level of the grid",
        "x would have another level than the network receives",
    ),
    (
        "shift of flow matching",
        "diffusers shifts the smallest σ twice",
        "once",
        "the grid would end at another σ than asked for",
    ),
    (
        "last step of DEIS and SA-Solver with Karras and other grids",
        "diffusers repeats the last σ: the step has no length",
        "it goes to σ = 0",
        "noise would be left in the sample",
    ),
    (
        'last step of DPM-Solver and UniPC with `final_sigmas_type="sigma_min"`',
        "the same: the last two σ are equal",
        "grids fall strictly; the last step goes to σ = 0",
        "it would waste an evaluation",
    ),
    (
        "PNDM with v-prediction",
        "diffusers averages the v of several levels and reads the mean at the level that the step starts from",
        "averages ε",
        "v = α·ε − σ·x0 means something else at every level",
    ),
    (
        "LMS entered half way (image to image)",
        "diffusers takes the weights of order 4 and leaves out those for which it has no ε yet",
        "starts anew, with order 1; or from a stored history, `sample(walk, …, start=k)`",
        "the weights that are left do not add up to the step",
    ),
    (
        "DDIM inversion",
        "diffusers clips x0 to [−1, 1] unless told otherwise",
        "x0 as it is",
        "what is clipped on the way up cannot come back on the way down",
    ),
    ("first step of iPNDM", "diffusers takes x0 = 0", "the denoiser's x0", "α = 0 there, and x0 is not 0"),
    (
        "start at α = 0 (zero terminal SNR, flow)",
        "not finite, or clipped",
        "steps are α_s·x0 + σ_s·ε plus differences",
        "nothing is divided by α",
    ),
    (
        "Euler-ancestral and Heun where α is not 1",
        "FlaxDiff mixes scales",
        "invariant under (α, σ) → (1, σ/α)",
        "a factor on x is no other process",
    ),
]


def grid(steps):
    """`steps` levels from σ = 10 to 0.005, and a clean one."""
    t = SPACING(SCHEDULE, steps - 1) if steps > 1 else np.array([1.0])
    levels = SCHEDULE.levels(t)
    return Levels(*(np.append(field, end) for field, end in zip(levels, (0.0, 1.0, 0.0), strict=True)))


def evaluations(sampler, levels):
    """Network evaluations of a walk."""
    rows = rows_of(sampler.table(levels, SCHEDULE))
    return int(rows * sampler.evaluations_per_step - (sampler.evaluations_per_step - 1) * sampler.closes_apart(levels))


def steps_for(sampler, budget):
    """The largest number of steps that costs at most `budget` evaluations, or None."""
    fitting = [n for n in range(2, budget + 1) if evaluations(sampler, grid(n)) <= budget]
    return max(fitting, default=None)


PROGRAMS = {}


def walk(sampler, x, levels, seed=0):
    """x at the last level and the sampler's report."""
    table = sampler.table(levels, SCHEDULE, "independent")
    rows = rows_of(table)
    in_loop = rows - 1 if sampler.closes_apart(levels) else rows
    plan = to_tensors(padded(table, 64 * math.ceil(rows / 64)))
    key = sampler.structure()
    if key not in PROGRAMS:

        def run(x, plan, words, stop):
            walk, _ = run_rows(
                sampler, start_walk(sampler, x, DENOISE), {}, DENOISE, plan, noise_source(plan, words, x.shape), 0, stop
            )
            return walk

        def close(walk, plan, words, index):
            return run_closing_row(sampler, walk, {}, DENOISE, plan, noise_source(plan, words, walk.x.shape), index)[0]

        PROGRAMS[key] = Compiled(run), Compiled(close)
    run, close = PROGRAMS[key]
    result = run(ops.convert_to_tensor(x), plan, seed_words(seed), np.int32(in_loop))
    if in_loop < rows:
        result = close(result, plan, seed_words(seed), np.int32(in_loop))
    return np.asarray(result.x), {key: float(value) for key, value in sampler.report(result.state).items()}


def start(count, seed=0):
    """Samples of the noisy mixture at the first level."""
    level = SCHEDULE.levels(1.0)
    return DENOISE.sample(count, level, seed=seed)


@functools.cache
def exact(sigma_end=0.0, substeps=4000):
    """Ends of the probability-flow ODE's paths from `start(PATHS)`.

    By classical Runge–Kutta in log σ, with an error far below those shown.
    """
    first, last = np.log(10.0), np.log(sigma_end or 1e-6)
    h = (last - first) / substeps

    def slope(x, u):
        sigma = ops.exp(u)
        return sigma * DENOISE(x, Levels(0.5, 1.0, sigma)).eps

    def step(i, x):
        u = first + h * ops.cast(i, "float64")
        k1 = slope(x, u)
        k2 = slope(x + 0.5 * h * k1, u + 0.5 * h)
        k3 = slope(x + 0.5 * h * k2, u + 0.5 * h)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + h * k3, u + h))

    x = Compiled(lambda x: ops.fori_loop(0, substeps, step, x))(ops.convert_to_tensor(start(PATHS)))
    return np.asarray(x if sigma_end else DENOISE(x, Levels(0.5, 1.0, 1e-6)).x0)


def rms(x, y):
    """Root of the mean squared distance."""
    return float(np.sqrt(np.mean(np.sum((x - y) ** 2, axis=-1))))


def distance(x, y, directions=64):
    """Sliced 2-Wasserstein distance of two point sets of one size."""
    angles = np.pi * np.arange(directions) / directions
    axes = np.stack([np.cos(angles), np.sin(angles)])
    return float(np.sqrt(np.mean((np.sort(x @ axes, axis=0) - np.sort(y @ axes, axis=0)) ** 2)))


def is_deterministic(name):
    """Whether the method draws nothing, or nothing by default."""
    sampler = samplers.get(name)
    return sampler.noises_per_step == 0 or getattr(sampler, "eta", None) == 0.0


def order(name):
    """Slope of the error at σ = 0.2 against the number of steps; None for stochastic methods.

    The grids have 32 to 128 steps, even in log σ from σ = 10.
    """
    if not is_deterministic(name) or name in APART or name == "dpm_adaptive":
        return None
    options = {"lower_order_final": False}
    sampler = samplers.get(name, **{k: v for k, v in options.items() if k in samplers.get(name).get_config()})
    x, counts, errors = start(PATHS), (32, 64, 128), []
    for n in counts:
        sigma = np.exp(np.linspace(np.log(10.0), np.log(0.2), n + 1))
        levels = Levels(SCHEDULE.time(-2 * np.log(sigma)), np.ones(n + 1), sigma)
        errors.append(rms(walk(sampler, x, levels)[0], exact(0.2)))
    return float(-np.polyfit(np.log(counts), np.log(errors), 1)[0])


def measure(name, clean, points):
    """{budget: (evaluations, error)}.

    The error is the distance from the exact end for methods of the ODE, that of the distributions for others.
    """
    if name in APART:
        return {}
    if name == "dpm_adaptive":
        results = {}
        for rtol in (0.5, 0.1, 0.02, 0.004, 0.0008):
            x, report = walk(samplers.get(name, rtol=rtol, atol=0.156 * rtol), start(PATHS), grid(50))
            results[rtol] = (int(report["nfe"]) + 1, rms(x, clean))
        return results
    sampler, results = samplers.get(name, **({"s_noise": 1.0} if name == "edm" else {})), {}
    for budget in BUDGETS:
        n = steps_for(sampler, budget)
        if n is None:
            continue
        x = start(PATHS) if is_deterministic(name) else start(POINTS, seed=2)
        x, _ = walk(sampler, x, grid(n))
        results[budget] = (
            evaluations(sampler, grid(n)),
            rms(x, clean) if is_deterministic(name) else distance(x, points),
        )
    return results


def page(orders, results, floor):
    """The text of docs/solvers.md."""

    def row(name):
        sampler = samplers.get(name)
        cells = [f"{results[name][b][1]:.2g}" if b in results[name] else "–" for b in BUDGETS]
        if name == "dpm_adaptive":
            cells = ["see below"] + ["–"] * 3
        measured = "–" if orders[name] is None else f"{orders[name]:.1f}"
        return (
            f"| `{name}` | {measured} | {sampler.evaluations_per_step} | "
            f"{sampler.noises_per_step} | {' | '.join(cells)} |"
        )

    names = [name for name in SAMPLERS.names() if name not in APART]
    ode, sde = ([name for name in names if is_deterministic(name) is flag] for flag in (True, False))
    head = (
        "| name | order | evaluations per step | draws per step | "
        + " | ".join(f"error at {b}" for b in BUDGETS)
        + " |"
    )
    rule = "|---|---:|---:|---:|" + "---:|" * len(BUDGETS)
    adaptive = ", ".join(f"{error:.1g} ({count})" for count, error in results["dpm_adaptive"].values())
    tolerances = ", ".join(f"{rtol:g}" for rtol in results["dpm_adaptive"])
    peers = "\n".join(f"| `{name}` | {' | '.join(PEERS[name])} |" for name in SAMPLERS.names())
    departures = "\n".join(f"| {' | '.join(cells)} |" for cells in DEPARTURES)
    reasons = {why: [name for name in APART if APART[name] == why] for why in APART.values()}
    apart = "; ".join(f"{', '.join(f'`{name}`' for name in names)} ({why})" for why, names in reasons.items())
    return f"""\
# Solvers

This page is written by `make solvers` (`benchmarks/solvers.py`). The problem is a mixture of three Gaussians in the
plane, whose denoiser is known exactly: all error is the solver's. The grid has Karras spacing from σ = 10 to 0.005,
α = 1, and a closing step to σ = 0. Budgets are network evaluations, the closing one included; methods with inner stages
take fewer steps for the same budget.

![Error against network evaluations, seven methods of each kind in colour](images/solvers-error.png)

Grey lines are the other methods of the tables below.

## Methods for the probability-flow ODE

*order*: slope of the error against the number of steps (32 to 128, even in log σ, from σ = 10 to 0.2; no closing step,
and full order in the last steps). Methods with a history start without one, which holds some of them back: `dpmpp_3m`
and `dpm_3m` are of order 3 when started exactly (see `tests/samplers`). *error*: root mean squared distance from the
exact end of the path, with default options.

{head}
{rule}
{chr(10).join(row(name) for name in ode)}

`dpm_adaptive` chooses its steps itself. With tolerances rtol = {tolerances} its
errors were, in brackets after how many evaluations: {adaptive}.

## Stochastic methods

*error*: sliced 2-Wasserstein distance of {POINTS:,} samples from as many of the mixture. Two sets of samples of the
mixture itself are {floor:.2g} apart: smaller errors cannot be distinguished.

{head}
{rule}
{chr(10).join(row(name) for name in sde)}

Not measured here: {apart}.

## Who else has them

| name | k-diffusion | diffusers | others |
|---|---|---|---|
{peers}

## Where the peers differ

| what | peers | here | why |
|---|---|---|---|
{departures}
"""


def plot(results, floor, path):
    """Error against evaluations, one picture of two panels: some methods in colour, all others in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({**STYLE, "font.size": 9.0}):
        figure, axes = pyplot.subplots(1, 2, figsize=(10.0, 4.2), layout="constrained")
        for panel, flag in zip(axes, (True, False), strict=True):
            lines = {
                name: sorted(results[name].values())
                for name in results
                if results[name] and is_deterministic(name) is flag
            }
            colours = dict(zip(IN_COLOUR, 2 * COLOURS[:7], strict=True))
            for points in lines.values():
                panel.plot(*zip(*points, strict=True), color=GREY, alpha=0.6, linewidth=0.8)
            for name in sorted(colours.keys() & lines, key=lambda name: -lines[name][-1][1]):
                panel.plot(*zip(*lines[name], strict=True), "o-", markersize=4, color=colours[name], label=name)
            panel.plot([], [], color=GREY, alpha=0.6, label=f"{len(lines) - len(colours.keys() & lines)} others")
            panel.set(xscale="log", yscale="log", xlabel="network evaluations")
            panel.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS])
            panel.set_xticks([], minor=True)
            panel.legend(loc="upper right", fontsize=8)
        axes[0].set(title="probability-flow ODE", ylabel="distance from the exact end")
        axes[1].set(title="stochastic methods", ylabel="sliced 2-Wasserstein distance")
        axes[1].axhline(floor, color=GREY, linestyle=":")
        place = {"textcoords": "offset points", "xytext": (0, -10), "color": GREY, "fontsize": 8}
        axes[1].annotate("two sets of exact samples", (BUDGETS[0], floor), **place)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
        pyplot.close(figure)


def main():
    """Measures, and writes the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out = parser.parse_args().out
    clean, points = exact(), DENOISE.sample(POINTS, seed=4)
    floor = distance(DENOISE.sample(POINTS, seed=5), points)
    orders, results = {}, {}
    for i, name in enumerate(SAMPLERS.names()):
        orders[name], results[name] = order(name), measure(name, clean, points)
        shown = "  ".join(f"{count}: {error:.2g}" for count, error in results[name].values())
        print(f"[{i + 1}/{len(SAMPLERS.names())}] {name:20s} order {orders[name] or math.nan:.2f}  {shown}", flush=True)
    plot(results, floor, out / "images" / "solvers-error.png")
    write_whole(out / "solvers.md", page(orders, results, floor).encode())
    print(f"Wrote {out / 'solvers.md'}")


if __name__ == "__main__":
    main()
