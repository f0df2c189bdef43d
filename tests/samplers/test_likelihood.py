"""Log-likelihood by the probability flow, against k-diffusion and against the exact density of a mixture."""

import keras
import numpy as np
import pytest
from golden_data import array, exploding_levels, load, mixture, round_trip, tensor, tolerance

from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import Denoiser
from keras_diffusion.runtime.compile import Compiled, loop_bound
from keras_diffusion.samplers import ProbabilityFlow, log_likelihood
from keras_diffusion.samplers.likelihood import make_probes
from keras_diffusion.samplers.sampler import Walk
from keras_diffusion.samplers.tables import padded, to_tensors
from keras_diffusion.samplers.walk import run_rows

CASES = load("kdiff_log_likelihood")
X = mixture("gmm2").sample(6, seed=4)


def grid(config, steps=100):
    return exploding_levels(np.geomspace(config["sigma_max"], config["sigma_min"], steps + 1))


def moments(problem):
    """Mean and standard deviation of the mixture's elements, each of them."""
    denoise = mixture(problem)
    weights = denoise.weights.reshape(-1, *(1,) * (denoise.means.ndim - 1))
    mean = np.sum(weights * denoise.means, axis=0)
    variance = np.sum(weights * (denoise.stds.reshape(weights.shape) ** 2 + denoise.means**2), axis=0) - mean**2
    return {"data_mean": mean, "data_std": np.sqrt(variance)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name == "ll-gmm2-a" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_agrees_with_k_diffusion_with_its_probe_and_its_prior(name):
    case = CASES[name]
    denoise = mixture(case.config["problem"])
    result = log_likelihood(denoise, case["x"], grid(case.config), probes=case["probe"][None], data_std=0.0)
    np.testing.assert_allclose(result, case["ll_hutchinson_exact_ode"], atol=tolerance(1e-4, 5e-6))


PROGRAMS = {}


def carried(problem, x, levels, method="rk4"):
    """A function of the prior's options: the log-densities by one exact walk, compiled once for all
    numbers of steps.
    """
    flow, denoise = ProbabilityFlow(method), mixture(problem)
    levels = flow.check(levels)
    if (method, problem) not in PROGRAMS:

        def walk_up(x, probes, plan, start, stop):
            return tuple(run_rows(flow, flow.start(x, denoise, probes), {}, denoise, plan, None, start, stop)[0])

        PROGRAMS[method, problem] = Compiled(walk_up)
    plan, steps = to_tensors(padded(flow.table(levels), 128)), len(levels.t) - 1
    walk = PROGRAMS[method, problem](tensor(x), make_probes(x.shape, "exact"), plan, loop_bound(0), loop_bound(steps))
    return lambda **options: flow.log_density(Walk(*walk), levels, **options)


@pytest.mark.parametrize("name", CASES)
def test_exact_trace_and_right_prior_give_the_exact_density(name):
    """Largest error in nats with the exact prior: below 1e-4. With N(0, σ²), as in the reference: 0.055, 0.008, 0.22;
    with the means and standard deviations of the elements 0.003, 0.0001, 0.10, the rest being their correlations."""
    case = CASES[name]
    log_density = carried(case.config["problem"], case["x"], grid(case.config))
    exact = log_density(prior=mixture(case.config["problem"]).log_prob)
    np.testing.assert_allclose(exact, case["logp_sigma_min"], atol=tolerance(1e-4, 1e-6))
    np.testing.assert_allclose(exact, case["ll_trace_true_prior"], atol=tolerance(1e-4, 1e-6))
    wide = log_density(data_std=0.0)
    np.testing.assert_allclose(wide, case["ll_trace_exact_ode"], atol=tolerance(1e-4, 1e-6))
    matched = log_density(**moments(case.config["problem"]))
    assert np.abs(matched - exact).max() < 0.55 * np.abs(wide - exact).max()


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_order(method, order):
    """Global error in the log-density. (In float32, RK4 is at rounding from 60 steps on.)"""
    denoise, ends, errors = mixture("gmm2"), {"sigma_max": 10.0, "sigma_min": 0.05}, []
    exact = array(denoise.log_prob(X, Levels(0.0, 1.0, 0.05)))
    for steps in (16, 32):
        errors.append(np.abs(carried("gmm2", X, grid(ends, steps), method)(prior=denoise.log_prob) - exact).mean())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.5)


@pytest.mark.skipif(keras.config.floatx() != "float64", reason="below what float32 can show")
def test_float64_reaches_1e_8():
    case = CASES["ll-gmm2-a"]
    denoise = mixture("gmm2")
    result = log_likelihood(denoise, case["x"], grid(case.config, 400), prior=denoise.log_prob)
    np.testing.assert_allclose(result, case["logp_sigma_min"], atol=1e-8)


