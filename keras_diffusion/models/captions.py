"""Words in data: what a text-to-image model puts in place of captions before a batch reaches the compiled step."""

import collections.abc
import contextlib

import numpy as np

from keras_diffusion.configs.checks import shown

#: Where a batch holds contexts of a cache, and their masks: unlike "context", they are dropped as captions are.
ENCODED, ENCODED_MASK = "encoded", "encoded_mask"


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


class ToContexts(ToTokens):
    """From a batch with captions to one with contexts from a cache.

    Args:
        tokenizer, labels: as in `ToTokens`.
        cached: `CachedTexts` with the contexts of all captions.
    """

    def __init__(self, tokenizer, labels, cached):
        super().__init__(tokenizer, labels)
        self.cached = cached

    def __call__(self, batch):
        if "captions" not in batch:
            return batch
        batch = super().__call__(batch)
        contexts, masks = self.cached.read(batch.pop("tokens"))
        return {**batch, ENCODED: contexts, **({} if masks is None else {ENCODED_MASK: masks})}


def texts_of(data):
    """All texts that data hold, a list; None where that is not known beforehand."""
    if isinstance(data, dict):
        return np.asarray(data.get("captions", []), dtype=object).tolist()
    if hasattr(data, "all_captions"):  # data.Batches
        return data.all_captions()
    return None if isinstance(data, collections.abc.Iterator) else []


@contextlib.contextmanager
def kept_transforms(*data):
    """A context after which `data.Batches` among `data` give out again what they gave out before."""
    before = [(batches, batches.transform) for batches in data if hasattr(batches, "all_captions")]
    try:
        yield
    finally:
        for batches, transform in before:
            batches.transform = transform
