"""DDPM against diffusers: both variances, zero-terminal-SNR, clipping and thresholding, which derive ε again from the
changed x0.
"""

import compiled_sampling
import numpy as np
import pytest
from diffusers_ddim_cases import alphas_of, denoiser_of, levels_of
from golden_data import load, tolerance

from keras_diffusion import samplers

CASES = load("diffusers_ddpm")


def run(case):
    """x after every step; the standard deviation of the noise that diffusers adds to its last x and we do not; that
    noise.

    diffusers leaves the noise away at timestep 0 only. With trailing timesteps the last step starts higher, and its
    noise is added to the sample: 1e-10 with "fixed_small", whose variance 0 is clamped, but all of σ with
    "fixed_large".
    """
    alphas = alphas_of(case)
    kind = case.config["scheduler_config"]["variance_type"]
    sampler = samplers.get("ddpm", variance="fixed_large" if kind == "fixed_large" else "fixed_small")
    denoise, problem = denoiser_of(case, keep_eps=False)
    steps, x = case["timesteps"], case["x"]
    # α = 5e-5 at t = 999 of this schedule: x0 from ε costs float32 its digits there.
    noise = np.zeros((len(steps), 1, *x[0].shape))
    noise[: len(case["noise"]), 0] = case["noise"]
    result = compiled_sampling.sample(sampler, x[0], problem, denoise, levels_of(np.append(alphas[steps], 1.0)), noise)
    last = np.sqrt(1 - alphas[steps[-1]]) if kind == "fixed_large" and steps[-1] > 0 else 0.0
    return result, last, noise[-1, 0]


@pytest.mark.parametrize("name", CASES)
def test_ddpm_agrees_with_diffusers(name):
    case = CASES[name]
    steps, std, z = run(case)
    steps[-1] += std * z
    assert np.max(np.abs(steps - case["x"][1:])) / np.abs(case["x"]).max() < tolerance(
        2e-5, 1e-8 if "squaredcos" in name else 1e-9
    )


def test_our_last_step_is_x0_where_the_reference_adds_noise_to_the_sample():
    """The reference's samples are off by noise of standard deviation 0.089, those here by nothing."""
    case = CASES["ddpm-fixed_large-squaredcos-trailing-n20-gmm2"]
    steps, std, _ = run(case)
    assert 0.02 < std < 0.2
    np.testing.assert_allclose(steps[-1], case["denoised"][-1], atol=tolerance(1e-4, 1e-8))
    assert np.abs(case["x"][-1] - case["denoised"][-1]).std() > 0.3 * std
