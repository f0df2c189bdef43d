"""Conditions of real samples, for generated ones to follow: labels, contexts, captions."""

import numpy as np

from keras_diffusion.networks.network import MASK_KEY

_TEXTS = 64  # texts that are encoded together


def conditions_of(model, samples, rows, guidance_scale, weights):
    """The conditions of real samples, as arguments of `generate`.

    Args:
        model: `DiffusionModel`.
        samples: dict of arrays, as `read_samples` returns it.
        rows: int array, which of the samples.
        guidance_scale: 1 is none; else a text model is told the empty text too.
        weights: "ema" or "raw", of a text encoder that was trained.

    Returns:
        dict with "conditions" and perhaps "negative_conditions"; empty where the model or the data have none.
    """
    if hasattr(model, "text_conditions") and "captions" in samples:
        texts = [str(text) for text in samples["captions"][rows]]
        given = {
            "conditions": {**_encoded(model, texts, weights), **_plain(model, samples, rows, ("labels", "concat"))}
        }
        guided = {"negative_conditions": model.text_conditions("", weights)} if guidance_scale != 1.0 else {}
        return given | guided
    found = _plain(model, samples, rows, ("labels", "context", MASK_KEY, "concat"))
    return {"conditions": found} if found else {}


def _plain(model, samples, rows, keys):
    known = (*model.condition_keys, *((MASK_KEY,) if "context" in model.condition_keys else ()))
    return {key: samples[key][rows] for key in keys if key in samples and key in known}


def _encoded(model, texts, weights):
    """Texts as conditions, each different one encoded once, some at a time."""
    different = list(dict.fromkeys(texts))
    parts = [
        model.text_conditions(_filled(different[start : start + _TEXTS], min(_TEXTS, len(different))), weights)
        for start in range(0, len(different), _TEXTS)
    ]
    place = {text: i for i, text in enumerate(different)}
    rows = [place[text] for text in texts]
    return {key: np.concatenate([part[key] for part in parts])[rows] for key in parts[0]}


def _filled(texts, count):
    """`count` texts, so that nothing is compiled again for a last, shorter part."""
    return texts + [""] * (count - len(texts))


def repeated(value, count):
    """A condition with a row for each of `count` samples, beginning again where there are fewer."""
    value = np.asarray(value)
    return value if value.ndim == 0 or len(value) == 1 else value[np.arange(count) % len(value)]
