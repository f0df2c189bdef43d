"""What `DiffusionModel` and `generate` accept, and what they say of the rest."""

import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.models.arguments import mask_of

SHAPE = (4, 6, 3)


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ((), (1, 1, 1, 1)),
        ((4, 6), (1, 4, 6, 1)),
        ((4, 6, 1), (1, 4, 6, 1)),
        ((4, 6, 3), (1, 4, 6, 3)),
        ((5, 4, 6), (5, 4, 6, 1)),
        ((1, 4, 6), (1, 4, 6, 1)),
        ((5, 4, 6, 1), (5, 4, 6, 1)),
        ((1, 4, 6, 1), (1, 4, 6, 1)),
        ((5, 4, 6, 3), (5, 4, 6, 3)),
        ((5, 1, 1, 1), (5, 1, 1, 1)),
        ((1, 6, 1), (1, 1, 6, 1)),
    ],
)
def test_shapes_of_masks(given, result):
    mask = mask_of(np.ones(given), 5, SHAPE)
    assert mask.shape == result and mask.dtype == "float32"


@pytest.mark.parametrize(
    "given", [(6, 4), (3, 4, 6), (4, 6, 2), (5, 4, 6, 2), (4, 4, 6, 1), (6,), (1, 5, 4, 6, 1), (0, 4, 6)]
)
def test_masks_of_other_shapes(given):
    with pytest.raises(
        ValueError, match=r"The mask of 5 samples of shape \(4, 6, 3\) has one of the shapes .* Received: mask of shape"
    ):
        mask_of(np.ones(given), 5, SHAPE)


@pytest.mark.parametrize(("given", "result"), [((2,), (1, 2)), ((5, 2), (5, 2)), ((5, 1), (5, 1)), ((), (1, 1))])
def test_masks_of_vectors(given, result):
    assert mask_of(np.ones(given, bool), 5, (2,)).shape == result


@pytest.mark.parametrize(
    "mask", [np.full((4, 6), 2.0), np.full((4, 6), -0.1), np.full((4, 6), np.nan), "mask", [[1], [1, 0]], object()]
)
def test_masks_of_other_values(mask):
    with pytest.raises(ValueError, match="[Mm]ask.*Received: "):
        mask_of(mask, 5, SHAPE)


@pytest.mark.slow
def test_a_mask_of_one_picture_serves_all_also_in_small_batches():
    """As many samples as rows: (H, W, 1) must not be cut along H."""
    model = kd.DiffusionModel(kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, attention=False), seed=0)
    init = np.random.default_rng(0).uniform(-1, 1, (4, 4, 4, 1)).astype("float32")
    mask = np.zeros((4, 4, 1), "float32")
    mask[:2] = 1.0
    options = {"num_steps": 2, "seed": 0, "init": init, "sampler": "ddim"}
    whole = model.generate(4, mask=mask, **options)
    np.testing.assert_allclose(whole[:, :2], init[:, :2], atol=1e-6)
    np.testing.assert_allclose(model.generate(4, mask=mask[..., 0], batch_size=2, **options), whole, atol=1e-5)


@pytest.mark.parametrize(
    "network", [None, "unet", {}, 3, keras.layers.Dense(3), keras.Sequential([keras.layers.Dense(3)]), object, []]
)
def test_what_is_no_network(network):
    with pytest.raises(ValueError, match="`network` is a built Keras model on a dict .* Received: network="):
        kd.DiffusionModel(network)


class Unbuilt(keras.Model):
    """A network with a layer that has no weights yet."""

    sample_shape = (2,)

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs["x"])


@pytest.mark.parametrize(
    ("network", "remedy"),
    [
        ("unet", r"Make the network: `networks.UNet\(...\)`"),
        ("mlpp", r"Make the network: `networks.MLP\(...\)`"),
        ({"name": "uvit"}, r"Make the network: `networks.UViT\(...\)`"),
        (kd.networks.MLP, r"Make one of it: `MLP\(...\)`"),
        (lambda inputs: inputs["x"], "Functions have no weights to train; samplers take them as they are"),
        (Unbuilt, r"Make one of it: `Unbuilt\(...\)`"),
        (Unbuilt(), "Make it a functional model, or give it a `sample_shape` and build its layers"),
    ],
    ids=["name", "misspelt", "dict", "class", "function", "own class", "unbuilt"],
)
def test_what_to_pass_in_place_of_what_is_no_network(network, remedy):
    with pytest.raises(ValueError, match=rf"`network` is a built Keras model.* Received: network=.*\. {remedy}"):
        kd.DiffusionModel(network)


BAD = [
    ({"autoencoder": 3}, "`autoencoder` is a layer or model with `encode` and `decode`.*Received: autoencoder=3"),
    ({"autoencoder": "vae"}, "Received: autoencoder='vae'"),
    ({"noise_bands": 0}, "`noise_bands` must be an integer ≥ 1 and ≤ 100. Received: noise_bands=0"),
    ({"noise_bands": 2.5}, "Received: noise_bands=2.5"),
    (
        {"null_context": np.zeros(3)},
        "`null_context` stands in for a context, and this network has none.*Received: null_context of shape",
    ),
    (
        {"condition_dropout": float("nan")},
        r"`condition_dropout` is a share of samples and must lie in \[0, 1\]. Received: .*=nan",
    ),
    ({"condition_dropout": "0.1"}, "Received: condition_dropout='0.1'"),
    ({"ema": float("nan")}, "Received: ema=nan"),
    ({"ema": True}, "Received: ema=True"),
    ({"seed": -1}, "Received: seed=-1"),
    ({"noise_schedule": 3}, "Expected a noise schedule.*Received: 3"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=str)
def test_bad_arguments_of_a_model(options, message):
    with pytest.raises(ValueError, match=message):
        kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1), **options)


def test_null_context_has_the_contexts_size():
    network = kd.networks.MLP((2,), width=8, depth=1, context_dim=3)
    assert kd.DiffusionModel(network, null_context=[[1, 2, 3]]).null_context.shape == (1, 3)
    with pytest.raises(
        ValueError,
        match=r"`null_context` has the shape \(3,\) or \(length, 3\). Received: null_context of shape \(2,\)",
    ):
        kd.DiffusionModel(network, null_context=np.zeros(2))
