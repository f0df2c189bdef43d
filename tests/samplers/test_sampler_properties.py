"""What every sampler has to do, those to come included: the tests run over the registry."""

import compiled_sampling
import keras
import numpy as np
import pytest
from golden_data import array, mixture, round_trip, tensor

from keras_diffusion import samplers, schedulers
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import counter_normal, seed_words
from keras_diffusion.denoisers import MixtureDenoiser
from keras_diffusion.samplers.grids import check_levels
from keras_diffusion.samplers.sampler import SAMPLERS, Sampler

CONSISTENCY = ("consistency", "lcm", "tcd")  # for consistency models: with an exact denoiser they do not converge
ADAPTIVE = ("dpm_adaptive",)  # whose grid is one row, however many levels it has: see test_adaptive.py
X = np.random.default_rng(0).standard_normal((4, 2))
OPTIONS = {  # other than the defaults, for the round trips
    "eta": 0.7,
    "s_noise": 1.01,
    "s_churn": 3.0,
    "s_tmin": 0.1,
    "s_tmax": 9.0,
    "coordinate": "sigma",
    "variance": "fixed_large",
    "solver_type": "heun",
    "reference_compatible": True,
    "r": 0.4,
    "lower_order_final": False,
    "predict_x0": False,
    "disable_corrector": [1],
    "skip_prk_steps": True,
    "predictor_order": 3,
    "corrector_order": 3,
    "tau": 0.6,
    "tau_start": 20.0,
    "tau_end": 0.2,
    "algorithm": "dpm",
    "sigma_min": 0.01,
    "rtol": 0.01,
    "atol": 0.002,
    "h_init": 0.1,
    "pcoeff": 0.1,
    "icoeff": 0.8,
    "dcoeff": 0.02,
    "accept_safety": 0.7,
    "max_steps": 500,
    "prediction": "v",
    "iterations": 3,
    "sampler": "dpmpp_2m_sde",
    "restarts": [[0.05, 0.25, 2, 2]],
    "jump_length": 12,
    "resamplings": 3,
}
DOWN = [name for name in SAMPLERS.names() if not samplers.get(name).ascends]


def options_of(name):
    if name == "unipc":
        return {**OPTIONS, "solver_type": "bh1"}
    if name in ADAPTIVE:  # one draw for every step that counts, not for every level
        return {**OPTIONS, "eta": 0.0}
    # The SDE is solved in x0: noise and the other algorithm exclude each other.
    return {**OPTIONS, "algorithm": "dpmpp"} if samplers.get(name).get_config().get("algorithm") else OPTIONS


def levels_of(schedule="cosine", steps=6, spacing="linspace", **options):
    schedule = schedulers.get(schedule)
    return schedule.levels(schedulers.get_spacing(spacing)(schedule, steps, **options))


def noise_for(sampler, levels, shape=X.shape, seed=1):
    rows = sampler.step_ends(sampler.check(levels))[-1] + 1
    return np.random.default_rng(seed).standard_normal((rows, max(sampler.noises_per_step, 1), *shape))


def with_other_options(name):
    sampler = samplers.get(name)
    config = sampler.get_config()
    return type(sampler).from_config(
        {**config, **{key: value for key, value in options_of(name).items() if key in config}}
    )


# Shapes, ends, randomness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SAMPLERS.names() if name not in ADAPTIVE])
def test_trajectory_shape_and_last_entry(name):
    sampler, shape = samplers.get(name), (2, 4, 4, 3)
    x, levels = np.random.default_rng(0).standard_normal(shape), levels_of(steps=3)
    noise = noise_for(sampler, levels, shape)
    last, steps = sampler.sample(x, mixture("gmmimg"), levels, noise=noise, trajectory=True)
    assert tuple(steps.shape) == (3, *shape) and tuple(last.shape) == shape
    np.testing.assert_array_equal(array(last), array(steps)[-1])


