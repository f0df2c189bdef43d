import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_diffusion.cli.building import build_model, build_optimizer, known_keys, resolve
from keras_diffusion.cli.config import ConfigError
from keras_diffusion.cli.run_folder import RunFolder


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "images.npz"
    np.savez(path, images=rng.uniform(-1, 1, (40, 8, 8, 1)).astype("float32"), labels=np.arange(40) % 4)
    return str(path)


def config(source, **sections):
    return {"data": {"source": source, "batch_size": 8}, "network": {"widths": [8, 16]}, **sections}


def test_sizes_come_from_the_data(images):
    resolved, train, validation = resolve(config(images))
    assert resolved["network"]["name"] == "unet" and resolved["network"]["input_shape"] == [8, 8, 1]
    assert resolved["network"]["num_classes"] == 4 and validation is None and len(train) == 5
    assert resolved["model"]["noise_schedule"] == "cosine" and resolved["network"]["dropout"] == 0.0, (
        "defaults are written out"
    )


def test_known_channels_come_from_the_data(tmp_path):
    images = np.random.default_rng(0).uniform(-1, 1, (40, 8, 8, 3)).astype("float32")
    np.savez(tmp_path / "pairs.npz", images=images, concat=images[..., :2])
    resolved, _, _ = resolve(config(str(tmp_path / "pairs.npz")))
    assert resolved["network"]["concat_channels"] == 2 and resolved["network"]["input_shape"] == [8, 8, 3]
    assert build_model(resolved).network.condition_keys == ("concat",)


def test_buckets_make_a_network_of_any_size(tmp_path, monkeypatch):
    pytest.importorskip("PIL.Image")
    from keras_diffusion.cli.sampling import _size_of_run
    from keras_diffusion.cli.training import _sample_options
    from keras_diffusion.visualization import save_png

    for i in range(12):
        save_png(tmp_path / f"{i}.png", np.zeros(((20, 40, 3), (40, 20, 3), (30, 30, 3))[i % 3], "float32"))
    data = {"source": str(tmp_path), "batch_size": 4, "image_size": 32, "buckets": True, "crop": "random"}
    resolved, train, held_out = resolve({"data": {**data, "validation": {"split": "all"}}})
    assert list(train.bucket_counts.values()) == [4, 4, 4] and len(held_out) == 3
    assert resolved["network"]["input_shape"] == [None, None, 3]
    assert len(resolved["network"]["widths"]) == 3, "24 halves twice before it has fewer than 4 positions"
    assert train.source.num_draws == 2 and held_out.source.num_draws == 0
    assert _sample_options(resolved)["size"] == 32 and resolve(resolved)[0] == resolved
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(resolved))
    monkeypatch.setattr(RunFolder, "is_run", True)
    for shape, size in (((None, None, 3), 32), ((32, 32, 3), None)):
        assert _size_of_run(tmp_path / "run", SimpleNamespace(sample_shape=shape)) == size


def test_a_network_is_told_of_augmentation(images):
    pytest.importorskip("PIL.Image")
    data = {"augment": [{"name": "non_leaking", "probability": 0.2}, "random_flip"], "validation_fraction": 0.2}
    sections = config(images)
    resolved, train, held_out = resolve({**sections, "data": {**sections["data"], **data}})
    assert resolved["network"]["augmentation_dim"] == 9 and resolve(resolved)[0] == resolved
    assert train[0]["augmentation"].shape == (8, 9) and "augmentation" not in held_out[0]
    with pytest.raises(ConfigError, match="'uvit' cannot be told"):
        resolve({**sections, "data": {**sections["data"], **data}, "network": {"name": "uvit"}})


def test_resolving_again_changes_nothing(images):
    resolved, _, _ = resolve(
        config(images, optimizer={"learning_rate": {"name": "cosine_decay", "initial_learning_rate": 0.1}})
    )
    assert resolved == json.loads(json.dumps(resolved))
    assert resolve(resolved)[0] == resolved


def test_relative_paths_become_absolute(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve(config("images.npz"))[0]["data"]["source"] == images


def test_vectors_get_an_mlp(tmp_path):
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(32, 2)).astype("float32"))
    resolved, _, _ = resolve({"data": {"source": str(tmp_path / "points.npy"), "batch_size": 8}})
    assert resolved["network"]["name"] == "mlp" and resolved["network"]["input_shape"] == [2]
    assert build_model(resolved).sample_shape == (2,)


