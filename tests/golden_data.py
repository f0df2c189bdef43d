"""Reads the reference numbers in tests/golden (its README says where they come from), and small helpers of the tests of
the maths.
"""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_diffusion.core.levels import Levels
from keras_diffusion.denoisers import MixtureDenoiser

FOLDER = Path(__file__).parent / "golden" / "solvers"
# environment variable: a folder with numbers whose licence keeps them out of the repository
OUTSIDE = "KERAS_DIFFUSION_GOLDEN"


class Case:
    """One case of a file: `case["x"]` an array, `case.config` its description."""

    def __init__(self, arrays, name):
        self.arrays, self.name = arrays, str(name)

    def __getitem__(self, key):
        return self.arrays[f"{self.name}/{key}"]

    def __contains__(self, key):
        return f"{self.name}/{key}" in self.arrays.files

    @property
    def config(self):
        return json.loads(str(self["config"]))


def load(file, folder=FOLDER):
    """The cases of a file, as a dict from names to `Case`."""
    arrays = np.load(Path(folder) / f"{file}.npz", allow_pickle=False)
    return {str(name): Case(arrays, name) for name in arrays["__cases__"]}


def load_outside(file):
    """The cases of a file that is not in the repository; skips the test where it cannot be found."""
    folder = os.environ.get(OUTSIDE)
    if not folder or not (Path(folder) / f"{file}.npz").exists():
        pytest.skip(f"{file}.npz may not be redistributed; set {OUTSIDE} to a folder that holds it")
    return load(file, folder)


PROBLEM = np.load(FOLDER / "problem.npz", allow_pickle=False)


def mixture(problem, component=None):
    """The exact denoiser of a problem ("gmm2" or "gmmimg"), or of one of its components."""
    weights, means, stds = (PROBLEM[f"{problem}/{key}"] for key in ("weights", "means", "stds"))
    if component is not None:
        weights, means, stds = np.ones(1), means[component : component + 1], stds[component : component + 1]
    return MixtureDenoiser(weights, means, stds)


def exploding_levels(sigmas):
    """Levels of a variance-exploding grid; t is only a label there."""
    return Levels(np.linspace(1.0, 0.0, len(sigmas)), np.ones(len(sigmas)), np.asarray(sigmas, "float64"))


def tolerance(float32, float64):
    """The one that suits the float type that the tests run in."""
    return float64 if keras.config.floatx() == "float64" else float32


def tensor(value):
    """A tensor of Keras's default float type."""
    return ops.convert_to_tensor(np.asarray(value), dtype=keras.config.floatx())


def array(value):
    """A NumPy array."""
    return ops.convert_to_numpy(value)


def error(value, reference):
    """Largest difference, relative to the largest magnitude of the reference."""
    reference = np.asarray(reference)
    assert np.shape(value) == reference.shape
    return np.max(np.abs(array(value) - reference)) / np.max(np.abs(reference))


def relative_error(value, reference):
    """Largest elementwise relative difference."""
    reference = np.asarray(reference)
    assert np.shape(value) == reference.shape
    return np.max(np.abs(array(value) - reference) / np.maximum(np.abs(reference), 1e-300))


def round_trip(value):
    """The object that Keras makes of an object's serialized form, which must survive JSON on the way."""
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(value)))
    return keras.saving.deserialize_keras_object(config)
