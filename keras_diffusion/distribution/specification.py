"""Distributions from a few words: "data=8", "data=4,model=2".

    data     devices that share a batch, each with a copy of the model    keras.distribution.DataParallel
    model    devices that share one copy of the model                     SplitWeights, a ModelParallel

A word without a number takes the remaining devices: "data" is all of them, "data,model=2" on 8 devices is
"data=4,model=2".
"""

import keras
import numpy as np

from keras_diffusion.distribution.layouts import SplitWeights

_WORDS = ("data", "model")


def make(specification="data"):
    """A `keras.distribution.Distribution`; not set yet.

    Args:
        specification: text as above, for the devices of all processes together. Default "data".

    Returns:
        `DataParallel`, or `SplitWeights` if "model" is more than 1. Set it before creating the network, with
        `keras.distribution.set_distribution(...)` or `with distribution.scope():`.

    Raises:
        ValueError: text of another form, more devices than there are, or fewer with several processes.
        NotImplementedError: a backend other than JAX.

    Example:

    >>> keras.distribution.set_distribution(keras_diffusion.distribution.make("data=8"))
    """
    if keras.backend.backend() != "jax":
        raise NotImplementedError(
            f"Keras distributes on JAX only. Received: the backend {keras.backend.backend()}. Set KERAS_BACKEND=jax."
        )
    import jax

    devices = keras.distribution.list_devices()
    data, model = parse(specification, len(devices))
    if jax.process_count() > 1 and data * model != len(devices):
        raise ValueError(
            f"Several processes use all {len(devices)} devices. Received: {specification!r}, which is {data * model}"
        )
    used = devices[: data * model]
    if model == 1:
        return keras.distribution.DataParallel(devices=used, auto_shard_dataset=False)
    return SplitWeights(keras.distribution.DeviceMesh((data, model), ("batch", "model"), np.array(used)))


def parse(specification, count):
    """The numbers of a specification.

    Args:
        specification: text, "data=4,model=2".
        count: number of devices that there are.

    Returns:
        (data, model), two ints.

    Raises:
        ValueError: as `make`.
    """
    sizes = {}
    for part in str(specification).split(","):
        word, equals, number = (piece.strip() for piece in part.partition("="))
        if word not in _WORDS or word in sizes or (equals and not (number.isdecimal() and int(number) > 0)):
            raise ValueError(
                'Devices are given as "data=8", "data=4,model=2", or "data" for all. Received: '
                f"{str(specification)!r}, of which {part!r} is not understood"
            )
        sizes[word] = int(number) if equals else None
    sizes = {"data": None, **sizes} if "data" not in sizes else {"model": 1, **sizes}
    open_words = [word for word, size in sizes.items() if size is None]
    given = int(np.prod([size for size in sizes.values() if size is not None], dtype=int))
    if len(open_words) > 1:
        raise ValueError(
            f"One of data and model needs a number, the other takes the devices left. Received: {str(specification)!r}"
        )
    if open_words:
        sizes[open_words[0]] = count // given
    if given > count or 0 in sizes.values() or (open_words and count % given):
        raise ValueError(
            f"There are {count} devices. Received: {str(specification)!r}. On a CPU, the environment variable "
            "XLA_FLAGS=--xla_force_host_platform_device_count=8 makes eight virtual ones."
        )
    return sizes["data"], sizes["model"]