def test_digits_hold_out_a_part_without_being_asked():
    pytest.importorskip("sklearn")
    resolved, train, validation = resolve({"data": {"source": "digits"}})
    assert resolved["data"]["validation"] == {"split": "validation"} and resolved["network"]["widths"] == [32, 64]
    assert (
        len(train.source) + len(validation.source) == 1797 and not validation.shuffle and not validation.drop_remainder
    )


def test_validation_by_fraction_and_by_table(images):
    base = config(images)
    held_out = resolve({**base, "data": {**base["data"], "validation_fraction": 0.25}})[2]
    assert len(held_out.source) == 8  # 2 of the 10 samples of each class
    other = resolve({**base, "data": {**base["data"], "horizontal_flip": True, "validation": {"source": images}}})[2]
    assert len(other.source) == 40 and not other.horizontal_flip
    assert resolve({**base, "data": {**base["data"], "validation_fraction": 0.25, "validation": False}})[2] is None


def test_labels_are_left_out_where_the_network_has_no_classes(images):
    resolved, train, _ = resolve(config(images, network={"widths": [8, 16], "num_classes": 0}))
    assert resolved["network"]["num_classes"] is None and set(train[0]) == {"images"}
    assert build_model(resolved, compile=False).network.condition_keys == ()


def test_labels_are_left_out_where_the_network_knows_none(images):
    network = {"name": "residual_unet", "widths": [8], "block_depth": 1, "embedding_dims": 4}
    resolved, train, _ = resolve(config(images, network=network))
    assert "num_classes" not in resolved["network"] and set(train[0]) == {"images"}
    assert build_model(resolved, compile=False).network.condition_keys == ()


def test_first_weights_follow_the_seed(images):
    resolved = resolve(config(images))[0]

    def weights(seed):
        return build_model({**resolved, "seed": seed}, compile=False).network.get_weights()

    first, same, other = weights(3), weights(3), weights(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_optimizer_with_schedule_to_the_end_of_training(images):
    rate = {"name": "cosine_decay", "initial_learning_rate": 0.0, "warmup_target": 1e-3, "warmup_steps": 4}
    resolved = resolve(
        config(images, optimizer={"name": "sgd", "learning_rate": rate, "momentum": 0.9}, train={"epochs": 6})
    )[0]
    assert resolved["optimizer"]["learning_rate"]["decay_steps"] == 6 * 5 - 4
    optimizer = build_optimizer(resolved["optimizer"])
    assert isinstance(optimizer, keras.optimizers.SGD) and optimizer.momentum == 0.9
    assert "weight_decay" not in resolved["optimizer"], "AdamW's defaults are not those of another optimizer"


def test_gradient_accumulation_and_precision_reach_the_model(images):
    resolved = resolve(
        config(
            images,
            dtype="mixed_bfloat16",
            optimizer={"gradient_accumulation_steps": 2},
            train={"steps_per_execution": 2},
        )
    )[0]
    model = build_model(resolved)
    assert model.network.dtype_policy.name == "mixed_bfloat16" and model.optimizer.gradient_accumulation_steps == 2
    assert model.steps_per_execution == 2


def images_of(tmp_path, size, channels=3):
    path = tmp_path / f"images-{size}.npz"
    np.savez(path, images=np.zeros((2, size, size, channels), "uint8"))
    return {"data": {"source": str(path), "batch_size": 2}}


@pytest.mark.parametrize("size, widths", [(16, [32, 64, 128]), (32, [32, 64, 128, 128]), (64, [16, 32, 64, 64])])
def test_the_network_follows_the_size_of_the_pictures(tmp_path, size, widths):
    network = resolve(images_of(tmp_path, size))[0]["network"]
    assert network["widths"] == widths and network["num_res_blocks"] == 1 and "size" not in network


def test_a_size_by_name(tmp_path):
    base = resolve({**images_of(tmp_path, 16), "network": {"size": "base", "num_res_blocks": 3}})[0]
    assert base["network"]["widths"] == [64, 128, 256] and base["network"]["num_res_blocks"] == 3
    assert resolve(base)[0] == base
    with pytest.raises(ConfigError, match=r"\[network\] has a `size`, or the `widths` themselves"):
        resolve({**base, "network": {**base["network"], "size": "tiny"}})
    with pytest.raises(ConfigError, match=r"^\[network\] .* one of 'tiny', 'small', 'base', 'large'"):
        resolve({**images_of(tmp_path, 16), "network": {"size": "huge"}})
    with pytest.raises(ConfigError, match=r"Unknown key 'size' in \[network\] \(residual_unet\)"):
        resolve({**images_of(tmp_path, 16), "network": {"name": "residual_unet", "size": "tiny"}})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm_unet", "edm_unet", "flax_unet", "residual_unet", "unet_2d"])
def test_other_networks_get_widths_that_fit(tmp_path, name):
    resolved = resolve({**images_of(tmp_path, 8), "network": {"name": name}})[0]
    assert build_model(resolved, compile=False).network.count_params() < 4e6


def folders_of(path, names, count=4):
    from PIL import Image

    for number, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (20 * number, i, 0)).save(path / name / f"{i}.png")
    return str(path)


