"""Many devices and several processes, on JAX: what `keras.distribution` needs to know about diffusion models.

The rest is Keras's own: set a distribution, create the model, `fit`, `generate`.
"""

from keras_diffusion.distribution.layouts import SplitWeights, layout_map, split_axis
from keras_diffusion.distribution.sharing import local_rows, share
from keras_diffusion.distribution.specification import make, parse
from keras_diffusion.runtime.devices import is_writer
from keras_diffusion.runtime.processes import initialize

__all__ = [
    "SplitWeights",
    "initialize",
    "is_writer",
    "layout_map",
    "local_rows",
    "make",
    "parse",
    "share",
    "split_axis",
]
__dir__ = __all__.copy
