"""keras-hub's encoders, by stand-ins with the names and shapes of its backbones and tokenizers."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
from keras_diffusion.text import from_keras_hub


class Letters:
    """A tokenizer like keras-hub's: no ends, nothing filled up."""

    start_token_id, end_token_id, pad_token_id = 1, 2, 0

    def __call__(self, texts):
        return [np.array([3 + "abc".index(letter) for letter in text], "int32") for text in texts]


class T5Letters(Letters):
    start_token_id = end_token_id = 1


def integers(name):
    return keras.Input((None,), dtype="int32", name=name)


def clip():
    """On tokens alone, a tensor comes out."""
    tokens = integers("token_ids")
    return keras.Model({"token_ids": tokens}, keras.layers.Embedding(6, 4)(tokens))


def t5():
    """Encoder and decoder, a dict comes out."""
    names = [f"{part}_{kind}" for part in ("encoder", "decoder") for kind in ("token_ids", "padding_mask")]
    given = {name: integers(name) for name in names}
    table = keras.layers.Embedding(6, 4)
    outputs = {}
    for part in ("encoder", "decoder"):
        mask = keras.layers.Reshape((-1, 1))(given[f"{part}_padding_mask"])
        outputs[f"{part}_sequence_output"] = keras.layers.Multiply()([table(given[f"{part}_token_ids"]), mask])
    return keras.Model(given, outputs)


def test_clips_form():
    encoder, tokenizer = from_keras_hub(clip(), Letters(), max_length=5)
    tokens = tokenizer(["ab", ""])
    assert tokens.tolist() == [[1, 3, 4, 2, 0], [1, 2, 0, 0, 0]] and tokens.dtype == "int32"
    assert encoder(tokens).shape == (2, 5, 4) and encoder.width == 4
    assert ops.convert_to_numpy(encoder.token_mask(tokens)).sum(axis=1).tolist() == [5, 3]
    with pytest.raises(ValueError, match="at most 5 tokens.*Received: 6 tokens from 'abca'"):
        tokenizer("abca")


def test_t5s_form():
    encoder, tokenizer = from_keras_hub(t5(), T5Letters(), max_length=4)
    assert tokenizer("ab").tolist() == [[3, 4, 1, 0]]
    encoded = ops.convert_to_numpy(encoder(tokenizer(["a", "abc"])))
    assert (encoded[0, 3] == 0).all() and (encoded[1] != 0).any(axis=1).all(), "the mask reaches the backbone"
    network = kd.networks.MLP((3,), width=8, depth=1, context_dim=encoder.width)
    options = {"noise_schedule": "cosine", "predictor": "v", "train_text_encoder": True, "seed": 0}
    model = kd.models.TextToImage(network, encoder, tokenizer, **options)
    assert model.text_conditions("a")["context_mask"].tolist() == [[True, True, True, False]]
    assert encoder.trainable_weights


@pytest.mark.slow
def test_other_models_are_refused():
    x = keras.Input((3,), name="x")
    for wrong in (keras.Model({"x": x}, x), keras.Model(x, x), "T5Backbone"):
        with pytest.raises(ValueError, match="on a dict with “token_ids”"):
            from_keras_hub(wrong, Letters(), 5)
    with pytest.raises(
        ValueError, match="encoder_sequence_output, decoder_sequence_output. Received: output_name='last'"
    ):
        from_keras_hub(t5(), Letters(), 5, output_name="last")