@pytest.mark.parametrize("name", [name for name in DOWN if name not in ("lms", "ipndm", "pndm")])  # theirs is their own
def test_closing_step_is_the_denoisers_x0(name):
    sampler = samplers.get(name, **({"s_churn": 0.0} if name == "edm" else {}))
    levels = levels_of(steps=4)
    steps = compiled_sampling.sample(sampler, X, "gmm2", mixture("gmm2"), levels, noise_for(sampler, levels))
    expected = mixture("gmm2")(steps[-2], levels.map(lambda v: v[-2])).x0
    np.testing.assert_allclose(steps[-1], array(expected), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", DOWN)
@pytest.mark.parametrize(
    "schedule",
    [schedulers.get("flow"), schedulers.get("cosine"), schedulers.get("linear", timesteps=100, zero_terminal_snr=True)],
    ids=["flow", "cosine", "zero_terminal_snr"],
)
def test_starts_from_pure_noise(name, schedule):
    """α = 0 at the first level: nothing may be divided by it. The samples end up where the data are."""
    sampler = samplers.get(name)
    levels = schedule.levels(schedulers.get_spacing("linspace")(schedule, 20))
    assert levels.alpha[0] == 0
    x = np.random.default_rng(3).standard_normal((16, 2))
    steps = compiled_sampling.sample(
        sampler, x, "gmm2", mixture("gmm2"), levels, noise_for(sampler, levels, x.shape), schedule
    )
    assert np.all(np.isfinite(steps))
    assert np.abs(steps[-1]).max() < 4.0 and 0.3 < steps[-1].std() < 1.6


@pytest.mark.parametrize("name", DOWN)
def test_single_step_is_the_denoisers_x0(name):
    sampler = samplers.get(name, **({"s_churn": 0.0} if name == "edm" else {}))
    levels = levels_of("vp", steps=1)
    x = compiled_sampling.sample(sampler, X, "gmm2", mixture("gmm2"), levels)[-1]
    np.testing.assert_allclose(x, array(mixture("gmm2")(X, levels.map(lambda v: v[0])).x0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DOWN if name not in CONSISTENCY])
def test_a_grid_may_end_before_the_data(name):
    """Levels that stop at σ > 0: the sample is left at the last level."""
    sampler = samplers.get(name)
    levels = levels_of("vp", steps=20, end=0.3)
    x = np.random.default_rng(3).standard_normal((400, 2))
    noise = noise_for(sampler, levels, x.shape)
    steps = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), levels, noise, schedulers.get("vp"))
    assert steps.shape == (1 if name in ADAPTIVE else 20, 400, 2)
    expected = mixture("gmm2").sample(20000, levels.map(lambda v: v[-1])).std(0)
    np.testing.assert_allclose(steps[-1].std(0), expected, rtol=0.15)


@pytest.mark.parametrize("name", ["ddpm", "euler_ancestral", "heun"])
def test_drawn_noise_is_the_counter_noise_of_step_and_draw(name):
    sampler, levels = samplers.get(name, **({"s_churn": 3.0} if name == "heun" else {})), levels_of("vp", steps=4)
    words = seed_words(11)
    noise = np.stack([array(counter_normal(words, step, 0, X.shape))[None] for step in range(4)])
    given = sampler.sample(X, mixture("gmm2"), levels, noise=noise)
    np.testing.assert_allclose(array(sampler.sample(X, mixture("gmm2"), levels, seed=11)), array(given), atol=1e-5)
    assert not np.allclose(array(sampler.sample(X, mixture("gmm2"), levels, seed=12)), array(given), atol=1e-2)


def test_without_a_seed_every_call_draws_anew():
    one, other = (array(samplers.get("ddpm").sample(X, mixture("gmm2"), levels_of(steps=2))) for _ in range(2))
    assert not np.allclose(one, other)


# Twins ----------------------------------------------------------------------------------------------------------------

