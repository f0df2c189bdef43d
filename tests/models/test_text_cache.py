"""Contexts of a frozen encoder on disk: the same training, and nothing stale."""

import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.models import TextToImage

TEXTS = ["a red one", "a green", ""]
DATA = {"images": np.eye(3, dtype="float32"), "captions": TEXTS}


def make_model(cache=None, hide_padding=True, **options):
    kd.keras.utils.set_random_seed(0)
    encoder, tokenizer = kd.text.small_encoder(TEXTS, width=8, depth=1, num_heads=2, hide_padding=hide_padding)
    network = kd.networks.MLP((3,), width=8, depth=1, context_dim=8)
    rng = np.random.RandomState(0)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(scale=0.3, size=weight.shape))  # larger ones let the training diverge
    options = {"noise_schedule": "cosine", "predictor": "v", "seed": 0, "condition_dropout": 0.4, **options}
    model = TextToImage(network, encoder, tokenizer, text_cache=cache, **options)
    model.value_range = None
    jit_compile = False if kd.keras.backend.backend() == "tensorflow" else "auto"
    model.compile(kd.keras.optimizers.SGD(1e-2), jit_compile=jit_compile)
    return model


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def losses(model, data=DATA, **options):
    return model.fit(data, batch_size=3, shuffle=False, epochs=4, verbose=0, **options).history["loss"]


@pytest.mark.slow
def test_training_from_the_cache_is_training_without(tmp_path):
    expected = losses(make_model())
    model = make_model(tmp_path)
    batches = kd.data.Batches(DATA, 3, shuffle=False, captions=True, value_range=None)
    np.testing.assert_allclose(losses(model, batches), expected, rtol=1e-5)
    written = files(tmp_path)
    assert len(written) == 3 and {path.stat().st_size for path in written} == {3 * 8 * 4 + 3}
    stamps = [path.stat().st_mtime_ns for path in written]
    assert make_model(tmp_path).tokenized(DATA)["encoded"].shape == (3, 3, 8)
    assert [path.stat().st_mtime_ns for path in files(tmp_path)] == stamps, "nothing is encoded twice"


def test_another_encoder_finds_nothing_of_the_old_one(tmp_path):
    model = make_model(tmp_path)
    first = model.tokenized(DATA)["encoded"]
    np.testing.assert_allclose(first, model.encode_text(TEXTS), rtol=1e-5, atol=1e-5)
    weight = model.text_encoder.norm.trainable_variables or model.text_encoder.norm.variables
    weight[0].assign(2 * ops.convert_to_tensor(weight[0]))
    second = model.tokenized(DATA)
    np.testing.assert_allclose(second["encoded"], model.encode_text(TEXTS), rtol=1e-5, atol=1e-5)
    assert np.abs(second["encoded"] - first).max() > 0.1 and len(files(tmp_path)) == 6
    np.testing.assert_array_equal(second["encoded_mask"], model.text_conditions(TEXTS)["context_mask"])
    dropped = model.drop_conditions(
        {key: ops.convert_to_tensor(second[key]) for key in ("encoded", "encoded_mask")}, drop=ops.ones((3,), "bool")
    )
    empty = ops.convert_to_numpy(dropped["encoded"])[0]
    np.testing.assert_allclose(empty, model.encode_text("")[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_half_precision_and_encoders_without_masks(tmp_path):
    import pickle

    model = make_model(kd.text.EmbeddingCache(tmp_path, dtype="float16"), hide_padding=False)
    batches = kd.data.Batches(DATA, 3, shuffle=False, captions=True, value_range=None)
    batch = pickle.loads(pickle.dumps(model.tokenized(batches)))[0]  # as worker processes have it
    assert set(batch) == {"images", "encoded"} and files(tmp_path)[0].stat().st_size == 3 * 8 * 2
    np.testing.assert_allclose(batch["encoded"], model.encode_text(TEXTS), atol=2e-3)
    for variable in model.text_encoder.norm.variables:
        variable.assign(np.full(variable.shape, 1e6))
    with pytest.raises(ValueError, match="float16 can hold.*Use dtype='float32'"):
        model.tokenized(batches)


@pytest.mark.slow
def test_damage_and_wrong_uses_are_named(tmp_path):
    model = make_model(tmp_path)
    batches = kd.data.Batches(DATA, 3, shuffle=False, captions=True, value_range=None)
    model.tokenized(batches)
    files(tmp_path)[0].write_bytes(b"short")
    with pytest.raises(ValueError, match="missing or has another size.*call fit again"):
        batches[0]
    model.tokenized(batches)
    assert batches[0]["encoded"].shape == (3, 3, 8), "what is damaged is written anew"
    with pytest.raises(ValueError, match="known beforehand.*Leave text_cache out"):
        model.fit(iter([DATA]), steps_per_epoch=1, verbose=0)
    with pytest.raises(ValueError, match="changes with every step"):
        make_model(tmp_path, train_text_encoder=True)
    with pytest.raises(ValueError, match="dtype"):
        kd.text.EmbeddingCache(tmp_path, dtype="int8")
    assert "text_cache" not in model.get_config()
