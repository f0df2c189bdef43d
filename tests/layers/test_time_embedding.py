import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.layers import FourierEmbedding, LabelEmbedding, SinusoidalEmbedding, TimeProjection


def test_fourier_embedding_is_sines_then_cosines_of_its_frequencies():
    layer = FourierEmbedding(8, scale=2.0, seed=3)
    level = np.array([-1.5, 0.0, 0.7], "float32")
    values = ops.convert_to_numpy(layer(level))
    angle = 2 * np.pi * level[:, None] * 2.0 * np.random.RandomState(3).standard_normal(4)
    np.testing.assert_allclose(values, np.concatenate([np.sin(angle), np.cos(angle)], -1), atol=2e-6)


def test_fourier_embedding_is_smooth_and_resolves_the_default_noise_level():
    """Relative distance of embeddings: √(2 − 2·exp(−2π²Δ²)) on average."""
    level = np.array([0.0, 0.02, 0.2], "float32")
    here, near, far = ops.convert_to_numpy(FourierEmbedding(256)(level))
    assert np.linalg.norm(near - here) < 0.2 * np.linalg.norm(here)
    assert np.linalg.norm(far - here) > 0.7 * np.linalg.norm(here)


def test_fourier_frequencies_are_a_saved_weight_that_is_not_trained(tmp_path):
    inputs = keras.Input((), name="noise_level")
    model = keras.Model(inputs, FourierEmbedding(8, name="embedding")(inputs))
    assert model.trainable_weights == [] and [w.path for w in model.weights] == ["embedding/frequencies"]
    model.weights[0].assign(np.arange(4.0))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded.weights[0]), np.arange(4.0))


def test_sinusoidal_embedding_has_geometric_frequencies():
    values = ops.convert_to_numpy(SinusoidalEmbedding(6, max_period=1000.0, scale=3.0)(np.array([2.0], "float32")))[0]
    angle = 2.0 * 3.0 * np.array([1.0, 0.1, 0.01])
    np.testing.assert_allclose(values, [*np.sin(angle), *np.cos(angle)], atol=1e-6)


@pytest.mark.parametrize("layer", [FourierEmbedding, SinusoidalEmbedding])
def test_embeddings_keep_float32_under_mixed_precision(layer):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        embedding = layer(16)
        values = embedding(np.array([900.0, 901.0], "float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    first, second = ops.convert_to_numpy(values)
    assert np.abs(first - second).max() > 0.5  # 901 is 900 in bfloat16


def test_time_projection_ends_with_the_activation():
    layer = TimeProjection(16, activation="relu")
    values = ops.convert_to_numpy(layer(np.random.RandomState(0).normal(size=(4, 8)).astype("float32")))
    assert values.shape == (4, 16) and values.min() == 0.0 and values.max() > 0.0


def test_label_embedding_has_a_row_for_no_class():
    layer = LabelEmbedding(3, 4)
    values = ops.convert_to_numpy(layer(np.array([0, 2, layer.null_label])))
    np.testing.assert_array_equal(values, ops.convert_to_numpy(layer.table.embeddings)[[0, 2, 3]])
    assert layer.table.embeddings.shape == (4, 4)


@pytest.mark.parametrize(
    "layer",
    [
        FourierEmbedding(8, scale=0.5, seed=2),
        SinusoidalEmbedding(8, max_period=100.0, scale=3.0),
        TimeProjection(8, activation="gelu"),
        LabelEmbedding(3, 4),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: FourierEmbedding(7), "`dim` must be an even integer ≥ 2. Received: dim=7"),
        (lambda: FourierEmbedding(8, scale=0.0), "`scale` must be > 0. Received: scale=0.0"),
        (lambda: SinusoidalEmbedding(8, max_period=-1), "`max_period` must be > 0. Received: max_period=-1"),
        (lambda: TimeProjection(8, activation="swoosh"), "Unknown activation: 'swoosh'"),
        (lambda: LabelEmbedding(0, 8), "`num_classes` must be an integer ≥ 1, .* Received: num_classes=0"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