TWINS = [
    (("ddim", {"eta": 1.0}), ("ddpm", {})),
    (("ddim", {"eta": 1.0}), ("euler_ancestral", {})),
    (("ddim", {"eta": 0.4}), ("euler_ancestral", {"eta": 0.4})),
    (("ddim", {"eta": 1.0}), ("dpmpp_2m_sde", {"order": 1})),
    (("ddim", {}), ("euler", {})),
    (("ddim", {}), ("euler_ancestral", {"eta": 0.0})),
    (("ddim", {}), ("dpmpp_1", {})),
    (("ddim", {}), ("dpmpp_2m_sde", {"order": 1, "eta": 0.0})),
    (("dpmpp_2m", {}), ("dpmpp_2m_sde", {"eta": 0.0})),
    (("dpmpp_2m", {"solver_type": "heun"}), ("dpmpp_2m_sde", {"eta": 0.0, "solver_type": "heun"})),
    (("dpmpp_3m", {}), ("dpmpp_3m_sde", {"eta": 0.0})),
    (("dpmpp_3m", {}), ("dpmpp_2m", {"order": 3})),
    (("ddim", {}), ("dpm_singlestep", {"order": 1})),
    (("ddim", {}), ("dpm_singlestep", {"order": 1, "algorithm": "dpm"})),
    (("ddim", {"eta": 1.0}), ("dpm_singlestep", {"order": 1, "eta": 1.0})),
    (("dpmpp_2s", {}), ("dpm_singlestep", {})),
    (("ddim", {}), ("tcd", {"eta": 0.0})),
    (("lcm", {}), ("consistency", {"sigma_min": 0.0})),
    (("heun", {}), ("edm", {"s_churn": 0.0})),
    (("heun", {"s_churn": 4.0}), ("edm", {"s_churn": 4.0, "s_tmin": 0.0, "s_tmax": float("inf"), "s_noise": 1.0})),
    (("euler", {"coordinate": "sigma"}), ("euler", {"coordinate": "flow"})),
]


@pytest.mark.parametrize(
    ("one", "other"), TWINS, ids=lambda twin: f"{twin[0]}({', '.join(f'{k}={v}' for k, v in twin[1].items())})"
)
@pytest.mark.parametrize("schedule", ["vp", "ve"])
def test_twins_are_equal(one, other, schedule):
    levels = levels_of(schedule, steps=5, spacing="karras")
    noise = np.random.default_rng(2).standard_normal((5, 1, *X.shape))
    x = levels.sigma[0] * X
    results = [
        compiled_sampling.sample(
            samplers.get(name, **options), x, "gmm2", mixture("gmm2"), levels, noise, schedulers.get(schedule)
        )
        for name, options in (one, other)
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5 * np.abs(x).max())


@pytest.mark.parametrize("name", DOWN)
@pytest.mark.parametrize("scale", ["vp", "flow"])
def test_only_the_ratio_of_noise_to_signal_counts(name, scale):
    """Invariance under (α, σ) → (1, σ/α): x/α is the same whatever α is."""
    sampler = samplers.get(name)
    ratio = np.append(10.0 * (0.03 / 10.0) ** np.linspace(0, 1, 12), 0.0)
    t, alpha = np.linspace(1, 0, 13), {"vp": 1 / np.sqrt(1 + ratio**2), "flow": 1 / (1 + ratio)}[scale]
    exploding, other = Levels(t, np.ones(13), ratio), Levels(t, alpha, alpha * ratio)
    noise, x = noise_for(sampler, exploding), ratio[0] * X
    expected = compiled_sampling.sample(sampler, x, "gmm2", mixture("gmm2"), exploding, noise)
    steps = compiled_sampling.sample(sampler, alpha[0] * x, "gmm2", mixture("gmm2"), other, noise)
    factor = (np.array([alpha[-2], 1.0]) if name in ADAPTIVE else alpha[1:])[:, None, None]
    if name == "dpm_fast":  # x is at levels of its own before the end
        steps, factor, expected = steps[-1], factor[-1], expected[-1]
    # An adaptive sampler's step lengths amplify rounding.
    np.testing.assert_allclose(
        steps / factor, expected, atol=(1e-3 if name in ADAPTIVE else 2e-5) * np.abs(expected).max()
    )


def test_ancestral_step_is_the_posterior_of_ddpm():
    """q(x_s | x_t, x0) of Ho et al. 2020, eq. 6 and 7, written with ᾱ and β of a table."""
    schedule = schedulers.get("linear", timesteps=50)
    levels = schedule.levels(schedulers.get_spacing("linspace")(schedule, 50))
    table = samplers.get("ddpm").table(levels)
    bar, beta = schedule.alphas_cumprod[::-1], schedule.betas[::-1]  # from noisy to clean, as the table goes
    previous = np.append(bar[1:], 1.0)
    of_x0 = np.sqrt(previous) * beta / (1 - bar)
    of_x = np.sqrt(1 - beta) * (1 - previous) / (1 - bar)
    # Here x_s = A·x0 + B·ε with ε = (x − α·x0)/σ.
    np.testing.assert_allclose(table["eps"] / np.sqrt(1 - bar), of_x, atol=1e-12)
    np.testing.assert_allclose(table["x0"] - table["eps"] * np.sqrt(bar / (1 - bar)), of_x0, atol=1e-12)


