"""Textual inversion: new words learn, nothing else changes, and their files are diffusers'."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.checkpoints import CheckpointError
from keras_diffusion.containers.safetensors import write_safetensors

TEXTS = ["a red circle", "a blue square"]


def made(tokenizer=None, **options):
    """A model of 8×8 pictures that knows a few words."""
    keras.utils.set_random_seed(1)
    tokenizer = tokenizer or kd.text.WordTokenizer.from_texts(TEXTS, max_length=6)
    encoder = kd.text.CLIPTextEncoder(tokenizer.vocabulary_size, 6, width=8, depth=1, num_heads=2)
    network = kd.networks.UNet((8, 8, 3), widths=(8,), num_res_blocks=1, context_dim=8, attention=(True,))
    rng = np.random.default_rng(2)  # as if trained: a new network's output is 0 whatever the words
    network.set_weights([rng.normal(0, 0.2, w.shape) for w in network.get_weights()])
    return kd.models.TextToImage(network, encoder, tokenizer, noise_schedule="cosine", predictor="v", **options)


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.mark.parametrize("tokenizer", [kd.text.CLIPTokenizer(merges=["l a"], max_length=9), None])
def test_added_words_are_cut_out_of_texts(tokenizer):
    tokenizer = tokenizer or kd.text.WordTokenizer(["a"], 6)
    plain = tokenizer.encode("a"), tokenizer.encode("a .")
    n = tokenizer.vocabulary_size
    tokenizer.add_words({"<x>": 2, "<x>y": 1})
    assert tokenizer.vocabulary_size == n and tokenizer.encode("a") == plain[0]
    assert [token for token in tokenizer.encode("<x>y a<x>.") if token >= n] == [n + 2, n, n + 1]
    assert [token for token in tokenizer.encode("a<x>.") if token < n] == plain[1]
    again = type(tokenizer).from_config(tokenizer.get_config())
    np.testing.assert_array_equal(again(["<x> a", "<x>y"]), tokenizer(["<x> a", "<x>y"]))
    for words, match in [({"<x>": 1}, "once"), ({"a b": 1}, "white space"), ({"<z>": 0}, "1"), ([("z", 1)], "word")]:
        with pytest.raises((ValueError, TypeError), match=match):
            tokenizer.add_words(words)


def test_only_the_new_word_learns(tmp_path):
    model = made()
    before = model.encode_text(TEXTS)
    model.compile(keras.optimizers.Adam(0.05))
    kd.text.learn_words(model, {"<lamp>": "red circle"})
    np.testing.assert_allclose(model.encode_text("a <lamp>"), model.encode_text("a red circle"), atol=1e-6)
    kept = [ops.convert_to_numpy(v) for v in model.network.weights + model.text_encoder.blocks[0].weights]
    assert [v.shape for v in model.trainable_variables] == [(2, 8)]
    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("uint8")
    model.fit({"images": pictures, "captions": ["a <lamp>"] * 4}, epochs=2, batch_size=4, verbose=0)
    assert np.abs(model.encode_text("a <lamp>") - model.encode_text("a red circle")).max() > 1e-3
    np.testing.assert_allclose(model.encode_text(TEXTS), before, atol=1e-6)
    for old, new in zip(kept, model.network.weights + model.text_encoder.blocks[0].weights, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))

    path = kd.text.save_words(model, tmp_path / "lamp.safetensors")
    other = made()
    assert kd.text.load_words(other, path) == ["<lamp>"]
    np.testing.assert_allclose(other.encode_text("a <lamp>"), model.encode_text("a <lamp>"), atol=1e-6)
    assert kd.text.load_words(other, path, word="<other>") == ["<other>"]
    np.testing.assert_allclose(other.encode_text("a <other>"), model.encode_text("a <lamp>"), atol=1e-6)

    model.save_to_preset(tmp_path / "preset")
    again = kd.DiffusionModel.from_preset(tmp_path / "preset")
    np.testing.assert_allclose(again.encode_text("a <lamp>"), model.encode_text("a <lamp>"), atol=1e-6)


def test_files_of_others(tmp_path):
    model = made()
    write_safetensors(tmp_path / "cat.safetensors", {"emb_params": np.ones((3, 8), "float16")})
    write_safetensors(tmp_path / "one.safetensors", {"<toy>": np.ones(8, "float32")})
    assert kd.text.load_words(model, tmp_path / "cat.safetensors") == ["<cat>"]
    assert kd.text.load_words(model, tmp_path / "one.safetensors") == ["<toy>"]
    assert model.tokenizer.added_words.counts == {"<cat>": 3, "<toy>": 1}
    with pytest.raises(ValueError, match="once"):
        kd.text.load_words(model, tmp_path / "one.safetensors")
    for name, tensors in {
        "wide": {"<w>": np.ones(9, "float32")},
        "deep": {"<w>": np.ones((1, 1, 8), "float32")},
        "many": {"<w>": np.ones((100, 8), "float32")},
    }.items():
        write_safetensors(tmp_path / f"{name}.safetensors", tensors)
        with pytest.raises((CheckpointError, ValueError), match=r"8 numbers|64"):
            kd.text.load_words(model, tmp_path / f"{name}.safetensors")
    assert model.text_encoder.learned_words == 4, "a refused file left something behind"


def test_what_cannot_learn_words_says_so(model, tmp_path):
    for words, match in [({}, "one word or more"), ({"a b": "red"}, "white space"), ({"<x>": " "}, "one word")]:
        with pytest.raises(ValueError, match=match):
            kd.text.learn_words(model, words)
    with pytest.raises(ValueError, match="no added words"):
        kd.text.save_words(model, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="CLIPTextEncoder"):
        kd.text.learn_words(kd.DiffusionModel(model.network), {"<x>": "red"})
    with pytest.raises(ValueError, match="text_cache"):
        kd.text.learn_words(made(text_cache=tmp_path / "cache"), {"<x>": "red"})
    with pytest.raises(ValueError, match="average"):
        kd.text.learn_words(made(ema=0.9, train_text_encoder=True), {"<x>": "red"})
