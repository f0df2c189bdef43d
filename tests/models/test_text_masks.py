"""Masks of contexts through `fit`, `generate` and guidance, and captions with every family of networks."""

import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.models import TextToImage
from keras_diffusion.models.guided_denoiser import null_conditions

TEXTS = ["a red one", "a green"]
_DIT = {"patch_size": 2, "emb_features": 8, "num_layers": 1, "num_heads": 2}
NETWORKS = {
    "unet": {"widths": (4,), "num_res_blocks": 1, "num_middle_res_blocks": 0, "attention": True},
    "uvit": {**_DIT, "num_layers": 2},
    "mmdit": _DIT,  # a DiT too: both take the mean of the context
}


def make_model(kind="mlp", shape=(3,), **options):
    kd.keras.utils.set_random_seed(0)
    encoder, tokenizer = kd.text.small_encoder(TEXTS, 8, depth=1, num_heads=2, max_length=5, hide_padding=True)
    sizes = NETWORKS.get(kind, {"width": 8, "depth": 1})
    network = kd.networks.get(kind, input_shape=shape, context_dim=8, **sizes)
    model = TextToImage(network, encoder, tokenizer, noise_schedule="cosine", predictor="v", seed=0, **options)
    model.value_range = None
    # TensorFlow without its compiler, which takes the most of the time.
    jit_compile = False if kd.keras.backend.backend() == "tensorflow" else "auto"
    model.compile(kd.keras.optimizers.SGD(1e-2), jit_compile=jit_compile)
    return model


def spread(model):
    """The model with weights drawn anew: a new network gives out zeros."""
    rng = np.random.RandomState(0)
    for weight in model.network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    return model


# One family everywhere, and all of them on JAX.
@pytest.mark.parametrize("kind", ["uvit", *(pytest.param(k, marks=pytest.mark.slow) for k in NETWORKS if k != "uvit")])
def test_every_network_learns_from_captions(kind):
    model = spread(make_model(kind, (4, 4, 3), train_text_encoder=True))
    images = np.random.default_rng(0).uniform(-1, 1, (8, 4, 4, 3)).astype("float32")
    data = {"images": images, "captions": TEXTS * 4}
    batches = kd.data.Batches(data, 8, captions=True, value_range=None)
    before = ops.convert_to_numpy(model.text_encoder.token_embedding.weights[0])
    losses = model.fit(batches, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and batches.transform is None, "`fit` leaves the data as they were"
    changed = np.abs(ops.convert_to_numpy(model.text_encoder.token_embedding.weights[0]) - before).max(axis=1) > 0
    assert changed[2:].all(), "what the network makes of words leads back to their vectors"


def test_what_is_drawn_does_not_depend_on_padding():
    model = spread(make_model(null_context=np.ones((5, 8)), null_context_mask=[True, True, False, False, False]))
    conditions = model.text_conditions(TEXTS)
    assert conditions["context_mask"].tolist() == [[True] * 4 + [False], [True] * 3 + [False] * 2]
    options = {"num_steps": 2, "seed": 0, "guidance_scale": 2.0}
    padding = ~conditions["context_mask"][..., None]
    samples = model.generate(2, conditions, **options)
    other = {**conditions, "context": np.where(padding, 9.0, conditions["context"])}
    np.testing.assert_allclose(model.generate(2, other, **options), samples, atol=1e-5)
    assert np.abs(model.generate(2, {"context": other["context"]}, **options) - samples).max() > 1e-3
    # The negative text has a mask of its own: another one than the null context's, which has two vectors.
    negative = {key: value[::-1] for key, value in conditions.items()}
    by_words = model.text_to_image(TEXTS, TEXTS[::-1], **options)
    np.testing.assert_allclose(
        model.generate(2, conditions, negative_conditions=negative, **options), by_words, atol=1e-5
    )
    unmasked = {"context": conditions["context"]}
    model.generate(2, unmasked, negative_conditions=negative, **options)  # all of the text counts, part of the other


def test_dropped_contexts_take_the_null_contexts_mask():
    null, mask = np.ones((5, 8), "float32"), np.array([True, False, False, False, False])
    model = make_model(null_context=null, null_context_mask=mask)
    conditions = {key: ops.convert_to_tensor(value) for key, value in model.text_conditions(TEXTS).items()}
    dropped = model.drop_conditions(conditions, drop=ops.convert_to_tensor([True, False]))
    masks = ops.convert_to_numpy(dropped["context_mask"])
    assert (masks[0] == mask).all() and (masks[1] == ops.convert_to_numpy(conditions["context_mask"])[1]).all()
    assert (ops.convert_to_numpy(dropped["context"])[0] == 1).all()
    assert set(null_conditions(model, like={"context": conditions["context"]})) == {"context"}
    again = TextToImage.from_config(model.get_config())
    assert (again.null_context_mask == mask).all() and again.text_encoder.pad_token == 0
    by_arrays = {"images": np.zeros((2, 3), "float32"), **model.text_conditions(TEXTS)}
    assert np.isfinite(model.evaluate(by_arrays, verbose=0)).all()
    assert "null_context_mask" not in make_model().get_config()


def test_bad_masks():
    model = make_model()
    context = np.zeros((1, 5, 8))
    with pytest.raises(ValueError, match=r"context_mask of shape \(1, 4\), context of shape \(1, 5, 8\)"):
        model.generate(1, {"context": context, "context_mask": np.ones((1, 4))})
    with pytest.raises(ValueError, match=r"context_mask of shape \(5,\), no context"):
        model.generate(1, {"context_mask": np.ones(5)})
    with pytest.raises(ValueError, match=r"null_context_mask of shape \(4,\), no null_context"):
        make_model(null_context_mask=np.ones(4))