# Statistics -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DOWN if name not in CONSISTENCY])
def test_samples_of_a_gaussian_have_its_mean_and_std(name):
    """Exact denoiser of N(μ, s²), many steps, 4000 numbers: mean and standard deviation within 3 standard errors."""
    mean, std, n, steps = 0.4, 0.6, 2000, 256
    schedule = schedulers.get("vp")
    given = {"edm": {"s_noise": 1.0}, "repaint": {"resamplings": 2}, "dpm_adaptive": {"rtol": 1e-3, "atol": 1e-4}}
    sampler = samplers.get(name, **given.get(name, {}))
    levels = schedule.levels(schedulers.get_spacing("exponential", sigma_min=0.01)(schedule, steps))
    x = np.random.default_rng(1).standard_normal((n, 2))
    # The start exactly as the noisy density has it, so that nothing but the sampler is tested.
    x = levels.alpha[0] * mean + np.hypot(levels.alpha[0] * std, levels.sigma[0]) * x
    denoise = MixtureDenoiser([1.0], [[mean, mean]], [std])
    noise = noise_for(sampler, levels, x.shape, seed=7)
    x = compiled_sampling.sample(sampler, x, "gaussian", denoise, levels, noise, schedule)[-1].reshape(-1)
    assert abs(x.mean() - mean) < 3 * std / x.size**0.5
    assert abs(x.std() - std) < 3 * std / (2 * x.size) ** 0.5


# Configs and programs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_config_round_trip(name):
    sampler = with_other_options(name)
    copy = round_trip(sampler)
    assert type(copy) is type(sampler) and copy.get_config() == sampler.get_config()
    assert (copy.evaluations_per_step, copy.noises_per_step) == (sampler.evaluations_per_step, sampler.noises_per_step)
    levels = levels_of("vp", steps=3)
    noise = noise_for(sampler, levels)
    one, other = (compiled_sampling.sample(s, X, "gmm2", mixture("gmm2"), levels, noise) for s in (sampler, copy))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", DOWN)
def test_call_is_the_loop_over_the_table(name):
    sampler, levels = samplers.get(name), levels_of("vp", steps=4, end=0.2)
    noise = noise_for(sampler, levels)

    plan = keras.tree.map_structure(tensor, sampler.table(levels, schedulers.get("vp")))
    called = sampler(
        tensor(X),
        denoise=mixture("gmm2"),
        plan=plan,
        noise=lambda i, draw: keras.ops.take(tensor(noise), i, axis=0)[draw],
    )
    sampled = compiled_sampling.sample(sampler, X, "gmm2", mixture("gmm2"), levels, noise, schedulers.get("vp"))
    # TensorFlow computes a sum in another order where it runs eagerly; a large step in ε magnifies that, and changes
    # later trials.
    np.testing.assert_allclose(
        array(called), sampled[-1], atol=(2e-3 if name in ADAPTIVE else 5e-5) * max(1.0, np.abs(sampled).max())
    )


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_options_of_the_table_do_not_change_the_program(name):
    sampler = samplers.get(name)
    for option in sampler.table_options:
        config = sampler.get_config()
        if option not in config or (option in ("s_churn", "eta") and not sampler.noises_per_step):
            continue  # no noise is drawn without it: that is another program
        other = type(sampler).from_config({**config, option: options_of(name)[option]})
        assert other.structure() == sampler.structure(), option
        one, two = (s.table(levels_of("vp")) for s in (sampler, other))

        shapes = [keras.tree.map_structure(np.shape, table) for table in (one, two)]
        assert shapes[0] == shapes[1], option


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_changing_levels_options_and_number_of_steps_does_not_trace_again(name):

    sampler = samplers.get(name)
    compiled_sampling.PROGRAMS.clear()
    for steps, schedule, options in (
        (5, "vp", {}),
        (9, "cosine", {}),
        (7, "vp", {"s_noise": 1.1}),
        (7, "flow", {"s_noise": 0.9}),
    ):
        options = {key: value for key, value in options.items() if key in sampler.get_config()}
        other = samplers.get(name, **options)
        compiled_sampling.sample(
            other, X, "gmm2", mixture("gmm2"), levels_of(schedule, steps), None, schedulers.get(schedule)
        )
    (loop, close), *more = compiled_sampling.PROGRAMS.values()
    assert not more
    if keras.backend.backend() != "torch":
        assert loop.traces == 1 and close.traces <= 1


