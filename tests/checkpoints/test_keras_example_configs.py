"""Networks of the two Keras examples in shapes that no golden file has, written by tf_keras."""

import numpy as np
import pytest
from calling import call

from keras_diffusion import checkpoints
from keras_diffusion.checkpoints import CheckpointError

pytest.importorskip("tf_keras", reason="needs tf_keras to write checkpoints")
pytestmark = pytest.mark.slow

DDPM = [
    (
        "weights.h5",
        {"widths": (8,), "has_attention": (False,), "num_res_blocks": 2, "first_conv_channels": 12, "norm_groups": 4},
        1,
    ),
    (
        "model.keras",
        {"widths": (8, 8, 8), "has_attention": (True, False, True), "num_res_blocks": 1, "norm_groups": 2},
        1,
    ),
    (
        "ckpt",
        {
            "widths": (8, 12),
            "has_attention": (True, False),
            "num_res_blocks": 2,
            "first_conv_channels": 12,
            "norm_groups": 4,
        },
        1,
    ),
]
DDIM = [
    ("weights.h5", {"widths": (8,), "block_depth": 3, "embedding_dims": 4}, 1),
    ("model.keras", {"widths": (8, 8, 12), "block_depth": 1, "embedding_dims": 8, "embedding_max_frequency": 50.0}, 3),
    ("ckpt", {"widths": (12, 8), "block_depth": 2, "embedding_dims": 6, "embedding_max_frequency": 20.0}, 2),
]


def written(network, path):
    """Draws the weights of a tf_keras network, saves it, and returns the path that `load` takes."""
    rng = np.random.RandomState(0)
    values = []
    for weight in network.weights:
        value = rng.normal(size=weight.shape) * 0.3 + (1.0 if "gamma" in weight.name else 0.0)
        values.append(np.abs(value) + 0.5 if "moving_variance" in weight.name else value)
    network.set_weights(values)
    (network.save if path.suffix == ".keras" else network.save_weights)(str(path))
    return path


def image(channels, size=8):
    return np.random.RandomState(1).normal(size=(2, size, size, channels)).astype("float32")


def agree(loaded, inputs, expected):
    values = call(loaded.network, inputs)
    np.testing.assert_allclose(values, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("file, options, channels", DDPM)
def test_ddpm(file, options, channels, tmp_path):
    from legacy_tf import ddpm

    old = ddpm.build_model(8, channels, **options)
    path = written(old, tmp_path / file)
    # Only files with a config know the number of groups.
    loaded = checkpoints.load(path, config=None if file == "model.keras" else {"g": options["norm_groups"]}, verbose=0)
    for key, value in options.items():
        assert loaded.config[key] == (list(value) if isinstance(value, tuple) else value)
    time = np.array([3, 700])
    agree(
        loaded,
        {"x": image(channels), "noise_level": time.astype("float32")},
        old([image(channels), time], training=False).numpy(),
    )


@pytest.mark.parametrize("file", ["weights.h5", "model.keras", "ckpt"])
def test_class_conditional(file, tmp_path):
    from legacy_tf import class_conditional

    options = {"widths": (8, 12), "has_attention": (False, True), "num_res_blocks": 1, "norm_groups": 4}
    old = class_conditional.build_model(8, 1, num_classes=5, **options)
    loaded = checkpoints.load(written(old, tmp_path / file), config={"g": 4}, verbose=0)
    assert loaded.config["num_classes"] == loaded.network.null_labels == 5
    time, labels = np.array([3, 700]), np.array([2, 5])
    expected = old([image(1), time, labels], training=False).numpy()
    agree(loaded, {"x": image(1), "noise_level": time.astype("float32"), "labels": labels}, expected)


@pytest.mark.parametrize("file, options, channels", DDIM)
def test_ddim(file, options, channels, tmp_path):
    from legacy_tf import ddim

    old = ddim.get_network(8, image_channels=channels, **options)
    path = written(old, tmp_path / file)
    given = (
        {} if file == "model.keras" else {key: options[key] for key in ("embedding_max_frequency",) if key in options}
    )
    loaded = checkpoints.load(path, config=given, verbose=0)
    for key, value in options.items():
        assert loaded.config[key] == (list(value) if isinstance(value, tuple) else value)
    variance = np.array([0.1, 0.8], "float32")
    expected = old([image(channels), variance.reshape(2, 1, 1, 1)], training=False).numpy()
    agree(loaded, {"x": image(channels), "noise_level": variance}, expected)


def test_a_network_like_the_example_but_irregular_is_refused(tmp_path):
    import tf_keras

    from legacy_tf import ddim

    x = tf_keras.Input((8, 8, 1))
    h = tf_keras.layers.Conv2D(8, 1)(x)
    for width in (8, 8, 12):  # on the way up one block more than down: no U-Net of this family
        h = tf_keras.layers.Concatenate()([h, h]) if width == 12 else h
        h = ddim.ResidualBlock(width)(h)
        h = ddim.ResidualBlock(width)(h) if width == 12 else h
        h = ddim.ResidualBlock(width)(h) if width == 12 else h
    network = tf_keras.Model(x, tf_keras.layers.Conv2D(1, 1)(h))
    path = written(network, tmp_path / "weights.h5")
    with pytest.raises(CheckpointError, match="2 blocks on the way down and at the bottom, 3 on the way up"):
        checkpoints.load(path, verbose=0)
