"""Measured orders of convergence: the global error of a deterministic sampler against the exact solution of the ODE.

The problem is a mixture of Gaussians on a variance-preserving schedule between two noisy levels, so that no step ends
at σ = 0 (the last step there is first order for every method). The exact path is integrated here, in NumPy, with a fine
fourth-order method of its own.
"""

import itertools

import compiled_sampling
import numpy as np
import pytest
from golden_data import array, tensor, tolerance

from keras_diffusion import samplers, schedulers
from keras_diffusion.denoisers import MixtureDenoiser
from keras_diffusion.samplers.sampler import SAMPLERS, Walk
from keras_diffusion.samplers.tables import to_tensors
from keras_diffusion.samplers.walk import run_rows

WEIGHTS, MEANS, STDS = np.array([0.6, 0.4]), np.array([[0.8, -0.3], [-0.5, 0.6]]), np.array([0.5, 0.4])
SCHEDULE = schedulers.get("vp")
DENOISE = MixtureDenoiser(WEIGHTS, MEANS, STDS)
# What a method is worth is the same everywhere; that each backend walks alike is shown by the golden files.
pytestmark = pytest.mark.slow

START = np.array([[0.3, -1.2], [1.1, 0.4], [-0.7, 0.9], [0.1, 0.2]])

# The order of every deterministic method; None: stochastic by default or adaptive, nothing to measure. A new sampler
# needs its line here.
ORDERS = {
    "consistency": None,
    "ddim": 1,
    # deterministic, but from the other end: test_ddim_golden.py measures how exactly DDIM brings a sample back
    "ddim_inversion": None,
    "ddpm": None,
    "deis": 2,
    "dpm_2": 2,
    "dpm_2m": 2,
    "dpm_2m_sde": None,
    "dpm_2s": 2,
    "dpm_3s": 3,
    "dpm_2_ancestral": 2,  # without ancestral noise, as the next one
    "dpm_3m": 2,  # its first steps hold it back, see test_multistep
    "dpm_solver": 2,
    "dpmpp_2s_ancestral": 2,
    "dpmpp_sde": 2,
    "ipndm": 2,  # its coefficients are an even grid's
    "dpm_adaptive": None,  # as long a step as a tolerance allows: test_adaptive.py
    "dpm_fast": 2,  # of order 3 but for its last step, see below
    "dpm_singlestep": 2,
    "dpmpp_2s": 2,
    "dpmpp_3s": 3,
    "lcm": None,
    "lms": 3,  # of order 4 by its formula; its first steps, without a history, hold it back
    "tcd": None,
    "unipc": 3,  # a second-order predictor, and the corrector
    "dpmpp_1": 1,
    "dpmpp_2m": 2,
    "dpmpp_2m_sde": None,
    # its first steps, without a history, are of lower order: started exactly it is of order 3, see below
    "dpmpp_3m": 2,
    "dpmpp_3m_sde": None,
    "dpmpp_2m_inversion": None,  # of order 2, from the other end: test_inversion_orders.py
    "edm": 2,  # without churn
    "euler": 1,
    "euler_ancestral": None,
    "flow_euler": 1,
    "flow_heun": 2,
    "heun": 2,
    "pndm": 2,  # the same
    "repaint": None,
    "restart": None,
    "rk4": 4,
    "sa_solver": None,
}
STEPS = {1: (8, 16, 32), 2: (16, 32, 64), 3: (12, 24, 48), 4: (4, 8, 16)}  # where float32 still shows the error


