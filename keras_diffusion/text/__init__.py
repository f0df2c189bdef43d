"""Text: from words to the context that steers a network."""

from keras_diffusion.text.clip_text_encoder import CLIPTextEncoder
from keras_diffusion.text.clip_tokenizer import CLIPTokenizer

__all__ = ["CLIPTextEncoder", "CLIPTokenizer"]
__dir__ = __all__.copy
