"""scheduler_config.json: which classes, keys and values are known, and how their models are sampled."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_diffusion import checkpoints, samplers
from keras_diffusion.checkpoints.families.diffusers import read_sampling, read_schedule, write_schedule
from keras_diffusion.checkpoints.families.diffusers.scheduler_classes import CLASSES
from keras_diffusion.guidance import StaticThreshold

GOLDEN = Path(__file__).parents[1] / "golden" / "diffusers"
STATIC, DYNAMIC = {"name": "static_threshold"}, {"name": "dynamic_threshold"}


@pytest.mark.parametrize("name", CLASSES)
def test_the_defaults_of_every_class_make_a_sampler(name):
    for config in ({"_class_name": name}, {"_class_name": name, **CLASSES[name].keys}):
        schedule, _, _ = read_schedule(json.loads(json.dumps(config)), "UNet2DModel")
        sampling = read_sampling(config)
        assert not samplers.get(sampling["sampler"]).ascends and schedule.spacing
        json.dumps(sampling)


@pytest.mark.parametrize(
    ("config", "sampling"),
    [
        ({}, {"sampler": "ddpm", "guidance": {**STATIC, "limit": 1.0}}),
        (
            {"variance_type": "fixed_large", "clip_sample_range": 3.0},
            {"sampler": {"name": "ddpm", "variance": "fixed_large"}, "guidance": {**STATIC, "limit": 3.0}},
        ),
        ({"variance_type": "learned_range", "clip_sample": False}, {"sampler": "ddpm"}),
        ({"_class_name": "DDIMScheduler"}, {"sampler": "ddim", "guidance": {**STATIC, "limit": 1.0, "keep_eps": True}}),
        ({"_class_name": "DDIMScheduler", "clip_sample": False}, {"sampler": "ddim"}),
        (
            {"thresholding": True, "sample_max_value": 2.0, "dynamic_thresholding_ratio": 0.9},
            {"sampler": "ddpm", "guidance": {**DYNAMIC, "quantile": 0.9, "ceiling": 2.0}},
        ),
        (
            {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "clip_sample": False},
            {"sampler": {"name": "pndm", "skip_prk_steps": True}},
        ),
        # Keys of another class: diffusers leaves them out too.
        (
            {
                "_class_name": "EulerDiscreteScheduler",
                "clip_sample": True,
                "skip_prk_steps": True,
                "set_alpha_to_one": False,
            },
            {"sampler": "euler"},
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++", "solver_order": 3},
            {"sampler": {"name": "dpmpp_2m_sde", "order": 3, "solver_type": "midpoint"}},
        ),
        ({"_class_name": "FlaxDDIMScheduler", "clip_sample": False}, {"sampler": "ddim"}),
    ],
    ids=str,
)
def test_how_they_sample(config, sampling):
    assert read_sampling(config) == sampling


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (
            {"_class_name": "SCMScheduler"},
            "_class_name='SCMScheduler'. Known classes: DDIMScheduler, .*put its scheduler_config.json there",
        ),
        ({"_class_name": "ConsistencyDecoderScheduler"}, "_class_name='ConsistencyDecoderScheduler'"),
        ({"_class_name": "MyScheduler"}, "_class_name='MyScheduler'"),
        ({"_class_name": ["DDIMScheduler"]}, "_class_name="),
        ({"_class_name": "CogVideoXDDIMScheduler"}, "_class_name='CogVideoXDDIMScheduler'"),
        ({"_class_name": "DDIMScheduler", "snr_shift_scale": 3.0}, "snr_shift_scale=3.0.*take it out"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type='continuous'"),
        ({"_class_name": "DDIMScheduler", "timestep_type": "continuous"}, "timestep_type='continuous'"),
        (
            {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True, "prediction_type": "flow_prediction"},
            "use_flow_sigmas=True",
        ),
        (
            {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"},
            "prediction_type='flow_prediction'",
        ),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_lu_lambdas": True}, "use_lu_lambdas=True"),
        ({"_class_name": "DDPMScheduler", "use_beta_sigmas": True}, "use_beta_sigmas=True"),
        ({"_class_name": "PNDMScheduler", "rescale_betas_zero_snr": True}, "rescale_betas_zero_snr=True"),
        ({"_class_name": "DDIMScheduler", "sigma_max": 100.0}, "sigma_max=100.0"),
        (
            {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True, "use_beta_sigmas": True},
            "use_karras_sigmas, use_beta_sigmas",
        ),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift_terminal": 0.02}, "shift_terminal=0.02"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}, "invert_sigmas=True"),
        ({"timestep_spacing": "even"}, "timestep_spacing='even'"),
        ({"variance_type": "huge"}, "variance_type='huge'"),
        ({"speed": "fast"}, "speed='fast'"),
        ({"num_train_timesteps": "many"}, "makes no noise schedule"),
        ({"trained_betas": [0.1, 2.0]}, "makes no noise schedule.*betas in"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": -1.0}, "makes no noise schedule.*shift=-1.0"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused(config, match):
    with pytest.raises(checkpoints.CheckpointError, match=f"{match}.*'some/folder'"):
        read_schedule(config, "UNet2DModel", "some/folder")


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 7},
        {"_class_name": "UniPCMultistepScheduler", "solver_order": "x"},
    ],
)
def test_samplers_that_are_not_there(config):
    with pytest.raises(checkpoints.CheckpointError, match="make no sampler here.*'some/folder'"):
        read_sampling(config, "some/folder")


def test_noise_that_is_left_in_the_samples_is_noted():
    for config in (
        {"_class_name": "PNDMScheduler", "set_alpha_to_one": False},
        {"_class_name": "UniPCMultistepScheduler", "final_sigmas_type": "sigma_min"},
    ):
        assert any("last step takes it out" in note for note in read_schedule(config, "UNet2DModel")[2])


def test_thresholds_are_written(tmp_path):
    for config in (
        {"_class_name": "DDIMScheduler"},
        {"_class_name": "DDIMScheduler", "thresholding": True, "sample_max_value": 3.0},
    ):
        schedule, predictor, _ = read_schedule(config, "UNet2DModel")
        written = write_schedule(schedule, predictor, read_sampling(config))
        again = read_sampling(json.loads(json.dumps(written)))
        assert {**again["guidance"], "keep_eps": True} == read_sampling(config)["guidance"]


@pytest.fixture
def folder(tmp_path):
    """A pipeline's folder with a component and a scheduler."""
    shutil.copytree(GOLDEN / "unet2d_class_cond_scale_shift" / "model", tmp_path / "unet")
    (tmp_path / "scheduler").mkdir()
    config = {"_class_name": "DDIMScheduler", "clip_sample_range": 0.5, "prediction_type": "v_prediction"}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.slow
