import numpy as np
import pytest

from keras_diffusion import networks
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.models import TextToImage
from keras_diffusion.text import CLIPTextEncoder, CLIPTokenizer


@pytest.fixture(scope="module")
def model():
    tokenizer = CLIPTokenizer(merges=["c a", "ca t</w>"], max_length=7)
    with zero_kernels():
        text_encoder = CLIPTextEncoder(tokenizer.vocabulary_size, 7, width=16, depth=1, num_heads=2)
        autoencoder = networks.AutoencoderKL(widths=(8, 8), num_res_blocks=1, norm_groups=4)
        network = networks.UNet2DCondition(widths=(8, 16), num_res_blocks=1, num_heads=2, context_dim=16, norm_groups=4)
    rng = np.random.RandomState(0)
    for weight in (*text_encoder.weights, *autoencoder.weights, *network.weights):
        if len(weight.shape) > 1:
            weight.assign(rng.standard_normal(weight.shape) / np.sqrt(np.prod(weight.shape[:-1])))
    return TextToImage(network, text_encoder, tokenizer, autoencoder)


OPTIONS = {"num_steps": 2, "size": (8, 12), "seed": 0, "sampler": "ddim"}


@pytest.fixture(scope="module")
def images(model):
    return model.text_to_image(["cat", "a dog"], **OPTIONS)


def test_prompts_become_images(images):
    assert images.shape == (2, 8, 12, 3) and np.isfinite(images).all() and np.abs(images).max() <= 1
    assert np.abs(images[0] - images[1]).max() > 1e-3


def test_prompt_and_negative_prompt_count(model, images):
    other = model.text_to_image(["cat", "a cat"], **OPTIONS)
    np.testing.assert_allclose(other[0], images[0], atol=3e-5)
    assert np.abs(other[1] - images[1]).max() > 1e-4
    negative = model.text_to_image(["cat", "a dog"], negative_prompts=["", "cat"], **OPTIONS)
    np.testing.assert_allclose(negative[0], images[0], atol=3e-5)
    assert np.abs(negative[1] - images[1]).max() > 1e-4


@pytest.mark.slow
def test_a_negative_prompt_like_the_prompt_is_no_guidance(model):
    guided = model.text_to_image("cat", negative_prompts="cat", guidance_scale=5.0, num_samples=2, **OPTIONS)
    np.testing.assert_allclose(
        guided, model.text_to_image("cat", guidance_scale=1.0, num_samples=2, **OPTIONS), atol=1e-4
    )


@pytest.mark.slow
def test_preset_round_trip(model, tmp_path, difference):
    model.save_to_preset(tmp_path / "preset")
    with zero_kernels():
        again = TextToImage.from_preset(tmp_path / "preset")
    assert difference(again, model) == 0
    np.testing.assert_array_equal(again.encode_text(["a cat", ""]), model.encode_text(["a cat", ""]))
    assert again.predictor.condition == "timestep" and not again.autoencoder.trainable_weights


def test_errors(model):
    with pytest.raises(ValueError, match=r"multiples of 4 with this autoencoder and network. Received: size=\(8, 13\)"):
        model.text_to_image("cat", size=(8, 13))
    with pytest.raises(ValueError, match="at most 7 tokens"):
        model.text_to_image("cat cat cat cat cat cat cat")
    context = np.zeros((1, 7, 16))
    with pytest.raises(
        ValueError, match=r"Received: context of shape \(1, 7, 16\), negative context of shape \(1, 5, 16\)"
    ):
        model.generate(1, {"context": context}, guidance_scale=2.0, negative_conditions={"context": context[:, :5]})
