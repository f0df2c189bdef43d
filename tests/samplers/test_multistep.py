"""The multistep solvers among themselves: twins, orders, other scales, steps from pure noise, Brownian noise,
quadrature, errors.
"""

import compiled_sampling
import keras
import numpy as np
import pytest
from golden_data import array, mixture, tensor, tolerance
from test_sampler_orders import DENOISE, SCHEDULE, START, exact_path, exact_x0, grid, run, slope

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.samplers.multistep import exponential_moments, quadrature_weights
from keras_diffusion.samplers.sampler import Walk
from keras_diffusion.samplers.tables import to_tensors
from keras_diffusion.samplers.walk import run_rows

FULL = {"lower_order_final": False}
X = np.random.default_rng(0).standard_normal((4, 2))


def even_grid(steps):
    """Levels even in σ/α, variance preserving."""
    ratio = np.linspace(2.0, 0.4, steps + 1)
    alpha = 1 / np.hypot(1, ratio)
    return Levels(np.linspace(1, 0, steps + 1), alpha, alpha * ratio)


# Twins ----------------------------------------------------------------------------------------------------------------

TWINS = [
    (("dpm_solver", {"order": 1}), ("ddim", {})),
    (("dpm_solver", {}), ("dpm_2m", {})),
    (("dpm_2m", {}), ("dpm_2m_sde", {"eta": 0.0})),
    (("dpm_2m", {"solver_type": "heun"}), ("deis", {"order": 2, **FULL})),
    (("dpm_3m", {}), ("deis", {"order": 3, **FULL})),
    (
        ("dpm_3m", {}),
        ("sa_solver", {"predictor_order": 3, "corrector_order": 0, "tau": 0.0, "predict_x0": False, **FULL}),
    ),
    (("dpm_2m", {}), ("unipc", {"order": 2, "predict_x0": False, "disable_corrector": range(9), **FULL})),
    (("dpmpp_2m", {}), ("unipc", {"order": 2, "disable_corrector": range(9), **FULL})),
    (("dpmpp_2m", {"lower_order_final": True}), ("unipc", {"order": 2, "disable_corrector": range(9)})),
    (("ddim", {"eta": 1.0}), ("sa_solver", {"predictor_order": 1, "corrector_order": 0})),
    (
        ("dpmpp_2m_sde", {"order": 1, "eta": 0.25}),
        ("sa_solver", {"predictor_order": 1, "corrector_order": 0, "tau": 0.5}),
    ),
    (
        ("dpm_2m_sde", {"solver_type": "heun"}),
        ("sa_solver", {"predictor_order": 2, "corrector_order": 0, "predict_x0": False, **FULL}),
    ),
    (
        ("dpm_2m", {"solver_type": "heun"}),
        ("sa_solver", {"tau_start": 0.0, "corrector_order": 0, "predict_x0": False, **FULL}),
    ),
    (("ipndm", {"order": 1}), ("ddim", {})),
]


@pytest.mark.parametrize(
    ("one", "other"), TWINS, ids=lambda twin: f"{twin[0]}({', '.join(f'{k}={v}' for k, v in twin[1].items())})"
)
@pytest.mark.parametrize("schedule", ["vp", "ve"])
def test_twins_are_equal(one, other, schedule):
    schedule = schedulers.get(schedule)
    levels = schedule.levels(schedulers.get_spacing("karras")(schedule, 6, end=0.1))
    noise, x = np.random.default_rng(2).standard_normal((6, 1, *X.shape)), levels.sigma[0] * X
    results = [
        compiled_sampling.sample(samplers.get(name, **options), x, "gmm2", mixture("gmm2"), levels, noise, schedule)
        for name, options in (one, other)
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5 * np.abs(x).max())


def test_constant_coefficients_are_those_of_an_even_grid():
    tables = [samplers.get(name).table(even_grid(8)) for name in ("lms", "ipndm")]
    np.testing.assert_allclose(tables[0]["bend"], tables[1]["bend"], atol=1e-10)
    past = samplers.get("pndm", skip_prk_steps=True).table(even_grid(8))["past"]
    np.testing.assert_allclose(past[2:], tables[0]["bend"][1:], atol=1e-10)  # behind a first step of two evaluations


