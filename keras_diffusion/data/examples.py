"""`tf.train.Example`, the usual record of TensorFlow's files, as a dict: without TensorFlow.

Example { 1: Features { 1: [ { 1: name, 2: Feature { 1: bytes | 2: floats | 3: integers, each { 1: values } } } ] } }
"""

import numpy as np

from keras_diffusion.configs.checks import clip
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.protobuf import Message, varint
from keras_diffusion.runtime import limits


def read_example(data):
    """The features of an example.

    Args:
        data: its bytes.

    Returns:
        dict from names to bytes, a float or an int; where there are several, to a list of bytes or an array `(n,)`;
        empty features are left out.

    Raises:
        ValueError: bytes that are no example.

    Reference: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/example.proto
    """
    try:
        features = [entry for part in Message(data).messages(1) for entry in part.messages(1)]
        read = {entry.text(1): _values(entry) for entry in features}
    except CheckpointError as error:
        raise ValueError(clip(f"A record is no tf.train.Example: {error}")) from error
    return {name: values[0] if len(values) == 1 else values for name, values in read.items() if len(values)}


def _values(entry):
    for feature in entry.messages(2):
        for number, read in ((1, list), (2, _floats), (3, _integers)):
            lists = feature.messages(number)
            if lists:
                return read(lists[0].values(1))
    return []


def _floats(values):
    """Numbers that are packed into bytes, or stand one by one, as integers of the same four bytes."""
    packed = b"".join(v if isinstance(v, bytes) else v.to_bytes(4, "little") for v in values)
    return np.frombuffer(packed[: len(packed) // 4 * 4], "<f4")


def _integers(values):
    found = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        position = 0
        while position < len(value):
            number, position = varint(value, position)
            found.append(number)
    limits.check(len(found), "image_pixels", "The number of integers of a record")
    return np.array(found, "uint64").astype("int64")
