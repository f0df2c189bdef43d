"""Which times a sampler visits."""

import numpy as np
import pytest
from golden_data import load, relative_error, round_trip

from keras_diffusion import schedulers
from keras_diffusion.schedulers.sigma_spacing import RatioSpacing
from keras_diffusion.schedulers.time_spacing import SPACINGS, check_steps

KDIFF = load("kdiff_schedules")
NAMES = {"karras": "karras", "exponential": "exponential", "polyexponential": "polyexponential"}
GRIDS = [
    case for case in KDIFF.values() if case.name.startswith("sigmas-") and case.config["schedule"]["type"] in NAMES
]


def ratios(schedule, t):
    levels = schedule.levels(t)
    return levels.sigma / levels.alpha


@pytest.mark.parametrize("case", GRIDS, ids=lambda case: case.name)
def test_ratio_spacings_agree_with_k_diffusion(case):
    grid = case.config["schedule"]
    schedule = schedulers.get("ve", sigma_min=grid["sigma_min"], sigma_max=grid["sigma_max"])
    spacing = schedulers.get_spacing(NAMES[grid["type"]], **({"rho": grid["rho"]} if "rho" in grid else {}))
    # k-diffusion's n levels end at sigma_min and are followed by 0; here the n − 1 steps between them are spaced.
    assert relative_error(ratios(schedule, spacing(schedule, grid["n"] - 1)), case["sigmas"][:-1]) < 1e-10


def test_karras_spacing_agrees_with_its_formula():
    schedule = schedulers.get("ve")
    golden = load("schedules")["karras_n18_0.002_80_rho7"]
    t = schedulers.get_spacing("karras")(schedule, 17)
    assert relative_error(ratios(schedule, t), golden["sigma"]) < 1e-10


@pytest.mark.parametrize("steps", [10, 50])
def test_vp_grid_of_k_diffusion_is_even_time_down_to_eps(steps):
    golden = KDIFF[f"sigmas-vp{steps}-beta_d19.9-beta_min0.1-eps_s0.001"]["sigmas"][:-1]
    schedule = schedulers.get("vp")
    t = schedulers.get_spacing("linspace")(schedule, steps - 1, end=1e-3)
    assert relative_error(ratios(schedule, t), golden) < 1e-10


@pytest.mark.parametrize(
    "schedule", ["cosine", "linear", "flow", "ve", "vp", "cosine_beta", "laplace", "cosine_general"]
)
@pytest.mark.parametrize("spacing", SPACINGS.names())
def test_all_spacings_on_all_kinds_of_schedules(spacing, schedule):
    schedule = schedulers.get(schedule)
    for steps in (1, 2, 7, 100):
        for start, end in ((1.0, 0.0), (0.6, 0.0), (0.8, 0.2)):
            t = schedulers.get_spacing(spacing)(schedule, steps, start=start, end=end)
            assert t.shape == (steps + 1,) and t.dtype == np.float64
            assert np.all(np.diff(t) < 0)
            assert t[-1] == end and t[0] <= start


@pytest.mark.parametrize("spacing", ["linspace", "trailing", "leading"])
def test_spacings_in_t_visit_whole_timesteps(spacing):
    schedule = schedulers.get("linear")
    for steps in (1, 7, 30, 999, 1000):
        index = schedule.timestep(schedulers.get_spacing(spacing)(schedule, steps)[:-1])
        np.testing.assert_allclose(index, np.round(index), atol=1e-9)
        if spacing != "leading":
            assert index[0] == 999


def timesteps(spacing, steps, **options):
    schedule = schedulers.get("linear")
    return schedule.timestep(schedulers.get_spacing(spacing, **options)(schedule, steps))[:-1]


def test_spacings_of_five_steps_are_those_of_diffusers():
    """np.linspace(0, 999, 5), np.arange(5)·200 and np.arange(1000, 0, −200) − 1, rounded and reversed: diffusers'
    `timestep_spacing`.
    """
    np.testing.assert_allclose(timesteps("linspace", 5), np.round(np.linspace(0, 999, 5))[::-1], atol=1e-9)
    np.testing.assert_allclose(timesteps("leading", 5), np.arange(5)[::-1] * 200, atol=1e-9)
    np.testing.assert_allclose(timesteps("leading", 5, offset=1), np.arange(5)[::-1] * 200 + 1, atol=1e-9)
    np.testing.assert_allclose(timesteps("trailing", 5), np.arange(1000, 0, -200) - 1, atol=1e-9)


def test_quadratic_by_formula():
    t = schedulers.get_spacing("quadratic")(schedulers.get("cosine"), 4, start=0.9, end=0.1)
    np.testing.assert_allclose(t, 0.1 + 0.8 * np.array([1, 0.5625, 0.25, 0.0625, 0]))