def epsilon(x, ratio):
    """ε of the mixture at α = 1, σ = ratio: independent of the package."""
    variance = STDS**2 + ratio**2
    offset = x[:, None] - MEANS
    logits = np.log(WEIGHTS) - np.log(variance) - 0.5 * (offset**2).sum(-1) / variance
    share = np.exp(logits - logits.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    return ratio * (share[..., None] * offset / variance[:, None]).sum(1)


def grid(steps):
    # Even in log-SNR from σ/α ≈ 4.3 down to 0.2.
    return SCHEDULE.levels(schedulers.get_spacing("exponential")(SCHEDULE, steps, start=0.55, end=0.05))


def exact_path(levels, substeps=40):
    """x at every level, starting from START at the first one: d(x/α)/d(σ/α) = ε, classical Runge–Kutta."""
    ratios = levels.sigma / levels.alpha
    x, path = START / levels.alpha[0], [START / levels.alpha[0]]
    for start, stop in itertools.pairwise(ratios):
        h = (stop - start) / substeps
        for i in range(substeps):
            r = start + i * h
            k1 = epsilon(x, r)
            k2 = epsilon(x + 0.5 * h * k1, r + 0.5 * h)
            k3 = epsilon(x + 0.5 * h * k2, r + 0.5 * h)
            k4 = epsilon(x + h * k3, r + h)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path.append(x)
    return np.stack(path) * levels.alpha[:, None, None]


def exact_x0(x, alpha, sigma):
    return (x - sigma * epsilon(x / alpha, sigma / alpha)) / alpha


def slope(steps, errors):
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def run(sampler, levels):
    return compiled_sampling.sample(sampler, START, "orders", DENOISE, levels, schedule=SCHEDULE)[-1]


def deterministic(name):
    sampler = samplers.get(name)
    options = {"lower_order_final": False, **({"s_churn": 0.0, "eta": 0.0} if sampler.evaluations_per_step > 1 else {})}
    return samplers.get(name, **{key: value for key, value in options.items() if key in sampler.get_config()})


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_order(name):
    assert name in ORDERS, f"state the measured order of {name!r} (None for a stochastic sampler) in ORDERS"
    if ORDERS[name] is None:
        pytest.skip("stochastic or adaptive")
    expected, counts = ORDERS[name], STEPS[ORDERS[name]]
    errors = []
    for n in counts:
        levels = grid(n)
        errors.append(np.abs(run(deterministic(name), levels) - exact_path(levels)[-1]).max())
    assert errors[-1] > tolerance(2e-6, 1e-13), "below what the float type can show"
    assert slope(counts, errors) == pytest.approx(expected, abs=0.35)


def test_third_order_when_started_exactly():
    """DPM-Solver++ 3M with an exact history of x0 for its first three steps, and with the reference's coefficient for
    comparison.
    """
    counts = (24, 48, 96)
    slopes = {}
    for compatible in (False, True):
        sampler = samplers.get("dpmpp_3m", reference_compatible=compatible)
        errors = []
        for n in counts:
            levels = grid(n)
            path = exact_path(levels)
            x0 = [exact_x0(path[i], levels.alpha[i], levels.sigma[i]) for i in (0, 1)]
            plan = to_tensors(sampler.table(levels, SCHEDULE))
            start = Walk(tensor(path[2]), (tensor(x0[1]), tensor(x0[0])), ())
            walk, _ = run_rows(sampler, start, {}, DENOISE, plan, None, 2, n)
            errors.append(np.abs(array(walk.x) - path[-1]).max())
        slopes[compatible] = slope(counts, errors)
    assert slopes[False] == pytest.approx(3, abs=0.35)
    assert slopes[True] == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
def test_both_second_order_forms(solver_type):
    errors = []
    for n in STEPS[2]:
        levels = grid(n)
        errors.append(
            np.abs(run(samplers.get("dpmpp_2m", solver_type=solver_type), levels) - exact_path(levels)[-1]).max()
        )
    assert slope(STEPS[2], errors) == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize("coordinate", ["sigma", "flow"])
@pytest.mark.parametrize(("name", "order"), [("heun", 2), ("rk4", 4)])
def test_order_in_both_coordinates(name, order, coordinate):
    errors = []
    for n in STEPS[order]:
        levels = grid(n)
        errors.append(np.abs(run(samplers.get(name, coordinate=coordinate), levels) - exact_path(levels)[-1]).max())
    assert slope(STEPS[order], errors) == pytest.approx(order, abs=0.5)


def test_dpm_fast_is_of_third_order_where_no_step_is_of_first():
    """n = 3m + 2 evaluations: third-order steps, and a second-order one whose error is a step's alone."""
    errors = []
    for n in (17, 35, 71):
        levels = grid(n)
        errors.append(np.abs(run(samplers.get("dpm_fast"), levels) - exact_path(levels)[-1]).max())
    assert errors[-1] > tolerance(2e-6, 1e-13)
    assert slope((17, 35, 71), errors) == pytest.approx(3, abs=0.35)


def single_step_slope(counts, levels_of, **options):
    errors = []
    for n in counts:
        levels, sampler = levels_of(n), samplers.get("dpm_singlestep", lower_order_final=False, **options)
        errors.append(np.abs(run(sampler, levels) - exact_path(levels)[-1]).max())
    assert errors[-1] > tolerance(2e-6, 1e-13)
    return slope(counts, errors)


@pytest.mark.parametrize(
    ("algorithm", "order", "solver_type", "counts"),
    [
        ("dpmpp", 2, "heun", (24, 48, 96)),
        ("dpm", 2, "heun", (24, 48, 96)),
        ("dpmpp", 3, "heun", (12, 24, 36)),
        ("dpmpp", 3, "midpoint", (12, 24, 48)),
        ("dpm", 3, "midpoint", (12, 24, 48)),
    ],
)
def test_orders_of_single_steps_on_smoothly_uneven_levels(algorithm, order, solver_type, counts):
    def karras(n):
        return SCHEDULE.levels(schedulers.get_spacing("karras")(SCHEDULE, n, start=0.55, end=0.05))

    measured = single_step_slope(counts, karras, order=order, solver_type=solver_type, algorithm=algorithm)
    assert measured == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
def test_third_order_wants_its_second_stage_at_two_thirds_of_the_step(solver_type):
    def irregular(n):
        ends = np.linspace(*SCHEDULE.log_snr(np.array([0.55, 0.05])), n // 3 + 1)
        inside = ends[:-1, None] + np.diff(ends)[:, None] * np.array([0.0, 0.3, 0.5])
        return SCHEDULE.levels(SCHEDULE.time(np.append(inside.reshape(-1), ends[-1])))

    assert single_step_slope((24, 48, 96), irregular, order=3, solver_type=solver_type) == pytest.approx(2, abs=0.35)


def test_the_corrector_of_unipc_adds_an_order():
    """`order=2`, which gives 3, is among the defaults above."""
    errors = []
    for n in STEPS[2]:
        levels = grid(n)
        errors.append(
            np.abs(run(samplers.get("unipc", order=1, lower_order_final=False), levels) - exact_path(levels)[-1]).max()
        )
    assert slope(STEPS[2], errors) == pytest.approx(2, abs=0.35)
