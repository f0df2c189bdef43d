"""SA-Solver: whole trajectories against diffusers, and what its noise may be."""

import compiled_sampling
import numpy as np
import pytest
from diffusers_cases import cases, largest_error, lower_order_final, trajectory
from golden_data import tolerance

from keras_diffusion import samplers, schedulers
from keras_diffusion.denoisers import MixtureDenoiser

SA = cases("diffusers_deis_sasolver", "SASolverScheduler")


@pytest.mark.parametrize("name", SA)
def test_sa_solver(name):
    case = SA[name]
    config = case.config["scheduler_config"]
    window = {}
    if "tauwindow" in name:  # timesteps 200 to 800, which are among the levels of the grid
        bar = case.arrays[f"alphas_cumprod/{case.config['alphas_cumprod_key']}"]
        window = {"tau_start": np.sqrt(1 / bar[800] - 1), "tau_end": np.sqrt(1 / bar[200] - 1)}
    sampler = samplers.get(
        "sa_solver",
        predictor_order=config["predictor_order"],
        corrector_order=config["corrector_order"],
        tau=0.0 if "tau0" in name else 1.0,
        predict_x0=config["algorithm_type"] == "data_prediction",
        lower_order_final=lower_order_final(case),
        **window,
    )
    assert largest_error(trajectory(case, sampler), case) < tolerance(1e-5, 1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sa_solver", {"tau": 0.5}),
        ("sa_solver", {"tau": 1.5, "predictor_order": 3, "corrector_order": 4}),
        ("sa_solver", {"tau_start": 5.0, "tau_end": 0.1}),
        ("sa_solver", {"tau": 0.7, "predict_x0": False}),
        ("dpm_2m_sde", {"eta": 0.5}),
    ],
)
def test_any_amount_of_noise_gives_the_same_distribution(name, options):
    """Samples of a Gaussian: mean and standard deviation within 3 standard errors."""
    mean, std, n, steps = 0.4, 0.6, 2000, 256
    schedule = schedulers.get("vp")
    levels = schedule.levels(schedulers.get_spacing("exponential", sigma_min=0.01)(schedule, steps))
    rng = np.random.default_rng(1)
    x = levels.alpha[0] * mean + np.hypot(levels.alpha[0] * std, levels.sigma[0]) * rng.standard_normal((n, 2))
    denoise = MixtureDenoiser([1.0], [[mean, mean]], [std])
    noise = rng.standard_normal((steps, 1, *x.shape))
    x = compiled_sampling.sample(samplers.get(name, **options), x, "gaussian", denoise, levels, noise)[-1].reshape(-1)
    assert abs(x.mean() - mean) < 3 * std / x.size**0.5
    assert abs(x.std() - std) < 3 * std / (2 * x.size) ** 0.5


def test_noise_is_added_within_its_range_only():
    levels = schedulers.get("ve").levels(np.linspace(1, 0, 12))
    table = samplers.get("sa_solver", tau_start=10.0, tau_end=0.5).table(levels)
    ratio = (levels.sigma / levels.alpha)[:-1]
    np.testing.assert_array_equal(table["noise"] > 0, (ratio >= 0.5) & (ratio <= 10.0))
