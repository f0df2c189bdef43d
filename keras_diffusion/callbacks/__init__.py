"""Callbacks for `fit`, beside Keras's own: pictures, metrics as text, the time left, exact resuming, and a stop when
the loss is no number."""

from keras_diffusion.callbacks.metrics_jsonl import MetricsJSONL
from keras_diffusion.callbacks.orbax import orbax_checkpoint
from keras_diffusion.callbacks.resume import Resume
from keras_diffusion.callbacks.sample_grid import SampleGrid
from keras_diffusion.callbacks.terminate_on_non_finite import TerminateOnNonFinite
from keras_diffusion.callbacks.time_left import TimeLeft

__all__ = ["MetricsJSONL", "Resume", "SampleGrid", "TerminateOnNonFinite", "TimeLeft", "orbax_checkpoint"]
__dir__ = __all__.copy