# Churn and tables -----------------------------------------------------------------------------------------------------


def test_churn_raises_the_noise_within_its_range_only():
    levels = levels_of("ve", steps=12, spacing="karras")
    table = samplers.get("heun", s_churn=3.0, s_tmin=0.1, s_tmax=10.0, s_noise=1.5).table(levels, schedulers.get("ve"))
    sigma, raised = levels.sigma[:-1], table["stages"][0].sigma
    inside = (sigma >= 0.1) & (sigma <= 10)
    assert 0 < inside.sum() < 12
    np.testing.assert_allclose(raised, np.where(inside, sigma * 1.25, sigma))
    np.testing.assert_allclose(table["added"], np.where(inside, 1.5 * sigma * (1.25**2 - 1) ** 0.5, 0))
    strong = samplers.get("euler", s_churn=1e9).table(levels, schedulers.get("ve"))
    np.testing.assert_allclose(strong["stages"][0].sigma, sigma * 2**0.5)


def test_tables_are_float64_and_end_with_the_last_step():
    for name in SAMPLERS.names():
        sampler, levels = samplers.get(name), levels_of("vp", steps=5)
        rows = sampler.step_ends(sampler.check(levels))[-1] + 1
        assert rows == 5 or name in (*ADAPTIVE, "pndm", "repaint", "restart")
        for column in keras.tree.flatten(sampler.table(levels, schedulers.get("vp"))):
            assert column.dtype == np.float64 and column.shape[0] == rows, name


def test_stages_between_levels_lie_on_the_schedule():
    schedule = schedulers.get("cosine", shift=2.0)
    levels = schedule.levels(np.linspace(0.9, 0.1, 5))
    for given in (schedule, None):  # without it the curve is recognized: α² + σ² = 1
        middle = samplers.get("rk4").table(levels, given)["stages"][1]
        ratio = levels.sigma / levels.alpha
        np.testing.assert_allclose(middle.sigma / middle.alpha, 0.5 * (ratio[:-1] + ratio[1:]), rtol=1e-9)
        np.testing.assert_allclose(middle.alpha**2 + middle.sigma**2, 1, rtol=1e-9)
    exact = schedule.levels(samplers.get("rk4").table(levels, schedule)["stages"][1].t)
    middle = samplers.get("rk4").table(levels, schedule)["stages"][1]
    np.testing.assert_allclose(exact.sigma, middle.sigma, rtol=1e-9)


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m_sde", "edm"])
@pytest.mark.parametrize("shape", [(4,), (), (2, 1, 4, 2), (6, 1, 4, 2), (4, 0, 4, 2), (4, 1, 4, 3), (4, 4, 2)])
def test_noise_of_the_wrong_shape(name, shape):
    message = (
        r"its shape must be \(steps, noises_per_step, \*x.shape\) = \(4, 1, 4, 2\). Received: noise of shape "
        r".*Pass None"
    )
    with pytest.raises(ValueError, match=message):
        samplers.get(name).sample(X, mixture("gmm2"), levels_of("vp", steps=4), noise=np.zeros(shape))


def test_noise_of_the_closing_step_may_be_left_out_but_no_other():
    noise = np.random.default_rng(0).standard_normal((4, 1, *X.shape))
    full = samplers.get("ddpm").sample(X, mixture("gmm2"), levels_of("vp", steps=4), noise=noise)
    short = samplers.get("ddpm").sample(X, mixture("gmm2"), levels_of("vp", steps=4), noise=noise[:3])
    np.testing.assert_array_equal(array(full), array(short))
    one = samplers.get("ddpm").sample(X, mixture("gmm2"), levels_of("vp", steps=1), noise=noise[:0])
    assert np.all(np.isfinite(array(one)))
    with pytest.raises(ValueError, match="`noise` holds the normals of every step and draw"):
        samplers.get("ddpm").sample(X, mixture("gmm2"), levels_of("vp", steps=4, end=0.2), noise=noise[:3])


