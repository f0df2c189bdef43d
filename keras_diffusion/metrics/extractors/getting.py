"""`get_extractor`: an extractor, whichever way it is given."""

import keras

from keras_diffusion.configs.checks import shown
from keras_diffusion.metrics.extractors.extractor import EXTRACTORS, Extractor, is_extractor
from keras_diffusion.metrics.extractors.models import FunctionExtractor, KerasExtractor


def get_extractor(identifier, **options):
    """Returns a feature extractor, whichever way it is given.

    Args:
        identifier: a name, see `extractor_names()`; a dict `{"name": …, **options}`; a Keras model; a function from
            pictures to vectors; or an extractor, which is returned unchanged.
        options: constructor arguments, where `identifier` is a name, a dict, a model or a function.

    Returns:
        the extractor: an object with `name`, `width`, `preprocessing`, `fingerprint()`, `logits(images)`, which is
        called with pictures and returns their features.

    Raises:
        ValueError: unknown name or option (the message lists the known ones), a missing option, options given with a
            finished object, or something else than a feature extractor.

    Example:

    >>> extractor = kd.metrics.get_extractor(lambda images: images.mean(axis=(1, 2)), name="mean colour")
    >>> extractor
    FunctionExtractor(name='mean colour', width=None, preprocessing='none')
    """
    if isinstance(identifier, Extractor) or is_extractor(identifier):
        if options:
            raise ValueError(
                "Options are for names, models and functions, not for finished extractors. Received: "
                f"{shown(identifier)} with options {shown(sorted(options))}"
            )
        return identifier
    if isinstance(identifier, keras.Model):
        return KerasExtractor(identifier, **options)
    if callable(identifier) and not isinstance(identifier, (type, keras.layers.Layer)):
        return FunctionExtractor(identifier, **options)
    return EXTRACTORS.get(identifier, **options)
