"""The text encoder's own learning rate: what it scales, on every backend and through resuming."""

import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.models import TextToImage

TEXTS = ["a red", "a green"]
DATA = {"images": np.eye(2, 3, dtype="float32"), "captions": TEXTS}


def make_model(factor=None, optimizer=None, **options):
    kd.keras.utils.set_random_seed(0)
    encoder, tokenizer = kd.text.small_encoder(TEXTS, width=8, depth=1, num_heads=2)
    network = kd.networks.MLP((3,), width=8, depth=1, context_dim=8)
    rng = np.random.RandomState(0)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    options = {"noise_schedule": "cosine", "predictor": "v", "seed": 0, "train_text_encoder": True, **options}
    model = TextToImage(network, encoder, tokenizer, text_learning_rate=factor, **options)
    model.value_range = None
    # TensorFlow without its compiler, which takes the most of the time.
    jit_compile = False if kd.keras.backend.backend() == "tensorflow" else "auto"
    model.compile(optimizer or kd.keras.optimizers.AdamW(1e-2, weight_decay=0.1), jit_compile=jit_compile)
    return model


def values(layer):
    return [ops.convert_to_numpy(weight).copy() for weight in layer.trainable_weights]


def changes(model, **options):
    """What a step changes in the network and in the text encoder."""
    before = values(model.network), values(model.text_encoder)
    model.fit(DATA, batch_size=2, shuffle=False, verbose=0, **options)
    after = values(model.network), values(model.text_encoder)
    return [[new - old for new, old in zip(*pair)] for pair in zip(after, before)]


def test_the_encoders_steps_are_scaled_and_the_networks_are_not():
    network, encoder = changes(make_model())
    model = make_model(0.1)
    model.compile(model.optimizer, jit_compile=model.jit_compile)  # again: scaled once
    same, scaled = changes(model)
    assert max(np.abs(change).max() for change in encoder) > 5e-3
    for a, b in zip(network, same):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for whole, tenth in zip(encoder, scaled):
        np.testing.assert_allclose(tenth, 0.1 * whole, atol=2e-6)  # with its weight decay


@pytest.mark.slow
def test_a_resumed_run_goes_on_the_same_way(tmp_path):
    whole, first, second = make_model(0.1), make_model(0.1), make_model(0.1)
    whole.fit(DATA, batch_size=2, shuffle=False, epochs=4, verbose=0)
    for model, epochs in ((first, 2), (second, 4)):
        callback = kd.callbacks.Resume(tmp_path)
        model.fit(DATA, batch_size=2, shuffle=False, epochs=epochs, callbacks=[callback], verbose=0)
    for a, b in zip(values(whole), values(second)):
        np.testing.assert_array_equal(a, b)


def test_the_rate_is_kept_and_checked():
    model = make_model(0.1)
    assert TextToImage.from_config(model.get_config()).text_learning_rate == 0.1
    assert "text_learning_rate" not in make_model().get_config()
    with pytest.raises(ValueError, match="frozen text encoder does not learn. Received: text_learning_rate=0.1"):
        make_model(0.1, train_text_encoder=False)
    with pytest.raises(ValueError, match="> 0"):
        make_model(0)
