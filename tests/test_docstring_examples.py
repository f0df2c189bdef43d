"""The examples in docstrings: every class that a table of names knows has one, and all of them run.

A room's own docstring says what the examples of its classes begin with.
"""

import doctest
import functools
import importlib
import inspect

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.guidance.operators import LinearOperator
from keras_diffusion.guidance.pair import GUIDANCES
from keras_diffusion.guidance.threshold import THRESHOLDS
from keras_diffusion.metrics.feature_metric import FEATURE_METRICS
from keras_diffusion.predictors.predictor import PREDICTORS
from keras_diffusion.samplers.sampler import SAMPLERS
from keras_diffusion.schedulers.noise_schedule import SCHEDULES
from keras_diffusion.schedulers.time_spacing import SPACINGS
from keras_diffusion.training.loss_weighting import LOSS_WEIGHTINGS
from keras_diffusion.training.time_distribution import TIME_DISTRIBUTIONS

pytestmark = pytest.mark.slow  # the examples are read on JAX, the default

REGISTRIES = (
    SCHEDULES,
    SPACINGS,
    PREDICTORS,
    LOSS_WEIGHTINGS,
    TIME_DISTRIBUTIONS,
    SAMPLERS,
    GUIDANCES,
    THRESHOLDS,
    FEATURE_METRICS,
)
BASES = {kd.denoisers.Denoiser, kd.guidance.PairGuidance, LinearOperator}
DENOISERS = [
    value
    for room in (kd.guidance, kd.denoisers)
    for value in map(room.__dict__.get, room.__all__)
    if inspect.isclass(value) and value not in BASES
]
CLASSES = list(dict.fromkeys([cls for registry in REGISTRIES for cls in registry.classes()] + DENOISERS))
FUNCTIONS = [
    value
    for value in map(kd.visualization.__dict__.get, kd.visualization.__all__)
    if inspect.isfunction(value) and "Example:" in value.__doc__
]


def beginning(documented):
    """The names that a room's examples may use."""
    return dict(_beginning(".".join(documented.__module__.split(".")[:2])))


@functools.cache
def _beginning(name):
    room = importlib.import_module(name)
    names = {"kd": kd, "np": np}
    for example in doctest.DocTestParser().get_examples(room.__doc__):
        exec(example.source, names)
    return names


def is_ours(cls):
    return cls.__module__.startswith("keras_diffusion.")


@pytest.mark.parametrize("documented", [*filter(is_ours, CLASSES), *FUNCTIONS], ids=lambda value: value.__name__)
def test_the_example_runs(documented, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    doc = inspect.cleandoc(documented.__doc__)
    assert "\nExample:" in doc, f"{documented.__name__} has no Example section in its docstring"
    test = doctest.DocTestParser().get_doctest(doc, beginning(documented), documented.__name__, None, None)
    assert test.examples, f"the example of {documented.__name__} has no line that runs"
    said = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert not said, "".join(said)