@pytest.mark.parametrize("name", ["dpmpp_3m", "dpm_3m"])
def test_lower_order_final_lowers_the_last_two_steps(name):
    tables = [samplers.get(name, lower_order_final=lower).table(grid(6))["bend"] for lower in (True, False)]
    np.testing.assert_array_equal(tables[0][:4], tables[1][:4])
    assert np.all(tables[1] != 0, axis=1).tolist() == [False, False, True, True, True, True]
    assert tables[0][4, 0] != 0 and tables[0][4, 1] == 0 and np.all(tables[0][5] == 0)


@pytest.mark.parametrize("name", ["dpmpp_3m", "dpm_3m"])
def test_solver_type_rules_the_start_of_third_order(name):
    default, heun, midpoint = (
        samplers.get(name, solver_type=kind).table(grid(6))["bend"] for kind in (None, "heun", "midpoint")
    )
    np.testing.assert_array_equal(default, heun)
    assert midpoint[1, 0] != heun[1, 0]
    np.testing.assert_array_equal(np.delete(midpoint, 1, axis=0), np.delete(heun, 1, axis=0))


def test_deis_lowers_the_order_of_short_grids_only():
    for steps, lowered in ((14, True), (15, False)):
        tables = [
            samplers.get("deis", order=3, lower_order_final=lower).table(grid(steps))["bend"] for lower in (True, False)
        ]
        assert (not np.array_equal(*tables)) == lowered


def test_unipc_corrects_where_it_may():
    table = samplers.get("unipc", disable_corrector=[0, 2]).table(grid(5))["bend"]
    full = samplers.get("unipc").table(grid(5))["bend"]
    assert np.all(table == full, axis=1).tolist() == [True, False, True, False, True]  # row i corrects step i − 1


# Orders ---------------------------------------------------------------------------------------------------------------


def error_from_exact_history(name, levels, **options):
    """The first steps replaced by the exact path, so that only the method's own order shows."""
    sampler, path = samplers.get(name, **options), exact_path(levels)
    k = sampler.remembered
    past = []
    for i in range(k):
        x0 = exact_x0(path[i], levels.alpha[i], levels.sigma[i])
        past.insert(0, tensor(x0 if sampler.predict_x0 else (path[i] - levels.alpha[i] * x0) / levels.sigma[i]))
    walk = Walk(tensor(path[k]), tuple(past), ())
    plan = to_tensors(sampler.table(levels, SCHEDULE))
    walk, _ = run_rows(
        sampler, walk, {}, DENOISE, plan, lambda i, draw: tensor(np.zeros_like(START)), k, len(levels.t) - 1
    )
    return np.abs(array(walk.x) - path[-1]).max()


@pytest.mark.slow  # numbers on every backend: the golden walks
@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("dpm_3m", {}, 3),
        ("dpm_3m", {"reference_compatible": True}, 2),
        ("deis", {"order": 3, **FULL}, 3),
        ("unipc", {"order": 3, **FULL}, 4),
        ("unipc", {"order": 3, "predict_x0": False, **FULL}, 4),
        ("unipc", {"order": 3, "disable_corrector": range(99), **FULL}, 3),
        ("ipndm", {}, 2),
        ("sa_solver", {"tau": 0.0, "predictor_order": 3, "corrector_order": 4, **FULL}, 4),
    ],
)
def test_order_with_an_exact_history(name, options, order):
    counts = {2: (24, 48, 96), 3: (12, 24, 48), 4: (12, 24, 36)}[order]  # where float32 still shows the error
    errors = [error_from_exact_history(name, grid(n), **options) for n in counts]
    assert slope(counts, errors) == pytest.approx(order, abs=0.5)


