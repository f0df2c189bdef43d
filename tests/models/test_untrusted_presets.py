"""Untrusted presets: damaged ones and attacks end in the library's own error."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_diffusion as kd

CheckpointError = kd.checkpoints.CheckpointError


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset as (config, weights): a dict and bytes."""
    network = kd.networks.MLP((2,), width=8, depth=1, num_classes=3)
    folder = tmp_path_factory.mktemp("preset") / "p"
    kd.DiffusionModel(network, ema=0.5, seed=0).save_to_preset(folder)
    return json.loads((folder / "config.json").read_text()), (folder / "model.weights.h5").read_bytes()


def write(folder, config, weights):
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "model.weights.h5").write_bytes(weights)
    return folder


def places(config):
    """Every key of a tree, as (dict, key)."""
    for key, value in config.items():
        yield config, key
        if isinstance(value, dict):
            yield from places(value)


def mutated_configs(config, count, seed):
    """Configs in which one value is another, or a text is cut."""
    rng = np.random.default_rng(seed)
    values = (
        None,
        [],
        {},
        -1,
        0,
        1e300,
        "x",
        [1, "a"],
        {"class_name": "X", "module": "keras_hub"},
        {"class_name": []},
        True,
    )
    for i in range(count):
        text = json.dumps(config)
        if i % 3 == 2:
            cut = int(rng.integers(len(text)))
            yield text[:cut] + ("" if i % 2 else text[cut + 3 :])
            continue
        copy = json.loads(text)
        found = list(places(copy))
        parent, key = found[int(rng.integers(len(found)))]
        parent[key] = values[int(rng.integers(len(values)))]
        if i % 7 == 0:
            del parent[key]
        yield copy


@pytest.mark.slow
def test_damaged_configs_give_a_model_or_the_one_error(preset, tmp_path):
    config, weights = preset
    right = 0
    for i, mutated in enumerate(mutated_configs(config, 60, seed=0)):
        folder = write(tmp_path / str(i), mutated, weights)
        try:
            model = kd.DiffusionModel.from_preset(folder)
        except CheckpointError as error:
            assert str(folder) in str(error) and len(str(error)) < 3000
        except ValueError as error:
            assert "holds a" in str(error)  # a layer, where a model is asked for
        else:
            right += isinstance(model, kd.DiffusionModel)
    assert right < 40


def test_damaged_weights_give_the_one_error(preset, tmp_path):
    config, weights = preset
    rng = np.random.default_rng(1)
    refused = 0
    for i in range(40):
        damaged = bytearray(weights[: int(rng.integers(len(weights)))] if i % 4 == 0 else weights)
        for _ in range(0 if i % 4 == 0 else 3):
            damaged[int(rng.integers(min(len(damaged), 4000)))] = int(rng.integers(256))
        folder = write(tmp_path / str(i), config, bytes(damaged))
        try:
            kd.DiffusionModel.from_preset(folder)
        except CheckpointError as error:
            refused += 1
            assert "model.weights.h5" in str(error)
    assert refused > 20


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value, preset, tmp_path):
    config, weights = preset
    folder = write(tmp_path / "p", config, weights)
    model = kd.DiffusionModel.from_preset(folder)
    model.save(tmp_path / "m.keras")
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        file["average/network/layers/adaptable_dense/vars/0"][0, 0] = value
    with zipfile.ZipFile(tmp_path / "m.keras") as source, zipfile.ZipFile(tmp_path / "n.keras", "w") as target:
        for name in source.namelist():
            target.writestr(name, (folder / name).read_bytes() if name.endswith(".h5") else source.read(name))
    with pytest.raises(CheckpointError, match="Weights must be finite"):
        kd.DiffusionModel.from_preset(folder)
    for path in (folder, tmp_path / "n.keras"):
        with pytest.raises(CheckpointError, match="Weights must be finite"):
            kd.checkpoints.load(path, verbose=0)


def test_weights_of_another_model_are_refused(preset, tmp_path):
    other = kd.DiffusionModel(kd.networks.MLP((3,), width=8, depth=2), ema=None)
    other.save_weights(tmp_path / "other.weights.h5")
    folder = write(tmp_path / "p", preset[0], (tmp_path / "other.weights.h5").read_bytes())
    with pytest.raises(CheckpointError, match="do not fit the model"):
        kd.DiffusionModel.from_preset(folder)


