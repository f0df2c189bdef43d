"""What `fit`, `evaluate` and `predict` read batches from: forms that Keras does not know, and batches of text."""

import collections.abc
import contextlib
import copy
import sys

import keras

from keras_diffusion.configs.checks import shown


def readable(data):
    """`data` in a form that Keras reads as batches: generators, and torch `DataLoader`s of dicts, then yield tuples.

    Keras turns what a loader yields into a tuple; of a dict, that would be its keys. It wants generators to yield
    tuples, and does not know other iterators (`map`, `zip`, `iter(...)`) at all.
    """
    if isinstance(data, collections.abc.Iterator):
        return (_in_tuple(batch) for batch in data)
    torch_data = sys.modules.get("torch.utils.data")
    if torch_data is None or not isinstance(data, torch_data.DataLoader):
        return data

    class InTuples(type(data)):
        def __iter__(self):
            return ((batch,) if isinstance(batch, dict) else batch for batch in super().__iter__())

    loader = copy.copy(data)
    loader.__class__ = InTuples
    return loader


def _in_tuple(batch):
    check_no_text(batch)
    return batch if isinstance(batch, (tuple, list)) else (batch,)


@contextlib.contextmanager
def explaining_text(data, steps_done, validation_data=None):
    """A context for steps on `data`: an error before the first of them has run is explained where batches hold text.

    Args:
        data: what is read, arrays or batches.
        steps_done: function that returns the number of steps run.
        validation_data: what is read later, likewise, or None.
    """
    before = steps_done()
    try:
        yield
    except Exception:
        for source in (validation_data, *([data] if steps_done() == before else [])):
            batch = None
            with contextlib.suppress(Exception):  # the error at hand is the one to report
                batch = _first_batch(source[0] if isinstance(source, tuple) else source)
            check_no_text(batch)
        raise


def check_no_text(batch):
    """Raises a ValueError if a batch, nested arrays or tensors, holds text or objects."""
    parts = batch[0] if isinstance(batch, tuple) and batch else batch
    for name, value in (parts if isinstance(parts, dict) else {"x": parts}).items():
        for leaf in keras.tree.flatten(value):
            dtype = getattr(leaf, "dtype", None)
            kind = getattr(dtype, "kind", "")  # of NumPy; TensorFlow names its type
            if isinstance(leaf, (str, bytes)) or kind in ("U", "S", "O") or getattr(dtype, "name", "") == "string":
                raise ValueError(
                    f"Data are arrays of numbers. Received: {name}={shown(leaf)} of "
                    f"{'objects' if kind == 'O' else 'text'}. Give classes by their numbers, and words as a context "
                    "made by a text encoder, such as `text.CLIPTextEncoder`, or train a `models.TextToImage` on them"
                )


def _first_batch(data):
    if isinstance(data, keras.utils.PyDataset):
        return data[0]
    if hasattr(data, "element_spec"):  # tf.data
        return data.element_spec
    if isinstance(data, collections.abc.Iterator):  # looked at by `readable`
        return None
    return data if hasattr(data, "shape") or isinstance(data, dict) else next(iter(data))
