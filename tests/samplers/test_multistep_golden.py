"""Whole trajectories of the multistep solvers against diffusers.

At its own levels, which are variance preserving, exploding, or a flow.
"""

import numpy as np
import pytest
from diffusers_cases import cases, largest_error, lower_order_final, trajectory
from golden_data import tolerance

from keras_diffusion import samplers

DPM = {**cases("diffusers_dpmsolver_multistep"), **cases("diffusers_edm", "EDMDPMSolverMultistepScheduler")}
UNIPC = cases("diffusers_unipc")
DEIS = cases("diffusers_deis_sasolver", "DEISMultistepScheduler")
LMS = cases("diffusers_pndm_ipndm_lms", "LMSDiscreteScheduler")
SDE3 = "sde-dpmpp-o3-linear-n20-gmm2"


def dpm_solver(case, **options):
    config, steps = case.config["scheduler_config"], case.config["num_inference_steps"]
    family = {
        "dpmsolver++": "dpmpp_2m",
        "sde-dpmsolver++": "dpmpp_2m_sde",
        "dpmsolver": "dpm_solver",
        "sde-dpmsolver": "dpm_2m_sde",
    }
    lower = (config["lower_order_final"] and steps < 15) or config["euler_at_final"]
    given = {"order": config["solver_order"], "solver_type": config["solver_type"], "lower_order_final": lower}
    return samplers.get(family[config["algorithm_type"]], **{**given, "reference_compatible": True, **options})


@pytest.mark.parametrize("name", [name for name in DPM if name != SDE3])
def test_dpm_solver(name):
    case = DPM[name]
    assert largest_error(trajectory(case, dpm_solver(case)), case) < tolerance(1e-5, 1e-9)


class OtherSign(samplers.DPMppSDESampler):
    """Third order with diffusers' constant, −½ instead of ½ in φ₃ = ½ − φ₂/z."""

    def past_weights(self, z, h, i):
        weights = super().past_weights(z, h, i)
        if 2 <= i < len(h) - 1:
            recent, older = h[i - 1] / h[i], h[i - 2] / h[i]
            weights = weights - np.array([-1 / recent - 1 / older, 1 / older]) / (recent + older)
        return weights


def test_third_order_on_the_sde_departs_from_diffusers():
    """Its D₂ has the wrong sign; k-diffusion's, which `test_sampler_golden` holds the same sampler to, has the right
    one.
    """
    case = DPM[SDE3]
    options = {"order": 3, "solver_type": "midpoint", "reference_compatible": True}
    assert largest_error(trajectory(case, OtherSign(**options)), case) < tolerance(1e-5, 1e-9)
    assert largest_error(trajectory(case, dpm_solver(case)), case) == pytest.approx(0.394, abs=0.001)


@pytest.mark.parametrize("name", [name for name in DPM if "o3" in name and name != SDE3])
def test_the_taylor_coefficient_makes_a_difference(name):
    case = DPM[name]
    x = trajectory(case, dpm_solver(case, reference_compatible=False))[-1]
    assert np.abs(x - case["x"][-1]).max() > 1e-3


@pytest.mark.parametrize("name", UNIPC)
def test_unipc(name):
    case = UNIPC[name]
    config = case.config["scheduler_config"]
    names = ("solver_type", "lower_order_final", "predict_x0", "disable_corrector")
    sampler = samplers.get("unipc", order=config["solver_order"], **{key: config[key] for key in names})
    assert largest_error(trajectory(case, sampler), case) < tolerance(1e-5, 1e-9)


@pytest.mark.parametrize("name", DEIS)
def test_deis(name):
    case = DEIS[name]
    sampler = samplers.get(
        "deis", order=case.config["scheduler_config"]["solver_order"], lower_order_final=lower_order_final(case)
    )
    assert largest_error(trajectory(case, sampler), case) < tolerance(1e-5, 1e-9)


@pytest.mark.parametrize("name", LMS)
def test_lms(name):
    case = LMS[name]
    sampler = samplers.get("lms", order=case.config["step_kwargs"].get("order", 4))
    assert largest_error(trajectory(case, sampler), case) < tolerance(1e-5, 1e-9)
