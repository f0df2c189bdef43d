"""Text: from words to the context that steers a network."""

from keras_diffusion.models.embedding_cache import EmbeddingCache
from keras_diffusion.text.clip_text_encoder import CLIPTextEncoder
from keras_diffusion.text.clip_tokenizer import CLIPTokenizer
from keras_diffusion.text.keras_hub import KerasHubEncoder, KerasHubTokenizer, from_keras_hub
from keras_diffusion.text.learned_words import learn_words, load_words, save_words
from keras_diffusion.text.small_encoder import small_encoder
from keras_diffusion.text.t5_encoder import T5Encoder
from keras_diffusion.text.text_encoder import TextEncoder, visible_tokens
from keras_diffusion.text.tokenizer import Tokenizer
from keras_diffusion.text.word_tokenizer import WordTokenizer

__all__ = [
    "CLIPTextEncoder",
    "CLIPTokenizer",
    "EmbeddingCache",
    "KerasHubEncoder",
    "KerasHubTokenizer",
    "T5Encoder",
    "TextEncoder",
    "Tokenizer",
    "WordTokenizer",
    "from_keras_hub",
    "learn_words",
    "load_words",
    "save_words",
    "small_encoder",
    "visible_tokens",
]
__dir__ = __all__.copy
