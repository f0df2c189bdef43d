"""Imports other people's metrics for comparison.

torch-fidelity, clean-fid and pytorch-fid import torchvision for the networks that make their features. Its wheels are
built for a torch with CUDA and do not load beside the CPU's, so their functions of features get a stand-in.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

import pytest


class _Anything(types.ModuleType):
    """A module that has every name: modules like itself, and classes where the name begins with a capital."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() else _Anything(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and all modules in it."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Anything(spec.name)

    def exec_module(self, module):
        pass


def import_peer(name):
    """The module `name`, or the test is skipped."""
    pytest.importorskip("torch")
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed")
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module(name)
    finder = _Finder()
    sys.meta_path.append(finder)
    try:
        return importlib.import_module(name)
    finally:
        sys.meta_path.remove(finder)
        for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
