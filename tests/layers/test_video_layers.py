import json

import keras
import numpy as np
import pytest
from golden_data import array, round_trip

from keras_diffusion.layers import (
    AsOneVideo,
    Downsample,
    PerFrame,
    ResidualBlock,
    SpatialTransformer,
    TemporalConvolution,
    TemporalTransformer,
    Upsample,
)
from keras_diffusion.layers.options import convolution
from keras_diffusion.layers.transformer_block import TransformerBlock

RNG = np.random.RandomState(0)
VIDEO = RNG.normal(size=(2, 5, 4, 6, 8)).astype("float32")
CONDITION, TEXT = (RNG.normal(size=shape).astype("float32") for shape in ((2, 3), (2, 4, 3)))


def randomized(layer, *inputs):
    layer.build(*(np.shape(value) for value in inputs))
    rng = np.random.RandomState(1)
    layer.set_weights([(w == 1) + 0.3 * rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def call(layer, *inputs):
    if keras.backend.backend() == "jax":
        import jax

        return array(
            jax.jit(lambda *values: layer(*values))(*inputs)
        )  # faster than compiling every operation by itself
    return array(layer(*inputs))


def reached(layer, frame, position=(2, 3)):
    """(F, H, W): which places of the first video's output change with one place of its input."""
    changed = VIDEO.copy()
    changed[0, frame, *position] += RNG.normal(size=8)
    difference = np.abs(call(layer, changed) - call(layer, VIDEO)).max(axis=-1)
    assert difference[1].max() == 0
    return difference[0] > 1e-6


@pytest.mark.parametrize(
    ("inner", "conditions"),
    [
        (lambda: ResidualBlock(8, time_injection="add", norm_groups=4), (CONDITION,)),
        (lambda: SpatialTransformer(2, 4, norm_groups=4), (TEXT,)),
        (lambda: Downsample(6, symmetric=True), ()),
        (lambda: Upsample(6), ()),
    ],
)
def test_per_frame_is_frame_by_frame(inner, conditions):
    layer = randomized(PerFrame(inner()), VIDEO, *conditions)
    frames = np.stack([call(layer.layer, VIDEO[:, i], *conditions) for i in (0, 3)], axis=1)
    values = call(layer, VIDEO, *conditions)
    assert values.shape == layer.compute_output_shape(VIDEO.shape, *(value.shape for value in conditions))
    np.testing.assert_allclose(values[:, [0, 3]], frames, atol=2e-5)


def test_as_one_video():
    layer = randomized(AsOneVideo(convolution(3, 6, 3)), VIDEO)
    whole = call(layer.layer, VIDEO.reshape(1, 10, 4, 6, 8)).reshape(2, 5, 4, 6, 6)
    np.testing.assert_allclose(call(layer, VIDEO), whole, atol=2e-5)
    np.testing.assert_allclose(call(layer, VIDEO[:1]), call(layer.layer, VIDEO[:1]), atol=2e-5)
    assert layer.compute_output_shape((None, 5, 4, 6, 8)) == (None, 5, 4, 6, 6)


@pytest.mark.parametrize("layer", [TemporalConvolution(norm_groups=4), TemporalTransformer(2, 4, norm_groups=4)])
def test_layers_along_time_start_at_the_identity(layer):
    np.testing.assert_array_equal(call(layer, VIDEO), VIDEO)
    other = type(layer).from_config({**layer.get_config(), "zero_init": False})
    assert np.abs(call(other, VIDEO) - VIDEO).max() > 1e-2


def test_convolution_along_time_reaches_four_frames_and_mixes_no_positions():
    """Without the norms, whose statistics are those of all places."""
    layer = randomized(TemporalConvolution(norm_groups=4), VIDEO)
    layer.norms = [lambda h: h] * 4
    reach = reached(layer, frame=0)
    assert reach[:, 2, 3].all() and reach.sum() == 5
    layer.convolutions = layer.convolutions[:1] + [lambda h: h] * 3
    assert reached(layer, frame=0)[:, 2, 3].tolist() == [True, True, False, False, False]


def test_attention_along_time_reaches_all_frames_and_mixes_no_positions():
    layer = randomized(TemporalTransformer(2, 4, norm_groups=4), VIDEO)
    layer.norm.call = lambda h: h
    reach = reached(layer, frame=1)
    assert reach[:, 2, 3].all() and reach.sum() == 5
    # It knows no order: frames that change places do so in the output.
    order = [3, 0, 4, 1, 2]
    np.testing.assert_allclose(call(layer, VIDEO[:, order]), call(layer, VIDEO)[:, order], atol=2e-5)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (PerFrame(ResidualBlock(6, norm_groups=2, dropout=0.1, seed=1), name="per_frame"), (VIDEO, CONDITION)),
        (PerFrame(SpatialTransformer(2, 3, norm_groups=4, cross_attention=False, remat=True)), (VIDEO,)),
        (AsOneVideo(convolution(3, 2, 3)), (VIDEO,)),
        (TemporalConvolution(2, 1e-6, "relu", dropout=0.2, zero_init=False, seed=3, remat=True), (VIDEO,)),
        (TemporalTransformer(2, 3, 2, "gelu_tanh", 4, 1e-5, False, zero_init=False, remat=True), (VIDEO,)),
    ],
)
def test_config_round_trip(layer, inputs):
    randomized(layer, *inputs)
    copy = round_trip(layer)
    assert json.dumps(copy.get_config()) == json.dumps(layer.get_config())  # JSON knows no tuples
    assert [w.path for w in copy.weights] == [w.path for w in layer.weights]
    copy.set_weights(layer.get_weights())
    np.testing.assert_allclose(call(copy, *inputs), call(layer, *inputs), atol=1e-6)


def test_dropout_along_time_drops_in_training_alone():
    layer = randomized(TemporalConvolution(dropout=0.5, seed=0), VIDEO)
    still = array(layer(VIDEO))
    np.testing.assert_array_equal(array(layer(VIDEO, training=False)), still)
    assert np.abs(array(layer(VIDEO, training=True)) - still).max() > 1e-2


def test_errors():
    with pytest.raises(
        ValueError,
        match="in the place of cross-attention. Received: cross_attention=True and double_self_attention=True",
    ):
        TransformerBlock(2, 4, double_self_attention=True)
    with pytest.raises(ValueError, match=r"in \[0, 1\). Received: dropout=1"):
        TemporalConvolution(dropout=1)
    with pytest.raises(ValueError, match="Received: no context"):
        PerFrame(SpatialTransformer(2, 4))(VIDEO)
    assert keras.saving.get_registered_name(PerFrame) == "keras_diffusion>PerFrame"
