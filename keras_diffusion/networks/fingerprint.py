"""Fingerprints: a name for a network with its weights, for what it has computed and left on disk.

Text embeddings and latents that lie on disk are of one encoder. Another one, or new weights, has another fingerprint.
"""

import hashlib
import json

import numpy as np
from keras import ops

_ANY = ("name", "trainable")  # of a config: they change nothing that is computed
#: Likewise of an autoencoder whose latents are kept before they are scaled.
_UNSCALED = (*_ANY, "dtype", "scale", "shift", "halves", "shared_object_id", "build_config", "compile_config")


def fingerprint(model, *further):
    """A name for a network with its weights.

    Args:
        model: Keras model.
        further: what else its results depend on, such as the dtype in which they are kept.

    Returns:
        str of 32 hexadecimal digits.
    """
    config = {key: value for key, value in model.get_config().items() if key not in _ANY}
    return _digest([type(model).__name__, config, *further], model.variables)


def autoencoder_fingerprint(autoencoder):
    """A name for what an autoencoder makes of pictures before `scale` and `shift`.

    It stays the same when the scale is measured anew, when the decoder is trained further, and on every backend.

    Args:
        autoencoder: Keras model with `encode`.

    Returns:
        str of 32 hexadecimal digits.
    """
    try:
        config = _without(autoencoder.get_config(), _UNSCALED)
    except NotImplementedError:  # a class of the user's
        config = {}
    return _digest([type(autoencoder).__name__, config, "latents"], _encoding_variables(autoencoder))


def _encoding_variables(autoencoder):
    """The variables that latents depend on; all of them where it does not say which they are."""
    inner = getattr(autoencoder, "autoencoder", None)  # of one whose latents are codes
    if inner is not None and hasattr(autoencoder, "bottleneck"):
        return [*_encoding_variables(inner), *autoencoder.bottleneck.weights]
    encoder = getattr(autoencoder, "encoder", None)
    return autoencoder.weights if encoder is None else encoder.weights


def _without(config, keys):
    """A nested config less some keys, at any depth."""
    if isinstance(config, dict):
        return {key: _without(value, keys) for key, value in config.items() if key not in keys}
    return [_without(value, keys) for value in config] if isinstance(config, (list, tuple)) else config


def _digest(facts, variables):
    digest = hashlib.sha256()
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for variable in variables:
        value = np.ascontiguousarray(ops.convert_to_numpy(variable))
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()[:32]
