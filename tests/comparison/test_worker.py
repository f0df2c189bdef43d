"""What one process measures, run in the test's own process, on its backend."""

import json

import keras
import numpy as np
import pytest
from calling import call
from keras import ops

import keras_diffusion as kd
from keras_diffusion.comparison import worker
from keras_diffusion.comparison.activations import activations, named_layers
from keras_diffusion.comparison.given_noise import GivenNoiseModel
from keras_diffusion.comparison.inputs import PROGRESS, Settings, make_inputs, read_arrays, write_inputs

SETTINGS = Settings(steps=4, batch_size=8, num_samples=3, num_steps=3, sampler="ddim")


@pytest.fixture
def inputs(make_model, blobs, tmp_path):
    model = make_model(optimizer=None)
    write_inputs(tmp_path / "inputs", model, *make_inputs(model, blobs, SETTINGS, keras.optimizers.SGD(0.1)))
    return model, tmp_path / "inputs"


def test_a_process_samples_trains_and_keeps_activations(inputs, tmp_path, capsys):
    model, folder = inputs
    worker.measure(folder, tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    with np.load(tmp_path / "out" / "arrays.npz") as arrays:
        samples, names = arrays["samples"], [name for name in arrays.files if name.startswith("layer/")]
        last = arrays["layer/dense_out"]
    given = read_arrays(folder, "sample")
    expected = model.generate(
        3, {"labels": given["labels"]}, num_steps=3, sampler="ddim", latents=given["latents"], verbose=0
    )
    np.testing.assert_allclose(samples, expected, atol=1e-5)
    assert (
        len(result["training"]["seconds"]) == len(result["training"]["losses"]) == 4
        and min(result["training"]["seconds"]) > 0
    )
    np.testing.assert_allclose(
        result["training"]["losses"][0], first_loss(model, read_arrays(folder, "train")), rtol=1e-5
    )
    assert result["memory"]["bytes"] >= result["memory"]["before"] > 0 and result["devices"]
    assert len(names) > 8
    np.testing.assert_allclose(last, call(model.network, read_arrays(folder, "forward")).reshape(-1), atol=1e-6)
    said = [
        json.loads(line.removeprefix(PROGRESS))
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(PROGRESS)
    ]
    assert [line["done"] for line in said if line["phase"] == "training"] == [1, 2, 3, 4]


@keras.saving.register_keras_serializable("test_worker")
class Halves(keras.layers.Layer):
    """Vectors of 4 numbers as latents of 2."""

    def encode(self, x):
        return 0.5 * (x[:, :2] + x[:, 2:])

    def decode(self, latents):
        return ops.concatenate([latents, latents + 0.25], axis=-1)


def test_an_autoencoder_encodes_before_all_processes_and_decodes_in_each(make_model, tmp_path):
    model = make_model(num_classes=None, optimizer=None, autoencoder=Halves())
    vectors = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype("float32")
    spec, arrays = make_inputs(model, vectors, SETTINGS)
    np.testing.assert_allclose(arrays["train/x0"], (vectors[:, :2] + vectors[:, 2:])[np.arange(32) % 6] / 2, atol=1e-6)
    assert spec["sample_shape"] == [2] and make_inputs(model, None, SETTINGS)[1]["train/x0"].shape == (32, 2)
    write_inputs(tmp_path / "inputs", model, spec, arrays)
    worker.measure(tmp_path / "inputs", tmp_path / "out", {"test_worker>Halves": Halves})
    with np.load(tmp_path / "out" / "arrays.npz") as arrays:
        samples = arrays["samples"]
    latents = read_arrays(tmp_path / "inputs", "sample")["latents"]
    expected = model.generate(3, latents=latents, num_steps=3, sampler="ddim", verbose=0)
    np.testing.assert_allclose(samples, expected, atol=1e-5)
    np.testing.assert_allclose(samples[:, 2:] - samples[:, :2], 0.25, atol=1e-5)  # decoded
    losses = json.loads((tmp_path / "out" / "result.json").read_text())["training"]["losses"]
    np.testing.assert_allclose(
        losses[0], first_loss(model, read_arrays(tmp_path / "inputs", "train")), rtol=1e-5
    )  # of the latents


def first_loss(model, train):
    """By the formula: v-prediction of a network whose last layer is 0."""
    levels = model.noise_schedule.levels(train["t"][:8].astype("float64"))
    v = levels.alpha[:, None] * train["eps"][:8] - levels.sigma[:, None] * train["x0"][:8]
    return np.mean(v**2)


def test_training_is_a_function_of_the_arrays(inputs):
    """No noise of its own, no dropout: twice the same losses."""
    _, folder = inputs
    train = read_arrays(folder, "train")
    runs = []
    for _ in range(2):
        model = GivenNoiseModel.read(folder / "model")
        model.compile("sgd")
        history = model.fit(train, batch_size=8, shuffle=False, verbose=0)
        runs.append((history.history["loss"], history.history["step_loss"]))
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    "network",
    [
        lambda: kd.networks.UNet(
            (4, 4, 1), widths=(8,), num_res_blocks=1, attention=False, dropout=0.5, num_middle_res_blocks=0
        ),
        lambda: kd.networks.SimpleDiT((4, 4, 1), patch_size=2, emb_features=8, num_layers=1, num_heads=1, dropout=0.5),
    ],
    ids=["unet", "dit"],
)
def test_dropout_is_off(network, tmp_path):
    network, rng = network(), np.random.default_rng(0)
    network.set_weights(
        [rng.standard_normal(w.shape).astype("float32") for w in network.get_weights()]
    )  # some start at 0
    kd.DiffusionModel(network, ema=None).save_to_preset(tmp_path / "model")
    inputs = {"x": np.ones((2, 4, 4, 1), "float32"), "noise_level": np.zeros(2, "float32")}
    first, second = (ops.convert_to_numpy(network(inputs, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    read = GivenNoiseModel.read(tmp_path / "model").network
    first, second = (ops.convert_to_numpy(read(inputs, training=True)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_activations_of_layers_within_layers():
    network = kd.networks.UNet((4, 4, 1), widths=(8, 16), num_res_blocks=1, attention=[False, True])
    inputs = {"x": np.ones((2, 4, 4, 1), "float32"), "noise_level": np.zeros(2, "float32")}
    found = activations(network, inputs)
    paths = [name for name, _ in named_layers(network)]
    assert len(paths) == len(set(paths)) and {name.partition("#")[0] for name in found} <= set(paths)
    inner = [name for name in found if name.count("/")]
    assert inner and all(list(found).index(name) < list(found).index(name.rpartition("/")[0]) for name in inner)
    np.testing.assert_allclose(list(found.values())[-1], call(network, inputs), atol=1e-6)
    assert "call" not in vars(network.layers[-1])  # all put back


def test_half_precision_is_compared_in_float32(tmp_path):
    network = kd.networks.MLP((2,), width=8, depth=1, dtype="mixed_bfloat16")
    wide = worker.in_float32(network)
    assert wide is not network and wide.get_layer("block_0_dense1").compute_dtype == "float32"
    assert worker.in_float32(wide) is wide
