import keras
import numpy as np
from keras import ops

from keras_diffusion.layers import NormalizedAttention


def test_is_attention_around_the_normalized_input():
    keras.utils.set_random_seed(0)
    x = np.random.RandomState(0).normal(1.0, 2.0, (2, 3, 4, 8)).astype("float32")
    layer = NormalizedAttention(norm_groups=2, zero_init=False)
    values = ops.convert_to_numpy(layer(x))
    groups = x.reshape(2, 12, 2, 4)
    mean, variance = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    n = ((groups - mean) / np.sqrt(variance + 1e-3)).reshape(2, 12, 8)
    query, key, value = np.split(n @ ops.convert_to_numpy(layer.qkv.kernel), 3, axis=-1)
    scores = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(8))
    out = (scores / scores.sum(-1, keepdims=True)) @ value @ ops.convert_to_numpy(layer.out.kernel)
    np.testing.assert_allclose(values, (n + out).reshape(x.shape), atol=1e-4)


def test_config_round_trip_keeps_only_its_own_options():
    layer = NormalizedAttention(norm_groups=4, zero_init=False, name="attention")
    config = layer.get_config()
    assert {"norm_groups", "norm_epsilon", "zero_init"} <= set(config) and "num_heads" not in config
    assert NormalizedAttention.from_config(config).get_config() == config
