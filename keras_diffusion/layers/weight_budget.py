"""How many weights a network may have, counted while it is built.

A configuration of a hundred bytes describes a network of any size. Whoever builds one of a file knows how many numbers
the file holds; what asks for far more of them is not what the file was made with, and is refused at the first weight
that is too many, before there is memory for it.

Keras has no place to ask for this, so `Layer.__init__` and `Layer.add_weight`, through which all layers and all their
weights come, are replaced while such a block runs.
"""

import contextlib
import contextvars
import threading
from math import prod

import keras

from keras_diffusion.runtime import limits

_budget: contextvars.ContextVar["_Budget | None"] = contextvars.ContextVar("weight_budget", default=None)
_lock = threading.Lock()
_blocks: list[object] = []  # those that run now, and below them Keras's own method
_init, _add_weight = keras.layers.Layer.__init__, keras.layers.Layer.add_weight
_LAYERS_PER_WEIGHT = 4  # those without weights, and those that are made of others


class _Budget:
    def __init__(self, values, weights):
        self.values, self.weights, self.layers = values, weights, _LAYERS_PER_WEIGHT * weights
        self.problem = None

    def take(self, values=0, weights=0, layers=0):
        """Counts what is made."""
        self.values, self.weights, self.layers = self.values - values, self.weights - weights, self.layers - layers
        if min(self.values, self.weights, self.layers) < 0:
            self.problem = "values" if self.values < 0 else "layers"
            raise ValueError("This network has more weights than it may.")


@contextlib.contextmanager
def weight_budget(tensors=None, error=ValueError):
    """A block in which a network is built from a configuration.

    Args:
        tensors: shapes of the tensors that the file of its weights holds; None (default): there is no such file, and
            the limit `weights` holds. With a file a network may have twice its values and `spare_weights` more, and
            twice its tensors and `layers` more.
        error: function from a message to the exception that is raised. Default: `ValueError`.

    Raises:
        `error`: more weights.

    Example:

    >>> with weight_budget([(3, 3, 4, 8), (8,)]):
    ...     network = networks.UNet.from_config(config)
    """
    allowed = limits.current()
    if tensors is None:
        budget = _Budget(allowed.weights, allowed.text_values)
    else:
        shapes = list(tensors)
        budget = _Budget(2 * sum(map(prod, shapes)) + allowed.spare_weights, 2 * len(shapes) + allowed.layers)
    token = _budget.set(budget)
    with _lock:
        _blocks.append(budget)
        keras.layers.Layer.__init__, keras.layers.Layer.add_weight = _counted_init, _counted
    try:
        yield
    except Exception as cause:
        if budget.problem is None:
            raise
        raise error(_message(budget, tensors is None)) from cause
    finally:
        _budget.reset(token)
        with _lock:
            _blocks.remove(budget)
            if not _blocks:
                keras.layers.Layer.__init__, keras.layers.Layer.add_weight = _init, _add_weight


def _counted_init(self, *arguments, **options):
    budget = _budget.get()
    if budget is not None:
        budget.take(layers=1)
    _init(self, *arguments, **options)


def _counted(self, shape=None, *arguments, **options):
    budget = _budget.get()
    if budget is not None:
        sizes = shape if isinstance(shape, (tuple, list)) else ()
        budget.take(prod(size for size in sizes if isinstance(size, int)), weights=1)
    return _add_weight(self, shape, *arguments, **options)


def _message(budget, alone):
    name = "weights" if alone else {"values": "spare_weights", "layers": "layers"}[budget.problem]
    rule = (
        "A network that is built of a configuration alone has a limited number of weights"
        if alone
        else "A network of a file has about as many weights as the file holds numbers"
    )
    return (
        f"{rule}. The configuration asks for more: it does not belong to this "
        f"file, or is damaged. {limits.remedy(name)}"
    )
