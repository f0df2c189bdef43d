"""Textual inversion: a new word learns what a handful of pictures show, and nothing else changes.

    learn_words(model, {"<lamp>": "lamp"})      the word, which starts as "lamp"; all else is frozen
    model.fit({"images": …, "captions": …})     captions such as "a photo of a <lamp>"
    save_words(model, "lamp.safetensors")       a few kilobytes, which diffusers reads as well
    load_words(model, "lamp.safetensors")       into any model with the same text encoder

The loss is the usual one; its gradient goes through the frozen network and encoder to the vectors of the word.

Reference: Gal et al., "An image is worth one word: personalizing text-to-image generation using textual inversion",
arXiv:2208.01618.
"""

from pathlib import Path

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.safetensors import write_safetensors
from keras_diffusion.models.adapters import forget_programs
from keras_diffusion.runtime.finite import check_finite_arrays
from keras_diffusion.text.clip_text_encoder import CLIPTextEncoder

_UNNAMED = "emb_params"  # what the file of one word without a name calls it


def learn_words(model, words):
    """Adds words to a model and freezes all else, so that `fit` trains their vectors alone.

    A compiled model is compiled anew, with an optimizer of the same config. Pictures of other captions do not change.

    Args:
        model: `models.TextToImage` with a `CLIPTextEncoder`, without adapters.
        words: dict from each new word, without white space, such as "<lamp>", to the text that it starts as: "lamp". It
            gets as many tokens as that text has.

    Raises:
        ValueError: another kind of model, encoder or tokenizer; a model with a `text_cache`; a word that it has; a text
            without tokens.

    Example:

    >>> kd.text.learn_words(model, {"<lamp>": "brass lamp"})
    >>> model.compile(keras.optimizers.AdamW(5e-3))
    >>> model.fit({"images": pictures, "captions": ["a photo of a <lamp>"] * len(pictures)}, epochs=200, batch_size=4)
    >>> images = model.text_to_image("an oil painting of a <lamp>")
    """
    encoder, tokenizer = _parts(model)
    if model.text_cache is not None:
        raise ValueError(
            "A cache of contexts is for a text encoder of which nothing learns. Received: a model with a text_cache. "
            "Set model.text_cache = None first"
        )
    starts = {word: _tokens_of(tokenizer, text) for word, text in words.items()}
    if not starts:
        raise ValueError("learn_words adds one word or more. Received: none")
    table = ops.convert_to_numpy(encoder.embed(np.concatenate(list(starts.values()))[None]))[0]
    _add(model, {word: len(tokens) for word, tokens in starts.items()}, table)
    model.network.trainable = False
    encoder.trainable = True
    for layer in (encoder.token_embedding, encoder.position_embedding, *encoder.blocks, encoder.norm):
        layer.trainable = False
    forget_programs(model)


def save_words(model, path):
    """Writes the added words of a model, and nothing else, first under a temporary name.

    Args:
        model: `models.TextToImage` after `learn_words` or `load_words`.
        path: the file, `.safetensors`; an existing one is replaced.

    Returns:
        the path, as `pathlib.Path`.

    Raises:
        ValueError: a model without added words; a path that does not end in ".safetensors".
        FloatingPointError: vectors that are NaN or infinite; a file that is there stays.
    """
    path, (encoder, tokenizer) = Path(path), _parts(model)
    if path.suffix != ".safetensors":
        raise ValueError(f"Words are written as .safetensors. Received: path={str(path)!r}")
    counts = tokenizer.added_words.counts
    if not counts:
        raise ValueError("The model has no added words to write. Add some by learn_words(model, {word: text}) first")
    table = ops.convert_to_numpy(encoder.learned_embedding.embeddings)
    vectors = np.split(table, np.cumsum(list(counts.values()))[:-1])
    tensors = {word: np.ascontiguousarray(v) for word, v in zip(counts, vectors, strict=True)}
    check_finite_arrays(tensors, f"The file {str(path)!r}")
    write_safetensors(path, tensors)
    return path


def load_words(model, path, word=None):
    """Adds the words of a file: of `save_words`, of diffusers, or of others that hold one word as "emb_params".

    Args:
        model: `models.TextToImage` with a `CLIPTextEncoder`.
        path: the file, `.safetensors`.
        word: another name for the word of a file with one. None (default): the file's own, or for "emb_params" the
            file's name between “<” and “>”.

    Returns:
        list of the words, strings.

    Raises:
        CheckpointError: a damaged file, or vectors of another width.
        ValueError: a word that the model has; `word` for a file of several.
    """
    encoder, _ = _parts(model)
    container = open_container(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in container.tensors.items()}
    wrong = {name: shape for name, shape in shapes.items() if len(shape) not in (1, 2) or shape[-1] != encoder.width}
    if wrong or not shapes:
        listed = ", ".join(f"{clip(name)} of shape {shape}" for name, shape in list(wrong.items())[:3])
        raise CheckpointError(
            f"A word of this model is one or more vectors of {encoder.width} numbers. Received: {listed or 'nothing'}",
            container.path,
        )
    found = {name: np.atleast_2d(container.read(name).astype("float32")) for name in shapes}
    if word is not None and len(found) > 1:
        raise ValueError(f"word= names the word of a file with one. Received: word={shown(word)}, {len(found)} words")
    if word is None and _UNNAMED in found:
        word = f"<{Path(path).stem}>"
    if word is not None:
        found = {word: next(iter(found.values()))}
    check_finite_arrays(found, f"The file {str(path)!r}")
    _add(model, {name: len(vectors) for name, vectors in found.items()}, np.concatenate(list(found.values())))
    forget_programs(model)
    return list(found)


def _add(model, counts, vectors):
    """Adds words to tokenizer and encoder, and the encoder's places to what is compiled with them."""
    model.tokenizer.add_words(counts)  # raises before anything is changed
    model.text_encoder.add_words(vectors)


def _tokens_of(tokenizer, text):
    """The tokens of a text, without those of start and end."""
    ends = {getattr(tokenizer, name, None) for name in ("start_token", "end_token")}
    tokens = [token for token in tokenizer.encode(text) if token not in ends]
    if not tokens:
        raise ValueError(f"A new word starts as a text of one word or more. Received: {shown(text)}")
    return np.array(tokens, "int32")


def _parts(model):
    """Encoder and tokenizer of a model that can learn words."""
    encoder, tokenizer = getattr(model, "text_encoder", None), getattr(model, "tokenizer", None)
    if not isinstance(encoder, CLIPTextEncoder) or not hasattr(tokenizer, "add_words"):
        raise ValueError(
            "Words are learned by models with a CLIPTextEncoder, and a CLIPTokenizer or WordTokenizer. Received: a "
            f"{type(model).__name__} with a {type(encoder).__name__} and a {type(tokenizer).__name__}"
        )
    if model.text_average is not None:
        raise ValueError(
            "Words are learned by models whose text encoder has no average. Received: train_text_encoder=True and an "
            "ema. Make the model with train_text_encoder=False"
        )
    if encoder.adapters or model.network.adapters:
        raise ValueError("Words are learned without adapters. Call merge_lora() or remove_lora() of the model first")
    return encoder, tokenizer
