"""Folders of diffusers that this library writes: the same tensors as before, and what its own reader and diffusers make
of them.
"""

import json
import shutil
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion import DiffusionModel, checkpoints, networks
from keras_diffusion.checkpoints import open_container
from keras_diffusion.checkpoints.hub import wanted
from keras_diffusion.models import TextToImage
from keras_diffusion.text import CLIPTextEncoder, CLIPTokenizer

GOLDEN = Path(__file__).parent.parent / "golden" / "diffusers"
CASES = ["unet2d_class_cond_scale_shift", "unet2d_condition_sd2_like", "autoencoder_kl", "dit"]


def tensors_of(path):
    with open_container(path) as container:
        return {name: container.read(name) for name in container.tensors}


def draw(model, seed=0):
    rng = np.random.RandomState(seed)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.1 + (1.0 if weight.path.endswith("gamma") else 0.0))
    return model


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A text-to-image model, and the folder that it was written to."""
    keras.utils.set_random_seed(0)
    tokenizer = CLIPTokenizer(merges=["c a", "ca t</w>"], max_length=6, pad_token=0)
    encoder = draw(CLIPTextEncoder(tokenizer.vocabulary_size, 6, width=16, depth=1, num_heads=2))
    unet = draw(networks.UNet2DCondition(widths=(8, 16), num_res_blocks=1, num_heads=2, context_dim=16, norm_groups=4))
    autoencoder = draw(networks.AutoencoderKL(widths=(8, 8), num_res_blocks=1, norm_groups=4))
    model = TextToImage(
        unet, encoder, tokenizer, autoencoder, noise_schedule={"name": "linear", "spacing": "linspace"}, predictor=None
    )
    folder = tmp_path_factory.mktemp("pipelines") / "pipeline"
    checkpoints.export(model, folder)
    return model, folder


@pytest.mark.parametrize("case", CASES)
def test_what_was_loaded_goes_back_as_it_was(case, tmp_path):
    loaded = checkpoints.load(GOLDEN / case / "model", verbose=0)
    folder = checkpoints.export(loaded, tmp_path / "back")
    before, after = tensors_of(GOLDEN / case / "model"), tensors_of(folder)
    assert before.keys() == after.keys() and sorted(p.name for p in folder.iterdir()) == sorted(
        p.name for p in (GOLDEN / case / "model").iterdir()
    )
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    told, written = (json.loads((path / "config.json").read_text()) for path in (GOLDEN / case / "model", folder))
    assert {**written, "_diffusers_version": told["_diffusers_version"]} == told
    # The same from the arguments of the network alone; sizes that it does not know aside.
    options = {"use_linear_projection": True} if "use_linear_projection" in told else {}
    derived = checkpoints.export(loaded.network, tmp_path / "derived", config=options)
    written = json.loads((derived / "config.json").read_text())
    differ = {key for key in told if written.get(key) != told[key] and [written.get(key)] * 2 != [told[key]] * 2}
    assert (
        differ <= {"_diffusers_version", "sample_size", "norm_num_groups"}
        and tensors_of(derived).keys() == before.keys()
    )


@pytest.mark.slow
def test_a_pipeline_round_trip_makes_the_same_images(pipeline):
    model, folder = pipeline
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline" and index["unet"] == ["diffusers", "UNet2DConditionModel"]
    loaded = checkpoints.load(folder, verbose=0)
    back = loaded.diffusion_model()
    assert type(back) is TextToImage and back.tokenizer.get_config() == model.tokenizer.get_config()
    options = {"num_steps": 2, "size": 8, "seed": 0, "sampler": "ddim"}
    np.testing.assert_allclose(
        back.text_to_image("a cat", **options), model.text_to_image("a cat", **options), atol=1e-5
    )
    assert back.noise_schedule.get_config()["beta_end"] == 0.02 and back.noise_schedule.spacing["spacing"] == "linspace"
    assert any("text_encoder, CLIPTextModel" in note for note in loaded.report.notes)
    # A component of it alone.
    assert type(checkpoints.load(folder / "vae", verbose=0).network) is networks.AutoencoderKL


@pytest.mark.slow
def test_averaged_weights_are_chosen(pipeline, tmp_path):
    folder = tmp_path / "with_ema"
    shutil.copytree(pipeline[1], folder)
    other = draw(networks.UNet2DCondition.from_config(pipeline[0].network.get_config()), seed=1)
    checkpoints.export(other, folder / "unet_ema")
    first = {
        w: ops.convert_to_numpy(checkpoints.load(folder, weights=w, verbose=0).network.weights[0])
        for w in ("ema", "raw")
    }
    np.testing.assert_array_equal(first["ema"], ops.convert_to_numpy(other.weights[0]))
    np.testing.assert_array_equal(first["raw"], ops.convert_to_numpy(pipeline[0].network.weights[0]))


@pytest.mark.parametrize(
    "schedule", ["linear", "cosine_beta", "sigmoid_beta", "laplace_beta", {"name": "exp", "rate": 8.0}]
)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_schedules_round_trip(schedule, zero_snr):
    from keras_diffusion import predictors, schedulers
    from keras_diffusion.checkpoints.families.diffusers import read_schedule, write_schedule

    one = schedulers.get(schedule, timesteps=250, zero_terminal_snr=zero_snr, spacing={"name": "leading", "offset": 1})
    config = write_schedule(one, predictors.get("v", condition="timestep", timesteps=250))
    two, predictor, _ = read_schedule(json.loads(json.dumps(config)), "UNet2DModel")
    np.testing.assert_allclose(two.alphas, one.alphas, rtol=1e-9, atol=1e-12)
    assert two.spacing == one.spacing and type(predictor).__name__ == "VPredictor" and predictor.timesteps == 250
    assert config["trained_betas"] is None or schedule == {"name": "exp", "rate": 8.0}


def test_flow_matching_tells_the_network_a_thousand_sigma():
    from keras_diffusion.checkpoints.families.diffusers import read_schedule, write_schedule
    from keras_diffusion.core.levels import Levels

    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    schedule, predictor, _ = read_schedule(config, "DiTTransformer2DModel")
    level = Levels(0.5, *schedule(ops.convert_to_tensor(0.5)))
    np.testing.assert_allclose(ops.convert_to_numpy(predictor.noise_condition(level)), 750.0, rtol=1e-6)
    assert write_schedule(schedule, predictor) == config


def test_edm_schedulers_tell_the_network_a_quarter_of_the_logarithm():
    from keras_diffusion.checkpoints.families.diffusers import read_schedule
    from keras_diffusion.core.levels import Levels

    config = {
        "_class_name": "EDMEulerScheduler",
        "sigma_min": 0.01,
        "sigma_max": 50.0,
        "sigma_data": 1.0,
        "prediction_type": "epsilon",
    }
    schedule, predictor, _ = read_schedule(config, "UNet2DModel")
    level = Levels(1.0, *schedule(ops.convert_to_tensor(1.0)))
    np.testing.assert_allclose(ops.convert_to_numpy(predictor.noise_condition(level)), np.log(50.0) / 4, rtol=1e-6)
    assert type(predictor).__name__ == "EDMPredictor" and predictor.sigma_data == 1.0 and schedule.sigma_min == 0.01


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "ScoreSdeVeScheduler"},
        {"_class_name": "CMStochasticIterativeScheduler"},
        {"_class_name": "EDMDPMSolverMultistepScheduler", "prediction_type": "v_prediction"},
        {"prediction_type": "flow"},
        {"beta_schedule": "sqrt"},
    ],
    ids=str,
)
def test_schedulers_that_are_not_known_are_no_guess(config):
    from keras_diffusion.checkpoints.families.diffusers import read_schedule

    key, value = list(config.items())[-1]
    with pytest.raises(checkpoints.CheckpointError, match=f"Received: {key}='{value}'.*'some/folder'"):
        read_schedule(config, "UNet2DModel", "some/folder")


@pytest.mark.slow
def test_trained_models_are_written_with_their_average(tmp_path):
    network = draw(networks.UNet2D((8, 8, 1), widths=(8, 8), num_res_blocks=1, norm_groups=4, num_classes=2))
    model = DiffusionModel(network, "cosine_beta", {"name": "epsilon", "condition": "timestep"})
    network.weights[0].assign(network.weights[0] + 1.0)
    model.average.num_calls.assign(1)  # as after a step of training
    for weights, expected in (("ema", model.average.network), ("raw", network)):
        folder = checkpoints.export(model, tmp_path / weights, weights=weights)
        loaded = checkpoints.load(folder, verbose=0)
        np.testing.assert_array_equal(
            ops.convert_to_numpy(loaded.network.weights[0]), ops.convert_to_numpy(expected.weights[0])
        )
        assert type(loaded.noise_schedule).__name__ == "CosineBetaNoiseSchedule"
    with pytest.raises(FileExistsError, match="overwrite=True"):
        checkpoints.export(model, tmp_path / "raw")
    checkpoints.export(model, tmp_path / "raw", overwrite=True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_diffusers_does_not_have(tmp_path):
    mlp = networks.MLP((2,), width=4, depth=1)
    with pytest.raises(ValueError, match="diffusers has no network like this. Received: a MLP"):
        checkpoints.export(mlp, tmp_path / "mlp")
    unet = networks.UNet2D((8, 8, 1), widths=(8,), num_res_blocks=1)
    with pytest.raises(ValueError, match="have a table of betas.* noise_schedule=CosineNoiseSchedule"):
        checkpoints.export(DiffusionModel(unet, "cosine", {"name": "v", "condition": "timestep"}), tmp_path / "unet")
    with pytest.raises(ValueError, match="Unknown format: 'gguf'"):
        checkpoints.export(unet, tmp_path / "unet", format="gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_hub_is_asked_for_what_is_needed(pipeline, monkeypatch):
    asked = {}

    def snapshot_download(repository, revision=None, allow_patterns=None):
        asked.update(repository=repository, revision=revision, files=allow_patterns)
        return str(pipeline[1])

    files = sorted(str(path.relative_to(pipeline[1])) for path in pipeline[1].rglob("*") if path.is_file())
    others = [
        "README.md",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "v1.ckpt",
    ]
    hub = types.SimpleNamespace(
        snapshot_download=snapshot_download, list_repo_files=lambda name, revision=None: files + others
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    loaded = checkpoints.load("hf://some/model@main", verbose=0)
    assert loaded.network.context_dim == 16 and (asked["repository"], asked["revision"]) == ("some/model", "main")
    assert asked["files"] == [name for name in files if not name.endswith("special_tokens_map.json")]
    assert checkpoints.inspect("hf://some/model/vae").config["latent_channels"] == 4
    expected = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert asked["files"] == expected
    with pytest.raises(ValueError, match="hf://organization/name"):
        checkpoints.load("hf://model")


def test_all_shards_of_one_variant_are_fetched():
    index, parts = "model.safetensors.index.json", [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    halves = [f"model.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
    files = [
        f"text_encoder/{name}" for name in ["config.json", index, "model.safetensors.index.fp16.json", *parts, *halves]
    ]
    assert wanted(files) == sorted(f"text_encoder/{name}" for name in ["config.json", index, *parts])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_diffusers_reads_it(case, tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    folder = checkpoints.export(checkpoints.load(GOLDEN / case / "model", verbose=0), tmp_path / "model")
    cls = getattr(diffusers, json.loads((folder / "config.json").read_text())["_class_name"])
    expected = cls.from_pretrained(GOLDEN / case / "model").state_dict()
    found = cls.from_pretrained(folder).state_dict()
    assert expected.keys() == found.keys() and all(bool((expected[name] == found[name]).all()) for name in expected)