def test_exponential_is_even_in_log_snr():
    schedule = schedulers.get("vp")
    t = schedulers.get_spacing("log_snr")(schedule, 10, start=0.9, end=0.1)
    np.testing.assert_allclose(np.diff(schedule.log_snr(t)), np.full(10, np.diff(schedule.log_snr([0.9, 0.1]))[0] / 10))


def test_polyexponential_with_rho_one_is_exponential():
    schedule = schedulers.get("cosine")
    one, other = (schedulers.get_spacing(name)(schedule, 9) for name in ("polyexponential", "exponential"))
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize(
    ("table", "first", "last"), [("sd15", 14.615, 0.152), ("sdxl", 14.615, 0.113), ("deepfloyd", 160.41, 0.03)]
)
def test_ten_aligned_steps_are_the_table_and_more_are_between(table, first, last):
    """Ten steps evaluate at the table's first ten entries; its eleventh is where the tenth step would end on an
    infinite grid.
    """
    schedule = schedulers.get("ve", sigma_min=0.001, sigma_max=200.0)
    spacing = schedulers.get_spacing("ays", table=table)
    nodes = ratios(schedule, spacing(schedule, 10))
    np.testing.assert_allclose([nodes[0], nodes[9]], [first, last], rtol=1e-9)
    twenty = ratios(schedule, spacing(schedule, 20))
    np.testing.assert_allclose(twenty[:19:2], nodes[:10], rtol=1e-9)
    np.testing.assert_allclose(twenty[1:18:2] ** 2, nodes[:9] * nodes[1:10], rtol=1e-9)


def test_an_aligned_table_on_the_schedule_it_was_made_for():
    """Stable Diffusion's noisiest timestep has σ/α = 14.615, and the paper's steps are near timesteps 999, 850, 736, …,
    24.
    """
    schedule = schedulers.get("scaled_linear")
    index = schedule.timestep(schedulers.get_spacing("ays")(schedule, 10))
    assert index[0] == 999
    np.testing.assert_allclose(index[:-1], [999, 850, 736, 645, 545, 455, 343, 233, 124, 24], atol=1.5)


def test_a_table_of_ones_own():
    schedule = schedulers.get("ve", sigma_min=0.001, sigma_max=200.0)
    np.testing.assert_allclose(
        ratios(schedule, schedulers.get_spacing("ays", table=[8.0, 2.0, 1.0])(schedule, 2)), [8, 2, 0.001], rtol=1e-9
    )
    with pytest.raises(
        ValueError,
        match="`table` is one of sd15, sdxl, deepfloyd, svd, or at least two falling, positive .*Received: table='sd3'",
    ):
        schedulers.get_spacing("ays", table="sd3")
    with pytest.raises(ValueError, match=r"falling, positive values of σ/α. Received: table=\[1.0, 2.0\]"):
        schedulers.get_spacing("ays", table=[1.0, 2.0])


def test_kl_optimal_is_even_in_the_angle():
    schedule = schedulers.get("ve")
    angles = np.arctan(ratios(schedule, schedulers.get_spacing("kl_optimal")(schedule, 8)))
    np.testing.assert_allclose(np.diff(angles), np.diff(angles)[0], rtol=1e-7)


def test_beta_spacing_has_the_quantiles_of_its_distribution():
    """Beta(1, 1) is uniform; Beta(2, 1) has F(x) = x², so F⁻¹(u) = √u."""
    schedule = schedulers.get("ve", sigma_min=1.0, sigma_max=5.0)
    even = ratios(schedule, schedulers.get_spacing("beta", a=1.0, b=1.0)(schedule, 4))
    np.testing.assert_allclose(even, [5, 4, 3, 2, 1], rtol=1e-9)
    root = ratios(schedule, schedulers.get_spacing("beta", a=2.0, b=1.0)(schedule, 4))
    np.testing.assert_allclose(root, 1 + 4 * np.sqrt([1, 0.75, 0.5, 0.25, 0]), rtol=1e-9)
    with pytest.raises(ValueError, match="parameters of a beta distribution are positive. Received: a=0, b=0.6"):
        schedulers.get_spacing("beta", a=0)


def test_spacing_in_the_coordinate_of_flow_matching_begins_at_pure_noise():
    schedule = schedulers.get("flow")
    levels = schedule.levels(schedulers.get_spacing("exponential", coordinate="flow", sigma_min=0.01)(schedule, 3))
    np.testing.assert_allclose(levels.sigma, [1, 0.1, 0.01, 0], atol=1e-12)
    with pytest.raises(ValueError, match="`coordinate` must be 'sigma' or 'flow'. Received: coordinate='t'"):
        schedulers.get_spacing("karras", coordinate="t")


