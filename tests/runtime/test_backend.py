"""Which backend is chosen, and what is said where that is none or not the default."""

import importlib.util
import os
import sys
import types

import pytest

from keras_diffusion.runtime import backend


@pytest.fixture
def taken(monkeypatch):
    """A function that makes it look as if Keras had been imported, on a backend, or not at all."""

    def take(name):
        monkeypatch.delitem(sys.modules, "keras")
        if name is not None:
            monkeypatch.setitem(
                sys.modules, "keras", types.SimpleNamespace(backend=types.SimpleNamespace(backend=lambda: name))
            )

    return take


def test_jax_is_the_default(taken, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    taken(None)
    backend.choose()
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_the_variable_stands_above_the_default(taken, monkeypatch, recwarn):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    taken(None)
    backend.choose()
    assert os.environ["KERAS_BACKEND"] == "torch" and not len(recwarn)


def test_keras_imported_before_on_another_backend_is_said(taken, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    taken("tensorflow")
    with pytest.warns(
        UserWarning, match="imported before keras_diffusion and runs on TensorFlow.*import keras_diffusion before keras"
    ):
        backend.choose()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"  # so that processes started by this one do the same


@pytest.mark.parametrize("name", ["openvino", "numpy", "bogus", ""])
def test_a_backend_that_the_library_does_not_run_on(taken, monkeypatch, name):
    monkeypatch.setenv("KERAS_BACKEND", name)
    taken(None)
    with pytest.raises(ImportError, match=f"backends jax, tensorflow, torch. Received: KERAS_BACKEND='{name}'. Unset"):
        backend.check()


@pytest.mark.parametrize(
    ("name", "install"), [("jax", "jax"), ("tensorflow", r"keras-diffusion\[tensorflow\]"), ("torch", r".*\[torch\]")]
)
def test_a_backend_that_is_not_installed(taken, monkeypatch, name, install):
    monkeypatch.setenv("KERAS_BACKEND", name)
    taken(None)
    present = {"jax", "tensorflow", "torch"} - {name}
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: object() if package in present else None)
    with pytest.raises(
        ImportError, match=f'package {name!r} is not installed.*pip install "{install}", or set KERAS_BACKEND='
    ):
        backend.check()
