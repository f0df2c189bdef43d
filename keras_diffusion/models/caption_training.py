"""Training on captions: what `fit` and its like make of words before a batch reaches the compiled step.

captions ── tokenizer ──▶ "tokens"                                     encoded in the step
         ── tokenizer, cache on disk ──▶ "encoded", "encoded_mask"     encoded once, before the first step
"""

import collections.abc

import numpy as np

from keras_diffusion.models.captions import ENCODED, ENCODED_MASK, ToContexts, ToTokens, kept_transforms, texts_of
from keras_diffusion.models.diffusion_model import DiffusionModel


class CaptionTraining(DiffusionModel):
    """The part of `TextToImage` that reads captions; that class has the attributes `tokenizer`, `text_encoder` and
    `text_cache`.
    """

    _null_tokens = _cached = None

    @property
    def null_tokens(self):
        """Tokens of the empty text, int32 `(1, L)`."""
        if self._null_tokens is None:
            self._null_tokens = np.asarray(self.tokenizer([""]), "int32")
        return self._null_tokens

    def batch_keys(self, data):
        """The network's conditions; where the batch has "tokens", these in place of "context", or what a cache gave."""
        found = [key for key in ("tokens", ENCODED) if isinstance(data, dict) and key in data]
        keys = tuple(found[0] if key == "context" and found else key for key in super().batch_keys(data))
        return (*keys, ENCODED_MASK) if found == [ENCODED] and ENCODED_MASK in data else keys

    def fit(self, x=None, y=None, **kwargs):
        """As `DiffusionModel.fit`, also on captions.

        Args:
            x: as there. A dict of arrays may hold texts under "captions"; so may what a generator yields, and
                `data.Batches` made with `captions=True`. Labels that the network does not take are left out.
            y: None.
            kwargs: as there; `validation_data` likewise.

        Raises:
            ValueError: as there; batches without words; texts of too many tokens.
        """
        validation, parts = kwargs.get("validation_data"), ()
        if validation is not None:
            parts = validation if isinstance(validation, tuple) else (validation,)
        with kept_transforms(x, *parts):
            if parts:
                parts = (self.tokenized(parts[0]), *parts[1:])
                kwargs["validation_data"] = parts if isinstance(validation, tuple) else parts[0]
            return super().fit(self.tokenized(x), y, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        """As `DiffusionModel.evaluate`, also on captions."""
        with kept_transforms(x):
            within_fit = kwargs.get("_use_cached_eval_dataset")  # which has seen to the data
            return super().evaluate(x if within_fit else self.tokenized(x), y, **kwargs)

    def train_on_batch(self, x, *args, **kwargs):
        """As `DiffusionModel.train_on_batch`, also on captions."""
        return super().train_on_batch(self.tokenized(x), *args, **kwargs)

    def test_on_batch(self, x, *args, **kwargs):
        """As `DiffusionModel.test_on_batch`, also on captions."""
        return super().test_on_batch(self.tokenized(x), *args, **kwargs)

    def tokenized(self, data):
        """Data with tokens in place of captions, or with contexts where there is a cache.

        Args:
            data: a dict with texts under "captions", an iterator or a grain data set of such dicts, or `data.Batches`,
                which are told to give tokens out; anything else passes.

        Returns:
            the same kind of data.

        Raises:
            ValueError: batches without captions, contexts or tokens; captions that are no texts; too long a text.
        """
        to_tokens = self._reader(data)
        if isinstance(data, dict):
            return to_tokens(data)
        if hasattr(data, "all_captions"):  # data.Batches
            if data.captions is False and "context" not in data.source[0]:
                raise ValueError(
                    "A text-to-image model learns from pictures with words. Received: batches without captions, "
                    f"{data!r}. Make them with captions=True, or with a template of the class's name, as "
                    "captions='a photo of a {}'"
                )
            data.transform = to_tokens
        elif isinstance(data, collections.abc.Iterator):
            return (to_tokens(batch) if isinstance(batch, dict) else batch for batch in data)
        elif type(data).__module__.startswith("grain.") and hasattr(data, "map"):
            return data.map(to_tokens)
        return data

    def _reader(self, data):
        """The function from batches of `data` with captions to those that the step takes; it fills the cache first."""
        labels = "labels" in self.condition_keys
        to_tokens = ToTokens(self.tokenizer, labels)
        if self.text_cache is None:
            return to_tokens
        texts = texts_of(data)
        if texts is None:
            raise ValueError(
                "A cache holds the contexts of captions that are known beforehand: those of data.Batches or of arrays. "
                f"Received: a {type(data).__name__}. Leave text_cache out"
            )
        cached = self.text_cache.of(self._encoded, self.text_encoder, self.null_tokens)
        if self._cached is None or cached.folder != self._cached.folder:
            # The compiled steps hold the empty text's context.
            self._cached, self.train_function, self.test_function = cached, None, None
        if texts:
            cached.fill(to_tokens({"captions": texts})["tokens"], self._encoded)
        return ToContexts(self.tokenizer, labels, cached)

    def null_encoded(self):
        """What replaces contexts of the cache that training drops: those of the empty text.

        Returns:
            dict with the keys of batches, arrays with one row.
        """
        contexts, masks = self._cached.read(self.null_tokens)
        return {ENCODED: contexts, **({} if masks is None else {ENCODED_MASK: masks})}
