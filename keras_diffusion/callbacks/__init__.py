"""Callbacks for `fit`: pictures, scores of samples, metrics as text, time left, exact resuming, and a stop at NaN."""

from keras_diffusion.callbacks.generation_metrics import GenerationMetrics
from keras_diffusion.callbacks.metrics_jsonl import MetricsJSONL
from keras_diffusion.callbacks.orbax import orbax_checkpoint
from keras_diffusion.callbacks.reconstruction_grid import ReconstructionGrid
from keras_diffusion.callbacks.reconstruction_metrics import ReconstructionMetrics
from keras_diffusion.callbacks.resume import Resume
from keras_diffusion.callbacks.sample_grid import SampleGrid
from keras_diffusion.callbacks.terminate_on_non_finite import TerminateOnNonFinite
from keras_diffusion.callbacks.time_left import TimeLeft

__all__ = [
    "GenerationMetrics",
    "MetricsJSONL",
    "ReconstructionGrid",
    "ReconstructionMetrics",
    "Resume",
    "SampleGrid",
    "TerminateOnNonFinite",
    "TimeLeft",
    "orbax_checkpoint",
]
__dir__ = __all__.copy