def test_class_names_come_from_the_folders(tmp_path):
    pytest.importorskip("PIL")
    folder = folders_of(tmp_path / "pictures", ["china", "flower"])
    base = {"data": {"source": folder, "batch_size": 4}, "network": {"widths": [8]}}
    resolved = resolve(base)[0]
    assert resolved["model"]["class_names"] == ["china", "flower"] and resolve(resolved)[0] == resolved
    assert build_model(resolved, compile=False).class_names == ["china", "flower"]
    assert resolve({**base, "network": {"widths": [8], "num_classes": 0}})[0]["model"]["class_names"] is None
    other = folders_of(tmp_path / "other", ["china", "tower"])
    with pytest.raises(
        ConfigError, match="the same classes, in one order. Received: 0 china, 1 flower for training, 0 china, 1 tower"
    ):
        resolve({**base, "data": {**base["data"], "validation": {"source": other}}})


def test_known_keys_are_those_that_are_taken():
    keys = known_keys()
    assert "image_size" in keys["data"] and "size" in keys["network"] and "class_names" in keys["model"]


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"data": {"source": "?", "batchsize": 8}}, r"Unknown key 'batchsize' in \[data\]. Did you mean 'batch_size'"),
        ({"data": {"source": "?", "batch_size": 0}}, r"\[data\] batch_size must be an integer ≥ 1"),
        ({"data": {"source": "?", "batch_size": 8, "validation": True}}, "needs something held out"),
        (
            {"data": {"source": "?", "batch_size": 8, "validation": 3}},
            "`data.validation` is a split, a table of arguments, or false",
        ),
        ({"network": {"name": "unnet"}}, "Unknown network 'unnet' .* Did you mean 'unet'"),
        ({"network": {"widht": [8]}}, r"Unknown key 'widht' in \[network\] \(unet\). Did you mean 'widths'"),
        ({"network": {"input_shape": [16, 16, 1]}}, r"must take the samples of the data, of shape \[8, 8, 1\]"),
        (
            {"model": {"noise_scedule": "cosine"}},
            r"Unknown key 'noise_scedule' in \[model\]. Did you mean 'noise_schedule'",
        ),
        ({"optimizer": {"name": "adamx"}}, "Unknown optimizer: 'adamx'. Did you mean 'adam.*'"),
        ({"optimizer": {"lr": 1}}, r"Unknown key 'lr' in \[optimizer\] \(adamw\)"),
        ({"optimizer": {"learning_rate": {"name": "cosine"}}}, "Unknown learning-rate schedule: 'cosine'"),
        (
            {"optimizer": {"learning_rate": {"name": "cosine_decay", "steps": 3}}},
            r"Unknown key 'steps' in \[optimizer.learning_rate\]",
        ),
    ],
)
def test_mistakes_are_named(images, sections, message):
    merged = {**config(images), **sections}
    merged["data"] = {**merged["data"], "source": images}
    with pytest.raises(ConfigError, match=message):
        resolve(merged)


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"network": {"widths": [8, 16], "dropout": 2.0}}, r"^\[network\] "),
        ({"model": {"predictor": "w"}}, r"^\[model\] Unknown predictor: 'w'"),
        ({"optimizer": {"clipnorm": 1.0, "clipvalue": 1.0}}, r"^\[optimizer\] "),
        ({"dtype": "mixed_float16"}, "float16 needs loss scaling"),
    ],
)
def test_errors_of_the_objects_name_their_section(images, sections, message):
    resolved = resolve(config(images, **sections))[0]
    with pytest.raises(ConfigError, match=message):
        build_model(resolved)