@pytest.mark.slow  # numbers on every backend: the golden walks
@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("deis", {"order": 1}, 1),
        ("deis", {"order": 3}, 2),  # held back by its first steps
        ("dpm_solver", {"solver_type": "heun"}, 2),
        ("unipc", {"order": 1, "predict_x0": False, **FULL}, 2),
        ("unipc", {"order": 2, "predict_x0": False, **FULL}, 3),
        ("pndm", {"skip_prk_steps": True}, 2),
        ("sa_solver", {"tau": 0.0, "predictor_order": 1, "corrector_order": 1, **FULL}, 1),
        ("sa_solver", {"tau": 0.0, **FULL}, 2),
        ("sa_solver", {"tau": 0.0, "predict_x0": False, **FULL}, 2),
        ("sa_solver", {"tau": 0.0, "corrector_order": 3, **FULL}, 3),
    ],
)
def test_order_as_it_starts_by_itself(name, options, order):
    counts = (12, 24, 48) if order == 3 else (16, 32, 64)
    errors = [np.abs(run(samplers.get(name, **options), grid(n)) - exact_path(grid(n))[-1]).max() for n in counts]
    assert slope(counts, errors) == pytest.approx(order, abs=0.45)


@pytest.mark.slow  # numbers on every backend: the golden walks
@pytest.mark.parametrize("name", ["ipndm", "pndm"])
def test_even_grids_are_those_that_the_averages_are_made_for(name):
    """Fourth order there; on the uneven grids above, second."""
    counts = (12, 16, 24) if name == "pndm" else (16, 24, 32)
    errors = []
    for n in counts:
        levels = even_grid(n)
        if name == "ipndm":
            errors.append(error_from_exact_history(name, levels))
        else:
            errors.append(np.abs(run(samplers.get(name), levels) - exact_path(levels)[-1]).max())
    assert slope(counts, errors) > 3


# Other scales, pure noise, Brownian noise -----------------------------------------------------------------------------

ALL = [
    ("deis", {"order": 3}),
    ("dpm_3m", {}),
    ("dpm_2m_sde", {"eta": 0.7}),
    ("ipndm", {}),
    ("pndm", {}),
    ("pndm", {"skip_prk_steps": True}),
    ("sa_solver", {"predictor_order": 3, "corrector_order": 4, "tau_start": 3.0, "tau_end": 0.3}),
    ("sa_solver", {"tau": 0.5, "predict_x0": False}),
    ("unipc", {"order": 3}),
    ("unipc", {"order": 3, "predict_x0": False}),
]


@pytest.mark.slow  # numbers on every backend: the golden walks
@pytest.mark.parametrize(("name", "options"), ALL)
def test_only_the_ratio_of_noise_to_signal_matters(name, options):
    """(α, σ) → (1, σ/α), and a flow's (1, σ/α)/(1 + σ/α): x/α is the same."""
    ratio = np.append(np.geomspace(8.0, 0.05, 9), 0.0)
    noise, reference = np.random.default_rng(5).standard_normal((len(ratio) - 1, 1, *X.shape)), None
    for alpha in (np.ones_like(ratio), 1 / np.hypot(1, ratio), 1 / (1 + ratio)):
        levels = Levels(np.linspace(1, 0, len(ratio)), alpha, alpha * ratio)
        x = compiled_sampling.sample(
            samplers.get(name, **options), alpha[0] * 8 * X, "gmm2", mixture("gmm2"), levels, noise
        )
        reference = x if reference is None else reference
        np.testing.assert_allclose(x / alpha[1:, None, None], reference, atol=tolerance(2e-4, 1e-9))


@pytest.mark.slow  # numbers on every backend: the golden walks
@pytest.mark.parametrize(("name", "options"), ALL)
def test_steps_from_pure_noise_are_of_first_order(name, options):
    schedule = schedulers.get("flow")
    levels = schedule.levels(np.linspace(1, 0, 9))
    noise = np.random.default_rng(5).standard_normal((8, 1, *X.shape))
    sampler = samplers.get(name, **options)
    first = compiled_sampling.sample(sampler, X, "gmm2", mixture("gmm2"), levels, noise, schedule)[0]
    x0, eps = (array(part) for part in mixture("gmm2")(X, levels.map(lambda v: v[0])))
    fresh = sampler.noises_per_step and options.get("tau_start", np.inf) == np.inf
    expected = sampler.eta if fresh else 0.0
    np.testing.assert_allclose(
        first, levels.alpha[1] * x0 + levels.sigma[1] * (noise[0, 0] if expected else eps), atol=1e-5
    )


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="slow in eager loops; the table is the same on every backend"
)
@pytest.mark.parametrize(
    ("name", "options"),
    [("dpm_2m_sde", {}), ("sa_solver", {}), ("sa_solver", {"tau": 0.7}), ("sa_solver", {"predict_x0": False})],
)
def test_brownian_noise_is_that_of_any_number_of_steps(name, options):
    """Grids of 40 and 80 steps on one path come out alike; on two paths they do not."""
    schedule, x = schedulers.get("vp"), np.random.default_rng(0).standard_normal((100, 2))
    samples = {}
    for steps, seed in ((40, 1), (80, 1), (80, 2)):
        levels = schedule.levels(schedulers.get_spacing("exponential", sigma_min=0.02)(schedule, steps))
        samples[steps, seed] = array(samplers.get(name, **options).sample(x, mixture("gmm2"), levels, seed=seed))
    same = np.median(np.abs(samples[40, 1] - samples[80, 1]))
    other = np.median(np.abs(samples[40, 1] - samples[80, 2]))
    assert same < 0.25 * other