@pytest.mark.parametrize("scale", ["variance_preserving", "flow"])
def test_other_scales_of_the_same_levels_differ_by_the_volume_alone(scale):
    """Invariance under (α, σ) → (1, σ/α): log p(x) + d·log α is the same."""
    denoise, levels = mixture("gmm2"), grid({"sigma_max": 10.0, "sigma_min": 0.05}, 20)
    alpha = 1 / np.sqrt(1 + levels.sigma**2) if scale == "variance_preserving" else 1 / (1 + levels.sigma)
    other = Levels(levels.t, alpha, alpha * levels.sigma)
    one = carried("gmm2", X, levels)(prior=denoise.log_prob)
    two = carried("gmm2", alpha[-1] * X, other)(prior=denoise.log_prob)
    np.testing.assert_allclose(two + 2 * np.log(alpha[-1]), one, atol=tolerance(2e-5, 1e-10))
    rising = carried("gmm2", X, levels.map(lambda v: v[::-1]))(prior=denoise.log_prob)
    np.testing.assert_array_equal(rising, one)


def test_up_to_pure_noise_the_gaussian_prior_is_exact():
    """A flow from s = 0.05 to α = 0, where nothing of the data is left."""
    s = np.geomspace(1.0, 0.05, 61)
    levels = Levels(s, 1 - s, s)
    denoise = mixture("gmm2")
    exact = array(denoise.log_prob(0.95 * X, levels.map(lambda v: v[-1])))
    log_density = carried("gmm2", 0.95 * X, levels)
    for data_std in (0.0, 3.0):
        np.testing.assert_allclose(log_density(data_std=data_std), exact, atol=1e-4)


@pytest.mark.slow
def test_hutchinsons_estimate_is_unbiased_and_reproducible():
    """The mean over 256 estimates within 4 standard errors of the exact trace."""
    denoise, levels = mixture("gmm2"), grid({"sigma_max": 10.0, "sigma_min": 0.05}, 20)
    given = {"denoise": denoise, "levels": levels, "method": "heun", "seed": 5}
    copies = np.repeat(X[:1], 256, axis=0)  # every sample has its own probes
    estimates = log_likelihood(x=copies, divergence="hutchinson", **given)
    exact = log_likelihood(x=X[:1], divergence="exact", **given)[0]
    assert estimates.std() > 1e-3
    assert abs(estimates.mean() - exact) < 4 * estimates.std() / 16
    again = log_likelihood(x=copies[:8], divergence="hutchinson", **given)
    np.testing.assert_allclose(again, estimates[:8], atol=1e-5)
    more = log_likelihood(x=copies, divergence="hutchinson", num_probes=4, **given)
    assert more.std() < 0.7 * estimates.std()


def test_probes():
    exact = array(make_probes((3, 2, 2), "auto"))
    assert exact.shape == (4, 1, 2, 2)
    np.testing.assert_array_equal(exact.reshape(4, 4), np.eye(4))
    signs = array(make_probes((5, 65), "auto", num_probes=4, seed=0))
    assert signs.shape == (4, 5, 65)
    np.testing.assert_allclose(np.abs(signs), 0.5)
    assert abs(signs.mean()) < 0.05
    later = array(make_probes((2, 65), "auto", num_probes=4, seed=0, first_index=3))
    np.testing.assert_array_equal(later, signs[:, 3:])


def test_config_round_trip():
    flow = round_trip(ProbabilityFlow("heun"))
    assert flow.name_of_method == "heun" and flow.evaluations_per_step == 2


class Remembering(Denoiser):
    """A denoiser with a memory."""

    def __call__(self, x, level):
        return mixture("gmm2")(x, level)

    def initial_memory(self, x):
        return tensor(np.zeros(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "ddim"},
            "`method` must be the name of a deterministic Runge–Kutta sampler, such as 'rk4'. Received: method='ddim'",
        ),
        ({"method": "edm"}, "deterministic Runge–Kutta sampler, such as 'rk4'. Received: method='edm'"),
        ({"divergence": "none"}, "`divergence` must be 'auto', 'exact' or 'hutchinson'. Received: divergence='none'"),
        ({"num_probes": 0}, "`num_probes` counts probes and must be an integer of at least 1. Received: num_probes=0"),
        (
            {"prior": "flat"},
            r"`prior` must be 'gaussian' or a function \(x, level\) → log-densities. Received: prior='flat'",
        ),
        (
            {"probes": np.ones((6, 2))},
            r"`probes` hold ±1 for every probe: shape \(num_probes, \*x.shape\) = \(…, 6, 2\). Received: shape \(6, "
            r"2\)",
        ),
        (
            {"levels": Levels([1.0, 0.0], [0.5, 1.0], [1.0, 0.0])},
            "it must not be clean. Received: sigma=.* End at a small noise level",
        ),
        ({"denoise": Remembering()}, "a function of x and the level alone. Received: one that remembers"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        log_likelihood(**{"denoise": mixture("gmm2"), "x": X, "levels": exploding_levels([2.0, 1.0]), **options})
