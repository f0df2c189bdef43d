"""`TextToImage.fit`: captions, tokens and contexts; what is dropped; the text encoder and its average."""

import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.models import TextToImage

TEXTS = ["a red", "a green", "a blue"]
COLOURS = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1]], "float32")


def make_model(train=True, ema=0.9, **options):
    kd.keras.utils.set_random_seed(0)
    encoder, tokenizer = kd.text.small_encoder(TEXTS, width=8, depth=1, num_heads=2)
    network = kd.networks.MLP((3,), width=32, depth=2, context_dim=8)
    options = {"noise_schedule": "cosine", "predictor": "v", "seed": 0, **options}
    model = TextToImage(network, encoder, tokenizer, ema=ema, train_text_encoder=train, **options)
    model.value_range = None
    model.compile(kd.keras.optimizers.Adam(1e-2))
    return model


def data(n=96):
    kinds = np.random.default_rng(0).integers(0, 3, n)
    return {"images": COLOURS[kinds], "captions": [TEXTS[k] for k in kinds]}, kinds


def weights_of(layer):
    return [ops.convert_to_numpy(w).copy() for w in layer.weights]


@pytest.fixture(scope="module")
def trained():
    model = make_model()
    before = weights_of(model.text_encoder)
    losses = model.fit(data()[0], batch_size=32, epochs=60, verbose=0).history["loss"]
    return model, before, losses


def test_it_draws_what_is_said(trained):
    model, _, losses = trained
    assert losses[-1] < 0.5 * losses[0]
    points = model.text_to_image([*TEXTS, "a blue"], guidance_scale=1.0, num_steps=10, seed=1)
    right = COLOURS[[0, 1, 2, 2]]
    assert np.abs(points - right).max() < 0.6, points
    mixed = model.text_to_image("", num_samples=60, guidance_scale=1.0, num_steps=10, seed=1)
    nearest = np.argmin(((mixed[:, None] - COLOURS) ** 2).sum(-1), axis=1)
    assert np.bincount(nearest, minlength=3).min() > 3, "without words, all colours"


def test_the_encoder_is_trained_and_averaged(trained):
    model, before, _ = trained
    now, average = weights_of(model.text_encoder), weights_of(model.text_average.network)
    assert all(np.abs(a - b).max() > 0 for a, b in zip(now, before))
    assert any(np.abs(a - b).max() > 0 for a, b in zip(now, average))
    ema, raw = model.encode_text(TEXTS), model.encode_text(TEXTS, weights="raw")
    np.testing.assert_allclose(ema, model.text_average.network(model.tokenizer(TEXTS)), atol=1e-5)
    assert np.abs(ema - raw).max() > 0


def test_a_preset_keeps_words_encoder_and_average(trained, tmp_path, difference):
    model = trained[0]
    model.save_to_preset(tmp_path / "preset")
    again = kd.DiffusionModel.from_preset(tmp_path / "preset")
    assert isinstance(again, TextToImage) and again.train_text_encoder and difference(again, model) == 0
    options = {"num_steps": 3, "seed": 0, "guidance_scale": 2.0}
    np.testing.assert_allclose(
        again.text_to_image("a red", **options), model.text_to_image("a red", **options), atol=1e-6
    )


@pytest.mark.slow
def test_captions_tokens_and_batches_are_the_same_data():
    arrays, kinds = data(32)
    losses = []
    for x in (
        arrays,
        {"images": arrays["images"], "tokens": make_model().tokenizer(arrays["captions"])},
        kd.data.load(arrays, batch_size=32, shuffle=False, captions=True, value_range=None),
        iter([arrays]),
        kd.data.load({**arrays, "labels": kinds}, batch_size=32, shuffle=False, captions=True, value_range=None),
    ):
        losses.append(make_model().fit(x, batch_size=32, shuffle=False, steps_per_epoch=1, verbose=0).history["loss"])
    np.testing.assert_allclose(losses, np.broadcast_to(losses[0], np.shape(losses)), rtol=1e-5)
    model = make_model(train=False)
    context = model.encode_text(arrays["captions"])
    by_words = model.evaluate(arrays, batch_size=32, verbose=0)
    np.testing.assert_allclose(
        by_words, model.evaluate({"images": arrays["images"], "context": context}, batch_size=32, verbose=0), rtol=1e-4
    )


def test_dropped_captions_are_the_empty_text():
    arrays, _ = data(32)
    model = make_model(condition_dropout=1.0)
    tokens = ops.convert_to_tensor(model.tokenizer(arrays["captions"]))
    dropped = model.drop_conditions({"tokens": tokens}, drop=ops.ones((32,), "bool"))
    np.testing.assert_array_equal(dropped["tokens"], np.broadcast_to(model.tokenizer(""), tokens.shape))
    before = weights_of(model.text_encoder)
    model.fit(arrays, batch_size=32, epochs=3, verbose=0)
    changed = np.abs(weights_of(model.text_encoder.token_embedding)[0] - before[0]).max(axis=1) > 0
    assert changed.tolist() == [True] + 5 * [False], "no word was seen, only the padding"


@pytest.mark.slow
def test_a_frozen_encoder_stays(difference):
    model = make_model(train=False)
    before = weights_of(model.text_encoder)
    model.fit(data(32)[0], batch_size=32, verbose=0)
    assert model.text_average is None and all((a == b).all() for a, b in zip(weights_of(model.text_encoder), before))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"images": COLOURS, "captions": ["red", "green", 3]}, "one text for each picture. Received: 3 as caption 2"),
        ({"images": COLOURS, "captions": [["red"], ["red"], ["red"]]}, "Several for each are for data.load"),
        ({"images": COLOURS, "captions": ["a red red", "", ""]}, "at most 2 words"),
        ({"images": COLOURS, "captions": ["red", "green"]}, "3|2"),
        ({"images": COLOURS}, "missing: context"),
        (kd.data.Batches(COLOURS, 3, value_range=None), "learns from pictures with words.*captions=True"),
    ],
)
def test_bad_captions(x, message):
    with pytest.raises(ValueError, match=message):
        make_model().fit(x, batch_size=3, verbose=0)


def test_the_network_takes_what_the_encoder_gives():
    encoder, tokenizer = kd.text.small_encoder(TEXTS, width=8, depth=0, num_heads=2)
    for network in (kd.networks.MLP((3,), width=8, depth=1, context_dim=6), kd.networks.MLP((3,), width=8, depth=1)):
        with pytest.raises(ValueError, match="an encoder of width 8. Make it with context_dim=8"):
            TextToImage(network, encoder, tokenizer)


@pytest.mark.slow
def test_worker_processes_can_tokenize():
    import pickle

    batches = kd.data.load(data(8)[0], batch_size=4, shuffle=False, captions=True, value_range=None)
    model = make_model()
    tokens = model.tokenized(batches)[1]["tokens"]
    assert tokens.shape == (4, 2) and (pickle.loads(pickle.dumps(batches))[1]["tokens"] == tokens).all()


@pytest.mark.slow
def test_images_from_words_have_the_networks_size():
    kd.keras.utils.set_random_seed(0)
    encoder, tokenizer = kd.text.small_encoder(TEXTS, width=8, depth=0, num_heads=2)
    network = kd.networks.UNet((8, 8, 3), widths=(8,), num_res_blocks=1, context_dim=8)
    model = TextToImage(network, encoder, tokenizer, noise_schedule="cosine", predictor="v")
    assert model.text_to_image(["red", "blue"], num_steps=1).shape == (2, 8, 8, 3)
