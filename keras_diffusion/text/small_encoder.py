"""A text encoder made for one's own captions: small enough to be trained together with the network that it steers."""

from keras_diffusion.configs.checks import check_flag, check_whole
from keras_diffusion.text.clip_text_encoder import CLIPTextEncoder
from keras_diffusion.text.word_tokenizer import PAD, WordTokenizer


def small_encoder(texts, width=64, depth=2, num_heads=4, max_length=None, min_count=1, hide_padding=False):
    """An encoder with new weights, and the tokenizer of some captions.

    The encoder is CLIP's in small: 100,000 weights with the defaults, and 64 for each word.

    Args:
        texts: all captions, strings or tuples of strings, such as `data.load("shapes").source.captions`.
        width: channels; the network's `context_dim`. Default 64.
        depth: number of transformer blocks. Default 2.
        num_heads: heads per block; must divide `width`. Default 4.
        max_length: tokens of a text. None (default): those of the longest of `texts`.
        min_count: words that are rarer are all one token. Default 1.
        hide_padding: whether the network sees nothing of what fills short texts up. Default False.

    Returns:
        (`CLIPTextEncoder`, `WordTokenizer`).

    Raises:
        ValueError: texts without words; heads that do not divide the width.

    Example:

    >>> encoder, tokenizer = kd.text.small_encoder(["a red apple", "a green pear"])
    >>> encoder(tokenizer("a red pear")).shape
    (1, 3, 64)
    """
    check_whole("width", width, 1), check_whole("depth", depth, 0), check_flag("hide_padding", hide_padding)
    tokenizer = WordTokenizer.from_texts(texts, max_length, min_count)
    options = {"width": width, "depth": depth, "num_heads": num_heads, "activation": "gelu"}
    options |= {"pad_token": PAD} if hide_padding else {}
    return CLIPTextEncoder(tokenizer.vocabulary_size, tokenizer.max_length, **options), tokenizer
