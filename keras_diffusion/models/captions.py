"""Words in data: what a text-to-image model puts in place of captions before a batch reaches the compiled step."""

import contextlib

import numpy as np

from keras_diffusion.configs.checks import shown


class ToTokens:
    """From a batch with captions to one with tokens; it can be sent to worker processes, as a model cannot.

    Args:
        tokenizer: function from a list of texts to tokens `(N, L)`.
        labels: whether labels beside the captions stay.
    """

    def __init__(self, tokenizer, labels):
        self.tokenizer, self.left_out = tokenizer, ("captions",) if labels else ("captions", "labels")

    def __call__(self, batch):
        if "captions" not in batch:
            return batch
        texts = np.asarray(batch["captions"], dtype=object).tolist()
        wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise ValueError(
                f"Captions are one text for each picture. Received: {shown(texts[wrong])} as caption {wrong}. Several "
                "for each are for data.load(…, captions=True), which draws one"
            )
        rest = {key: value for key, value in batch.items() if key not in self.left_out}
        return {**rest, "tokens": np.asarray(self.tokenizer(texts), "int32")}


@contextlib.contextmanager
def kept_transforms(*data):
    """A context after which `data.Batches` among `data` give out again what they gave out before."""
    before = [(batches, batches.transform) for batches in data if hasattr(batches, "all_captions")]
    try:
        yield
    finally:
        for batches, transform in before:
            batches.transform = transform