@pytest.mark.parametrize(
    ("t", "alpha", "sigma", "rule"),
    [
        ([1.0], [0.1], [1.0], "t, alpha and sigma must be vectors of one length n \\+ 1"),
        ([1.0, 0.0], [0.1, 1.0], [1.0, 0.5, 0.0], "t, alpha and sigma must be vectors of one length n \\+ 1"),
        ([[1.0], [0.0]], [[0.1], [1.0]], [[1.0], [0.0]], "t, alpha and sigma must be vectors of one length n \\+ 1"),
        ([1.0, 0.0], [np.nan, 1.0], [1.0, 0.0], "alpha and sigma must be finite and not negative"),
        ([1.0, 0.0], [1.0, 1.0], [np.inf, 0.0], "alpha and sigma must be finite and not negative"),
        ([1.0, 0.0], [-0.1, 1.0], [1.0, 0.0], "alpha and sigma must be finite and not negative"),
        ([0.0, 1.0], [1.0, 1.0], [0.0, 1.0], "the noise must fall strictly from each level to the next"),
        ([1.0, 0.5, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0], "the noise must fall strictly from each level to the next"),
        ([1.0, 0.5, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0], "only the last level may be clean"),
    ],
)
def test_levels_that_cannot_be_walked_down(t, alpha, sigma, rule):
    with pytest.raises(ValueError, match=f"A sampler walks down a grid of levels: .*{rule}.*Received: alpha="):
        check_levels(Levels(t, alpha, sigma))
    with pytest.raises(ValueError, match="A sampler walks down a grid of levels"):
        samplers.get("ddim").sample(X, mixture("gmm2"), Levels(t, alpha, sigma))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "ddim",
            {"eta": -0.1},
            r"`eta` is the share of fresh noise in a step and must lie in \[0, 1\]. Received: eta=-0.1",
        ),
        ("dpmpp_2m_sde", {"eta": -0.1}, "`eta` is a share of fresh noise and must not be negative. Received: eta=-0.1"),
        (
            "ddpm",
            {"variance": "learned"},
            "`variance` must be 'fixed_small' or 'fixed_large'. Received: variance='learned'",
        ),
        ("dpmpp_2m", {"order": 4}, "`order` must be 1, 2 or 3. Received: order=4"),
        ("dpmpp_2m", {"solver_type": "bh2"}, "`solver_type` must be 'midpoint' or 'heun'. Received: solver_type='bh2'"),
        ("heun", {"s_churn": -1.0}, "Churn needs s_churn >= 0 and 0 <= s_tmin <= s_tmax. Received: s_churn=-1.0"),
        (
            "heun",
            {"s_tmin": 2.0, "s_tmax": 1.0},
            "Churn needs s_churn >= 0 and 0 <= s_tmin <= s_tmax. .*s_tmin=2.0, s_tmax=1.0",
        ),
        ("euler", {"coordinate": "t"}, "`coordinate` must be 'auto', 'sigma' or 'flow'. Received: coordinate='t'"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        samplers.get(name, **options)


@pytest.mark.parametrize("name", ["ddim", "euler_ancestral"])
def test_more_fresh_noise_than_a_level_holds(name):
    with pytest.raises(
        ValueError, match=r"`eta` is the share of fresh noise in a step and must lie in \[0, 1\]. Received: eta=3.0"
    ):
        samplers.get(name, eta=3.0)


def test_sigma_coordinate_at_pure_noise():
    with pytest.raises(
        ValueError,
        match=r"The coordinate 'sigma' is x/α, and at the first level α = 0. Take coordinate='flow' or 'auto'",
    ):
        samplers.get("heun", coordinate="sigma").plan(levels_of("flow"))


def test_unknown_curve_needs_its_schedule():
    schedule = schedulers.get("vp")
    levels = schedule.levels(np.linspace(0.9, 0.0, 5))
    odd = Levels(levels.t, 3 * levels.alpha, 3 * levels.sigma)
    with pytest.raises(
        ValueError, match=r"neither α = 1, α² \+ σ² = 1 nor α \+ σ = 1. Pass the schedule .*, schedule=schedule\)"
    ):
        samplers.get("rk4").plan(odd)
    samplers.get("heun").plan(odd)  # evaluates at the grid's own levels only


def test_base_class_names_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"Sampler must implement plan\(levels, schedule\)"):
        Sampler().plan(levels_of())
    with pytest.raises(NotImplementedError, match=r"Sampler must implement step\(denoise, x, row, state, noise\)"):
        Sampler().step(None, None, None, None, None)