def test_shift_of_a_resolution():
    golden = load("schedules")["flow_mu_of_seq_len"]
    shifts = np.array([schedulers.flow_shift(n) for n in golden["seq_len"]])
    np.testing.assert_allclose(np.log(shifts), golden["mu"], rtol=1e-12)
    np.testing.assert_allclose(
        [schedulers.flow_shift(n, kind="linear") for n in golden["seq_len"]], golden["mu"], rtol=1e-12
    )
    with pytest.raises(
        ValueError, match="`tokens` counts positions and `kind` is 'exponential' or 'linear'. Received: tokens=0"
    ):
        schedulers.flow_shift(0)


@pytest.mark.parametrize("spacing", ["karras", "exponential", "polyexponential"])
def test_infinite_ends_are_replaced_by_finite_ones_and_the_clean_step_is_last(spacing):
    schedule = schedulers.get("flow")
    t = schedulers.get_spacing(spacing)(schedule, 6)
    assert t[-1] == 0
    np.testing.assert_allclose(ratios(schedule, t)[[0, -2]], [80, 0.002], rtol=1e-9)
    t = schedulers.get_spacing(spacing, sigma_min=0.1, sigma_max=5.0)(schedule, 6)
    np.testing.assert_allclose(ratios(schedule, t)[[0, -2]], [5, 0.1], rtol=1e-9)


@pytest.mark.parametrize("spacing", ["karras", "exponential", "polyexponential"])
def test_ratio_spacings_begin_at_the_start_even_below_their_largest_ratio(spacing):
    for options in ({}, {"sigma_max": 80.0}):
        t = schedulers.get_spacing(spacing, **options)(schedulers.get("cosine"), 5, start=0.4)
        assert t[0] == 0.4


@pytest.mark.parametrize("name", SPACINGS.names())
def test_config_round_trip(name):
    options = {
        "karras": {"rho": 3.0, "sigma_min": 0.1},
        "polyexponential": {"rho": 2.0},
        "leading": {"offset": 1},
        "beta": {"a": 0.7, "coordinate": "flow"},
        "align_your_steps": {"table": [9.0, 3.0, 0.5]},
    }.get(name, {})
    spacing = schedulers.get_spacing(name, **options)
    copy = round_trip(spacing)
    assert type(copy) is type(spacing)
    schedule = schedulers.get("cosine")
    np.testing.assert_array_equal(copy(schedule, 7), spacing(schedule, 7))


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "3", None])
def test_number_of_steps(steps):
    with pytest.raises(
        ValueError, match="takes at least one step: `num_steps` must be an integer ≥ 1. Received: num_steps="
    ):
        check_steps(steps)
    with pytest.raises(ValueError, match="`num_steps` must be an integer ≥ 1"):
        schedulers.get_spacing("linspace")(schedulers.get("cosine"), steps)


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.2, 0.4), (1.1, 0.0), (1.0, -0.1)])
def test_times_out_of_order(start, end):
    with pytest.raises(ValueError, match=r"walks from `start` down to `end`, both in \[0, 1\]. Received: start="):
        schedulers.get_spacing("linspace")(schedulers.get("cosine"), 5, start, end)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_more_steps_than_timesteps(spacing):
    message = (
        r"60 steps do not fit between t = 1 and t = 0: times would repeat. The schedule has 50 timesteps, 50 of "
        r"them in this range. Take"
    )
    with pytest.raises(ValueError, match=message):
        schedulers.get_spacing(spacing)(schedulers.get("linear", timesteps=50), 60)


@pytest.mark.parametrize(
    "options", [{"sigma_min": 0.0}, {"sigma_min": 2.0, "sigma_max": 1.0}, {"sigma_max": 0.0}, {"sigma_max": -1.0}]
)
def test_ratios_out_of_order(options):
    with pytest.raises(ValueError, match=r"σ/α must satisfy 0 < sigma_min < sigma_max. Received: sigma_min="):
        schedulers.get_spacing("karras", **options)


def test_ratios_that_leave_no_room():
    with pytest.raises(
        ValueError,
        match=r"The noise of a sampler must fall, but the spacing would go from σ/α = .* to 0.5. Received: start=0.1",
    ):
        schedulers.get_spacing("karras", sigma_min=0.5)(schedulers.get("cosine"), 5, start=0.1)


@pytest.mark.parametrize(("name", "word"), [("karras", "root"), ("polyexponential", "power")])
def test_rho_must_be_positive(name, word):
    with pytest.raises(ValueError, match=f"`rho` is a {word} and must be positive. Received: rho=0"):
        schedulers.get_spacing(name, rho=0)


def test_base_classes_name_what_is_missing():
    schedule = schedulers.get("cosine")
    with pytest.raises(NotImplementedError, match=r"Spacing must implement times\(schedule, num_steps, start, end\)"):
        schedulers.Spacing()(schedule, 3)
    with pytest.raises(NotImplementedError, match=r"RatioSpacing must implement ratios\(high, low, count\)"):
        RatioSpacing()(schedule, 3)
