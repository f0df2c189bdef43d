"""Perturbed-attention guidance on a small U-Net."""

import functools

import keras
import numpy as np
import pytest
from golden_data import array, tolerance
from keras import ops

import keras_diffusion as kd
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import initial_noise
from keras_diffusion.guidance import ClassifierFreeGuidance, PerturbedAttention
from keras_diffusion.layers import AttentionBlock
from keras_diffusion.layers.perturbation import is_perturbed, perturbed_attention
from keras_diffusion.models.sampling_levels import sampling_levels

X = np.random.default_rng(0).standard_normal((2, 8, 8, 1))
LEVEL = Levels(0.5, 0.6, 0.8)
BLOCKS = ["down_1_attention", "middle_attention", "up_1_attention"]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    network = kd.networks.UNet((8, 8, 1), widths=(8, 8), num_res_blocks=1, num_classes=2, num_heads=2, zero_init=False)
    # The last layer starts at 0, which would hide everything.
    network.get_layer("conv_out").kernel.assign(keras.random.normal((3, 3, 8, 1), seed=1))
    return kd.DiffusionModel(network, seed=0)


def close(value, expected):
    np.testing.assert_allclose(array(value), array(expected), atol=tolerance(1e-4, 1e-9))


def test_identity_map_passes_values_through():
    layer = AttentionBlock(num_heads=2, norm_groups=1, zero_init=False, name="block")
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype("float32")
    plain = array(layer(x))
    with perturbed_attention(lambda name: name == "block"):
        perturbed = array(layer(x))
    value = array(layer.qkv(layer.norm1(x)))[..., 16:]
    close(perturbed, x + value @ array(layer.out.kernel))
    assert np.abs(perturbed - plain).max() > 1e-2 and not is_perturbed("block")
    np.testing.assert_array_equal(array(layer(x)), plain)


def test_positions_no_longer_see_each_other():
    layer = AttentionBlock(num_heads=2, norm="rms", zero_init=False)
    x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype("float32")
    changed = x.copy()
    changed[0, 0] += 1.0
    with perturbed_attention(lambda name: True):
        difference = np.abs(array(layer(x)) - array(layer(changed)))[0].max(-1)
    assert difference[0] > 0.1 and difference[1:].max() == 0


def test_cross_attention_stays():
    layer = AttentionBlock(num_heads=2, cross_attention=True, zero_init=False)
    x, one, other = (np.random.default_rng(i).standard_normal((1, 5, 8)).astype("float32") for i in range(3))
    with perturbed_attention(lambda name: True):
        assert np.abs(array(layer(x, context=one)) - array(layer(x, context=other))).max() > 1e-2


def test_guidance_is_extrapolation_from_the_perturbed_network(model):
    denoise = model.denoiser()
    plain = denoise(X, LEVEL)
    with perturbed_attention(BLOCKS.__contains__):
        perturbed = denoise(X, LEVEL)
    assert np.abs(array(plain.x0) - array(perturbed.x0)).max() > 1e-2
    guided = PerturbedAttention(denoise, 2.0)(X, LEVEL)
    for value, p, q in zip(guided, plain, perturbed, strict=True):
        close(value, array(p) + 2.0 * (array(p) - array(q)))
    close(0.6 * array(guided.x0) + 0.8 * array(guided.eps), X)


def test_selection_of_blocks(model):
    denoise = model.denoiser()
    results = {}
    for blocks in ([], ["middle_attention"], "middle_attention", lambda name: name.startswith("middle"), BLOCKS, None):
        results[str(blocks)] = array(PerturbedAttention(denoise, 1.0, blocks)(X, LEVEL).x0)
    none, *middle, named, every = results.values()
    close(none, denoise(X, LEVEL).x0)
    for same in middle[1:]:
        np.testing.assert_array_equal(same, middle[0])
    np.testing.assert_array_equal(named, every)
    assert np.abs(middle[0] - none).max() > 1e-3 and np.abs(middle[0] - every).max() > 1e-3


def test_together_with_classifier_free_guidance(model):
    conditional, unconditional, w, s = model.denoiser({"labels": [0, 1]}), model.denoiser(), 3.0, 1.5
    guided = ClassifierFreeGuidance(PerturbedAttention(conditional, s / w), unconditional, w)(X, LEVEL).x0
    with perturbed_attention(lambda name: True):
        perturbed = array(conditional(X, LEVEL).x0)
    c, u = array(conditional(X, LEVEL).x0), array(unconditional(X, LEVEL).x0)
    close(guided, u + w * (c - u) + s * (c - perturbed))


@pytest.mark.slow
def test_compiled_equals_walking_by_hand(model):
    guidance = functools.partial(PerturbedAttention, scale=2.0, blocks=["middle_attention"], interval=(0.2, 10.0))
    compiled = model.generate(2, num_steps=3, seed=0, guidance=guidance, sampler="ddim", clip=False)
    levels = sampling_levels(model.noise_schedule, kd.schedulers.get_spacing("linspace"), 3)
    x = levels.sigma[0] * initial_noise(0, range(2), (8, 8, 1))
    by_hand = kd.samplers.get("ddim").sample(x, guidance(model.denoiser()), levels)
    np.testing.assert_allclose(compiled, ops.convert_to_numpy(by_hand), atol=1e-3 * np.abs(compiled).max())
    assert np.abs(compiled - model.generate(2, num_steps=3, seed=0, sampler="ddim", clip=False)).max() > 1e-2


def test_unknown_blocks(model):
    message = (
        r"`blocks` names attention blocks of the network. Received: blocks=\['mid'\]. The network's: "
        r"down_1_attention, middle_attention"
    )
    with pytest.raises(ValueError, match=message):
        PerturbedAttention(model.denoiser(), 1.0, ["mid"])
