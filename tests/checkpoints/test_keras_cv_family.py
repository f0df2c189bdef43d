"""Files of KerasCV's Stable Diffusion, in small.

Weights are drawn anew for the layouts in golden/keras_cv.npz; KerasCV's outputs with these weights are stored there.
Files of KerasCV itself, in full size, are in test_keras_cv_full.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops
from keras_cv_models import SMALL, inputs_of, pipeline_inputs, values, write

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.networks import AutoencoderKL
from keras_diffusion.runtime.compile import Compiled, as_tensors

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "keras_cv.npz")
LAYOUTS = json.loads(str(GOLDEN["layouts"]))
CONFIGS = {
    "diffusion_model_1": {"num_heads": 2},
    "diffusion_model_2": {"num_heads": 2, "head_dim": None},
    "text_encoder_1": {"num_heads": 2},
    "text_encoder_2": {"num_heads": 2, "activation": "gelu_tanh"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras_cv")
    return {
        component: write(layout, values(layout), folder / f"{component}.h5") for component, layout in LAYOUTS.items()
    }


def outputs_of(component, network, inputs):
    function = {"image_encoder": "encode", "decoder": "decode"}.get(component, "__call__")
    return ops.convert_to_numpy(Compiled(getattr(network, function))(as_tensors(inputs)))


@pytest.mark.parametrize("component", list(SMALL))
def test_same_numbers_as_keras_cv(files, component):
    loaded = checkpoints.load(files[component], config=CONFIGS.get(component))
    expected = GOLDEN[component]
    error = np.abs(outputs_of(component, loaded.network, inputs_of(component)) - expected).max()
    assert error < 1e-5 * np.abs(expected).max()
    assert not loaded.report.missing and not loaded.report.unused and loaded.report.family == "keras_cv"


def test_shapes_tell_the_network(files):
    inspected = {component: checkpoints.inspect(path).config for component, path in files.items()}
    first, second = inspected["diffusion_model_1"], inspected["diffusion_model_2"]
    assert (
        first["widths"] == second["widths"] == [32, 64]
        and first["attention"] == [True, False]
        and first["context_dim"] == 16
    )
    assert (first["num_heads"], first["head_dim"], second["head_dim"]) == (8, None, 64)
    assert inspected["text_encoder_1"]["depth"] == 2 and inspected["text_encoder_1"]["max_length"] == 7
    for half in ("image_encoder", "decoder"):
        assert (
            inspected[half]["widths"] == [32, 64]
            and inspected[half]["num_res_blocks"] == 1
            and inspected[half]["component"] == half
        )


def test_conventions(files):
    model = checkpoints.load(files["diffusion_model_1"], config={"num_heads": 2}).diffusion_model()
    assert model.predictor.condition == "timestep" and model.average is None
    assert model.noise_schedule.spacing == {"name": "leading", "offset": 1}
    # As in KerasCV's table of ᾱ, keras_cv 0.9.0, constants.py: its first, a middle and its last entry.
    np.testing.assert_allclose(
        model.noise_schedule.alphas_cumprod[[0, 500, 999]], [0.99915, 0.27633268, 0.0046600983], rtol=1e-4
    )


@pytest.mark.slow
def test_halves_join(files):
    encoder, decoder = (checkpoints.load(files[half]).network for half in ("image_encoder", "decoder"))
    with pytest.raises(ValueError, match="has no decoder.*AutoencoderKL.join"):
        encoder.decode(inputs_of("decoder"))
    autoencoder = AutoencoderKL.join(encoder, decoder)
    decoded = [outputs_of("decoder", network, inputs_of("decoder")) for network in (autoencoder, decoder)]
    np.testing.assert_array_equal(*decoded)
    assert autoencoder(inputs_of("image_encoder")).shape == (2, 8, 8, 3)


def test_config_against_the_shapes(files):
    with pytest.raises(CheckpointError, match=r"The shapes say context_dim=16\. Received: context_dim=768"):
        checkpoints.load(files["diffusion_model_1"], config={"context_dim": 768})
    with pytest.raises(CheckpointError, match=r"has the keys component, .*Received: heads"):
        checkpoints.load(files["diffusion_model_1"], config={"heads": 2})


def test_weights_that_are_gone(tmp_path):
    layout = [layer for layer in LAYOUTS["diffusion_model_1"] if layer[0] != "res_block_3"]
    path = write(layout, values(layout), tmp_path / "damaged.h5")
    with pytest.raises(CheckpointError, match="residual blocks"):
        checkpoints.load(path)


def test_the_older_port_is_refused(tmp_path):
    layout = [["u_net_model", [["u_net_model/dense/kernel", [4, 4]], ["u_net_model/dense/bias", [4]]]]]
    path = write(layout, values(layout), tmp_path / "diffusion_model.h5")
    with pytest.raises(CheckpointError, match="older port.*kcv_diffusion_model.h5"):
        checkpoints.load(path)
    assert "older port" in checkpoints.inspect(path).problem


@pytest.mark.slow
def test_same_images_as_keras_cv(files):
    """Five steps of KerasCV's own loop, from tokens to decoded images."""
    tokens, noise = pipeline_inputs()
    chosen = ("diffusion_model_1", "text_encoder_1")
    loaded = {component: checkpoints.load(files[component], config=CONFIGS[component]) for component in chosen}
    encoder = loaded["text_encoder_1"].network
    contexts = ops.convert_to_numpy(encoder(tokens))
    model = loaded["diffusion_model_1"].diffusion_model(autoencoder=checkpoints.load(files["decoder"]).network)
    images = model.generate(
        conditions={"context": contexts[:2]},
        negative_conditions={"context": np.repeat(contexts[2:], 2, axis=0)},
        guidance_scale=3.0,
        num_steps=5,
        sampler="ddim",
        spacing="linspace",
        latents=noise
        / model.noise_schedule.levels(1.0).sigma,  # KerasCV starts at unit variance, `generate` at σ = 0.998
        clip=False,
    )
    expected = GOLDEN["pipeline"]
    assert np.abs(images - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_a_folder_of_files_makes_images_of_words(files, tmp_path):
    merges = tmp_path / "merges.txt"
    merges.write_text("heading, and no merges: 514 tokens")
    config = {"diffusion_model": CONFIGS["diffusion_model_1"], "text_encoder": CONFIGS["text_encoder_1"]}
    chosen = [files[component] for component in ("diffusion_model_1", "image_encoder", "decoder")]
    with pytest.raises(CheckpointError, match="tokenizer knows 514 tokens, the text encoder 20"):
        checkpoints.load_text_to_image([*chosen, files["text_encoder_1"]], merges, config)
    with pytest.raises(
        CheckpointError,
        match=r"Missing: text_encoder\. Received: diffusion_model \(diffusion_model_1.h5\), image_encoder",
    ):
        checkpoints.load_text_to_image(chosen, merges, config)
    with pytest.raises(CheckpointError, match="Received two for diffusion_model"):
        checkpoints.load_text_to_image([*chosen, files["diffusion_model_2"]], merges, config)

    layout = json.loads(json.dumps(LAYOUTS["text_encoder_1"]).replace("[20, 16]", "[514, 16]"))
    for path in chosen:
        (tmp_path / path.name).symlink_to(path)
    write(layout, values(layout), tmp_path / "some_name.h5")
    model = checkpoints.load_text_to_image(tmp_path, merges, config)
    assert model.text_to_image(["a", "b"], num_steps=1, size=16, seed=0, sampler="ddim").shape == (2, 16, 16, 3)