@keras.saving.register_keras_serializable("my_package")
class Small(keras.Model):
    """A network of a user's own."""

    condition_keys = ()

    def __init__(self, sample_shape=(2,), **kwargs):
        super().__init__(**kwargs)
        self.sample_shape = tuple(sample_shape)
        self.dense = keras.layers.Dense(sample_shape[-1], name="dense")
        self.dense.build((None, sample_shape[-1]))
        self.built = True

    def call(self, inputs, training=False):
        return self.dense(inputs["x"])

    def get_config(self):
        return {"name": self.name, "sample_shape": self.sample_shape}


def test_a_network_of_ones_own_is_handed_over_by_the_caller(tmp_path):
    model = kd.DiffusionModel(Small(), ema=None, seed=0)
    model.save_to_preset(tmp_path / "p")
    model.save(tmp_path / "m.keras")
    custom = {"my_package>Small": Small}
    for load in (
        kd.DiffusionModel.from_preset,
        lambda path, **options: kd.checkpoints.load(path, verbose=0, **options),
    ):
        with pytest.raises(CheckpointError, match=r"custom_objects=\{'my_package>Small': Small\}"):
            load(tmp_path / "p")
        loaded = load(tmp_path / "p", custom_objects=custom)
        np.testing.assert_array_equal(loaded.network.get_weights()[0], model.network.get_weights()[0])
    with pytest.raises(CheckpointError, match="my_package>Small"):
        kd.checkpoints.load(tmp_path / "m.keras", verbose=0)
    assert type(kd.checkpoints.load(tmp_path / "m.keras", verbose=0, custom_objects=custom).network) is Small
    assert type(keras.saving.load_model(tmp_path / "m.keras").network) is Small  # Keras's own way, with Keras's rules
    kd.checkpoints.convert(tmp_path / "m.keras", tmp_path / "q", verbose=0, custom_objects=custom)
    assert kd.checkpoints.inspect(tmp_path / "q").title.endswith("with a Small")


def test_a_model_of_ones_own_may_be_asked_for_by_itself(preset, tmp_path):
    class Mine(kd.DiffusionModel):
        pass

    folder = write(tmp_path / "p", {**preset[0], "class_name": "Mine", "registered_name": "Mine"}, preset[1])
    assert type(Mine.from_preset(folder)) is Mine
    with pytest.raises(CheckpointError, match=r"custom_objects=\{'Mine': Mine\}"):
        kd.DiffusionModel.from_preset(folder)
    assert type(kd.DiffusionModel.from_preset(folder, custom_objects={"Mine": Mine})) is Mine
    for load in (kd.DiffusionModel.from_preset, kd.checkpoints.load):
        with pytest.raises(ValueError, match="`custom_objects` is a dict"):
            load(folder, custom_objects=[Mine])


def test_text_to_image_is_loaded_by_the_same_rules(tmp_path):
    encoder = kd.text.CLIPTextEncoder(vocabulary_size=600, max_length=8, width=8, depth=1, num_heads=1)
    tokenizer = kd.text.CLIPTokenizer(merges=["a b"], max_length=8)
    network = kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, num_middle_res_blocks=0, context_dim=8)
    kd.models.TextToImage(network, encoder, tokenizer, seed=0).save_to_preset(tmp_path / "p")
    config = json.loads((tmp_path / "p" / "config.json").read_text())
    config["config"]["tokenizer"]["config"] = {"bpe_path": "merges.txt", "max_length": 8}
    (tmp_path / "p" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="beside it"):
        kd.models.TextToImage.from_preset(tmp_path / "p")
    (tmp_path / "p" / "merges.txt").write_text("#\na b\n")
    assert kd.models.TextToImage.from_preset(tmp_path / "p").tokenizer.merges == ["a b"]
    for path in ("/etc/passwd", "/dev/zero"):
        config["config"]["tokenizer"]["config"]["bpe_path"] = path
        (tmp_path / "p" / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="beside it") as error:
            kd.models.TextToImage.from_preset(tmp_path / "p")
        assert "root:" not in str(error.value)