# Quadrature -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("z", [1e-9, 1e-3, 0.999, 1.0, 8.0, 40.0])
def test_exponential_moments(z, rising):
    """Against a fine Gauss–Legendre rule on pieces, and without digits lost where z is small."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    u = (np.arange(64)[:, None] + 0.5 * (1 + nodes)).reshape(-1) / 64
    weights = np.tile(weights, 64) / 128
    exact = [weights @ (np.exp(-z * (1 - u if rising else u)) * u**k) for k in range(5)]
    np.testing.assert_allclose(exponential_moments(z, 5, rising), exact, rtol=1e-11)


def test_quadrature_weights_integrate_polynomials():
    nodes = np.array([0.0, -0.7, -1.9])
    moments = exponential_moments(0.8, 3, rising=False)
    weights = quadrature_weights(nodes, moments)
    np.testing.assert_allclose(weights @ (2 - nodes + 3 * nodes**2), np.array([2.0, -1.0, 3.0]) @ moments, rtol=1e-12)


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dpm_solver", {"order": 4}, "`order` must be 1, 2 or 3. Received: order=4"),
        (
            "dpm_solver",
            {"solver_type": "bh1"},
            "`solver_type` must be 'midpoint' or 'heun'. Received: solver_type='bh1'",
        ),
        ("dpm_2m_sde", {"eta": -1.0}, "`eta` is a share of fresh noise and must not be negative. Received: eta=-1.0"),
        ("deis", {"order": 0}, "`order` must be 1, 2 or 3. Received: order=0"),
        ("ipndm", {"order": 5}, "`order` must be 1, 2, 3 or 4. Received: order=5"),
        ("lms", {"order": 5}, "`order` must be 1, 2, 3 or 4. Received: order=5"),
        ("unipc", {"order": 4}, "`order` must be 1, 2 or 3. Received: order=4"),
        ("unipc", {"solver_type": "heun"}, "`solver_type` must be 'bh1' or 'bh2'. Received: solver_type='heun'"),
        (
            "unipc",
            {"disable_corrector": [-1]},
            "`disable_corrector` lists steps, counted from 0. Received: disable_corrector=",
        ),
        ("sa_solver", {"predictor_order": 5}, "`predictor_order` must be 1, 2, 3 or 4. Received: predictor_order=5"),
        (
            "sa_solver",
            {"corrector_order": 5},
            "`corrector_order` must be 1, 2, 3 or 4, or 0 for none. Received: corrector_order=5",
        ),
        ("sa_solver", {"tau": -1.0}, "SA-Solver needs tau >= 0 and 0 <= tau_end <= tau_start. Received: tau=-1.0"),
        (
            "sa_solver",
            {"tau_start": 1.0, "tau_end": 2.0},
            "0 <= tau_end <= tau_start. Received: tau=1.0, tau_start=1.0, tau_end=2.0",
        ),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        samplers.get(name, **options)


def test_pndm_needs_the_curve_for_its_half_steps():
    levels = SCHEDULE.levels(np.linspace(0.9, 0.1, 6))
    odd = Levels(levels.t, 3 * levels.alpha, 3 * levels.sigma)
    with pytest.raises(ValueError, match="Pass the schedule"):
        samplers.get("pndm").plan(odd)
    assert samplers.get("pndm").plan(levels, SCHEDULE)["level"].t[1] == pytest.approx(0.5 * (levels.t[0] + levels.t[1]))
