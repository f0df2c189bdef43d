"""The discriminator of patches: pix2pix's layers, what a logit sees, sizes."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd


def test_it_has_the_layers_of_pix2pix():
    made = kd.networks.PatchDiscriminator()
    kernels = [weight.shape for weight in made.weights if weight.path.endswith("kernel")]
    assert kernels == [(4, 4, 3, 64), (4, 4, 64, 128), (4, 4, 128, 256), (4, 4, 256, 512), (4, 4, 512, 1)]
    # Pix2pix's 2,768,705 with batch norms, less the running means and variances, which are no weights there; a bias
    # in each convolution, where pix2pix leaves it out of those before a norm.
    assert made.count_params() == sum(np.prod(k) for k in kernels) + 64 + 3 * (128 + 256 + 512) + 1


@pytest.mark.parametrize(("widths", "sees"), [((4,), 16), ((4, 4), 34)])
def test_a_logit_sees_a_patch(widths, sees):
    made = kd.networks.PatchDiscriminator(channels=1, widths=widths)
    # Without the norms, through which a picture's statistics reach everywhere.
    layers = [layer for layer in made.graph.layers[1:] if "norm" not in layer.name]

    def logits(x):
        for layer in layers:
            x = layer(x)
        return ops.convert_to_numpy(x)

    first = np.zeros((1, 64, 64, 1), "float32")
    seen = []
    for position in range(64):
        second = first.copy()
        second[:, position] = 1.0
        middle = logits(first).shape[1] // 2
        seen.append(np.any(logits(second)[:, middle] != logits(first)[:, middle]))
    assert sum(seen) == sees


def test_sizes_are_checked():
    made = kd.networks.PatchDiscriminator(widths=(4, 4))
    assert made(np.zeros((2, 8, 12, 3), "float32")).shape == (2, 2, 3, 1)
    with pytest.raises(ValueError, match="at least 8×8.*Take fewer widths"):
        made(np.zeros((1, 8, 6, 3), "float32"))
    with pytest.raises(ValueError, match=r"takes pictures \(B, H, W, 3\)"):
        made(np.zeros((1, 8, 8, 1), "float32"))
    with pytest.raises(ValueError, match="`slope` must be"):
        kd.networks.PatchDiscriminator(slope=1.0)
    with pytest.raises(ValueError, match="has no option 'width'"):
        kd.networks.get_discriminator("patch", width=3)


def test_a_picture_is_judged_alike_in_any_batch():
    made = kd.networks.PatchDiscriminator(widths=(4, 8), dtype="mixed_bfloat16")
    pictures = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3)).astype("float32")
    together = made(pictures)
    assert keras.backend.standardize_dtype(together.dtype) == "float32"
    np.testing.assert_allclose(ops.convert_to_numpy(together)[:1], ops.convert_to_numpy(made(pictures[:1])), atol=2e-2)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert again.get_config() == made.get_config() and again.dtype_policy.name == "mixed_bfloat16"