def test_a_folder_is_sampled_as_its_scheduler_does(folder):
    loaded = checkpoints.load(folder, verbose=0)
    assert any("static_threshold" in note and "ddim" in note for note in loaded.report.notes)
    model = loaded.diffusion_model(ema=None)
    options = {"num_samples": 2, "conditions": {"labels": [1, 9]}, "num_steps": 2, "seed": 0, "verbose": 0}
    images = model.generate(**options)
    threshold = functools.partial(StaticThreshold, limit=0.5, keep_eps=True)
    np.testing.assert_array_equal(images, model.generate(**options, sampler="ddim", guidance=threshold))
    assert np.abs(images).max() <= 0.5 < np.abs(model.generate(**options, guidance="none")).max()


def test_unknown_keys_of_a_network_are_refused(folder):
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "_note": 1, "nothing": None}))
    assert checkpoints.load(folder, verbose=0).network.num_classes == 10
    for key, value in (("use_gates", True), ("window", 7), ("gated", False)):
        path.write_text(json.dumps({**config, key: value}))
        with pytest.raises(
            checkpoints.CheckpointError, match=f"config.json of a UNet2DModel .*Received: {key}={value}.*take it out"
        ):
            checkpoints.load(folder, verbose=0)


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "DDPMScheduler", "variance_type": "fixed_large", "timestep_spacing": "trailing"},
        {"_class_name": "DDPMScheduler", "clip_sample": True},
        {"_class_name": "PNDMScheduler", "skip_prk_steps": True},
        {"_class_name": "EulerDiscreteScheduler"},
        {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "leading", "steps_offset": 1},
        {"_class_name": "HeunDiscreteScheduler"},
        {"_class_name": "LMSDiscreteScheduler"},
        {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3, "algorithm_type": "sde-dpmsolver++"},
        {"_class_name": "UniPCMultistepScheduler", "solver_order": 3, "solver_type": "bh1"},
        {"_class_name": "SASolverScheduler", "corrector_order": 0},
    ],
    ids=str,
)
def test_the_class_that_samples_so_is_written(config):
    schedule, predictor, _ = read_schedule(config, "UNet2DModel")
    sampling = read_sampling(config)
    written = json.loads(json.dumps(write_schedule(schedule, predictor, sampling)))
    assert config.items() <= written.items()
    again, _, _ = read_schedule(written, "UNet2DModel")
    assert read_sampling(written) == sampling and again.spacing == schedule.spacing
    np.testing.assert_allclose(again.alphas, schedule.alphas, rtol=1e-9)


def test_samplers_that_diffusers_does_not_have_are_written_as_ddim():
    schedule, predictor, _ = read_schedule({"_class_name": "DDIMScheduler"}, "UNet2DModel")
    written = write_schedule(schedule, predictor, {"sampler": "restart"})
    assert written["_class_name"] == "DDIMScheduler"
