"""U-Nets of diffusers and OpenAI with more channels in than out: the rest is the condition "concat"."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion import checkpoints
from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.runtime.compile import Compiled, as_tensors

GOLDEN = Path(__file__).parent.parent / "golden" / "diffusers"
CASES = {"unet2d_condition_inpainting": (4, 5), "unet2d_super_resolution": (3, 3)}


def numbers(case):
    """(inputs of the network here, output), channels last."""
    arrays, channels = np.load(GOLDEN / case / "io.npz"), CASES[case][0]
    sample = np.moveaxis(arrays["in/sample"], 1, -1)
    inputs = {
        "x": sample[..., :channels],
        "concat": sample[..., channels:],
        "noise_level": arrays["in/timestep"].astype("float32"),
    }
    if "in/encoder_hidden_states" in arrays.files:
        inputs["context"] = arrays["in/encoder_hidden_states"]
    return inputs, np.moveaxis(arrays["out"], 1, -1)


@pytest.fixture(scope="module", params=list(CASES))
def loaded(request):
    return request.param, checkpoints.load(GOLDEN / request.param / "model", verbose=0)


@pytest.fixture(scope="module")
def inpainting():
    return checkpoints.load(GOLDEN / "unet2d_condition_inpainting" / "model", verbose=0)


def test_same_numbers_as_diffusers(loaded):
    case, loaded = loaded
    inputs, expected = numbers(case)
    output = ops.convert_to_numpy(Compiled(loaded.network)(as_tensors(inputs)))
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert (loaded.network.sample_shape[-1], loaded.network.concat_channels) == CASES[case]
    assert not loaded.report.missing and not loaded.report.unused
    assert any("known beside the sample" in note for note in loaded.report.notes)


def test_shapes_tell_the_known_channels_where_there_is_no_config(inpainting):
    found = checkpoints.inspect(
        GOLDEN / "unet2d_condition_inpainting" / "model" / "diffusion_pytorch_model.safetensors"
    ).config
    assert (found["in_channels"], found["out_channels"]) == (9, 4)


def test_goes_back_with_all_its_channels(loaded, tmp_path):
    case, loaded = loaded
    checkpoints.export(loaded, tmp_path / "loaded")
    checkpoints.export(loaded.network, tmp_path / "network")
    told = json.loads((GOLDEN / case / "model" / "config.json").read_text())
    for name in ("loaded", "network"):
        written = json.loads((tmp_path / name / "config.json").read_text())
        assert [written[key] for key in ("in_channels", "out_channels")] == [
            told[key] for key in ("in_channels", "out_channels")
        ]
    again = checkpoints.load(tmp_path / "network", verbose=0).network
    assert again.concat_channels == loaded.network.concat_channels
    for a, b in zip(loaded.network.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


def test_what_diffusers_cannot_tell_is_not_written(tmp_path):
    network = kd.networks.UNet2D(
        (8, 8, 3), widths=(8, 8), num_res_blocks=1, head_dim=4, concat_channels=3, out_channels=6
    )
    with pytest.raises(ValueError, match="3 channels, 3 known ones and 6 in its output"):
        checkpoints.export(network, tmp_path / "sr")
    assert not (tmp_path / "sr").exists()


def test_a_pipeline_is_of_the_class_that_sees_them(inpainting, tmp_path):
    model = inpainting.diffusion_model(ema=None)
    assert model.concat_dropout == 0.0  # masks are always there
    checkpoints.export(model, tmp_path / "inpainting")
    index = json.loads((tmp_path / "inpainting" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"
    again = checkpoints.load(tmp_path / "inpainting", verbose=0)
    assert again.network.concat_channels == 5 and again.diffusion_model().concat_dropout == 0.0
    depth = kd.networks.UNet2DCondition(widths=(8, 8), num_res_blocks=1, num_heads=2, context_dim=8, concat_channels=1)
    predictor = kd.predictors.get("epsilon", condition="timestep")
    with pytest.raises(ValueError, match="4 channels and 1 known ones. Export the network alone"):
        checkpoints.export(kd.DiffusionModel(depth, "scaled_linear", predictor, ema=None), tmp_path / "depth")


@pytest.mark.slow
def test_generates_and_round_trips(inpainting, tmp_path):
    model = inpainting.diffusion_model(ema=None)
    rng = np.random.default_rng(0)
    conditions = {"concat": rng.uniform(-1, 1, (2, 8, 12, 5)).astype("float32")}
    conditions["context"] = rng.standard_normal((2, 5, 8)).astype("float32")
    options = {"conditions": conditions, "num_steps": 3, "sampler": "ddim", "seed": 0, "guidance_scale": 2.0}
    samples = model.generate(**options)
    assert samples.shape == (2, 8, 12, 4) and np.isfinite(samples).all()
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    again = kd.DiffusionModel.from_preset(tmp_path / "preset")
    np.testing.assert_allclose(again.generate(**options), samples, atol=1e-6)
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(again.generate(**options), samples, atol=1e-6)


@pytest.mark.slow
def test_adapters_of_plain_networks_fit(inpainting, tmp_path):
    network = type(inpainting.network).from_config(inpainting.network.get_config())
    plain = kd.networks.UNet2DCondition.from_config({**network.get_config(), "concat_channels": 0})
    plain.enable_lora(2)
    checkpoints.save_lora(plain, tmp_path / "style.safetensors")
    checkpoints.load_lora(network, tmp_path / "style.safetensors")
    assert set(network.adapters) == set(plain.adapters)


def test_upsamplers_of_openai(tmp_path):
    torch = pytest.importorskip("torch")
    from test_openai_family import OLD, make_state, reference

    state = make_state(**{**OLD[0], "inputs": 6, "out": 6})
    torch.save(state, tmp_path / "upsampler.pt")
    told = {"num_heads": 4, "large_size": 8, "small_size": 4}
    loaded = checkpoints.load(tmp_path / "upsampler.pt", config=told, verbose=0)
    assert loaded.network.sample_shape == (8, 8, 3) and loaded.network.concat_channels == 3
    assert loaded.options["concat_dropout"] == 0.0 and any(
        "enlarged bilinearly" in note for note in loaded.report.notes
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 8, 6)).astype("float32")
    steps = np.array([3.0, 800.0], "float32")
    expected = reference(state, torch.tensor(np.moveaxis(x, -1, 1).copy()), torch.tensor(steps), heads=4).numpy()
    output = loaded.network({"x": x[..., :3], "concat": x[..., 3:], "noise_level": steps})
    np.testing.assert_allclose(
        ops.convert_to_numpy(output), np.moveaxis(expected, 1, -1), rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    plain = checkpoints.load(tmp_path / "upsampler.pt", config={"num_heads": 4, "in_channels": 6}, verbose=0)
    assert plain.network.sample_shape[-1] == 6 and plain.network.concat_channels == 0
    torch.save(make_state(**{**OLD[0], "inputs": 5, "out": 3}), tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="Received: 5 channels in, 3 out"):
        checkpoints.load(tmp_path / "odd.pt", verbose=0)


def test_published_upsamplers_are_known_by_where_attention_is():
    from keras_diffusion.checkpoints.families.openai.config import complete_config

    structure = {
        "in_channels": 3,
        "concat_channels": 3,
        "num_channels": 192,
        "channel_mult": [1, 1, 2, 2, 4, 4],
        "num_res_blocks": 2,
    }
    structure |= {
        "resblock_updown": True,
        "use_scale_shift_norm": True,
        "learn_sigma": True,
        "class_cond": True,
        "num_classes": 1000,
    }
    small = complete_config({**structure, "attention": [False] * 3 + [True] * 3}, {}, "64_256_upsampler.pt")
    large = complete_config({**structure, "attention": [False] * 4 + [True] * 2}, {}, "128_512_upsampler.pt")
    assert (small["image_size"], small["num_heads"], small["num_head_channels"]) == (256, 4, -1)
    assert (large["image_size"], large["num_head_channels"]) == (512, 64)
