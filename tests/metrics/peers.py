"""Other packages' code, imported without torchvision and what else it imports.

torch-fidelity, clean-fid and pytorch-fid import torchvision for the networks that make their features. Its wheels are
built for a torch with CUDA and do not load beside the CPU's, so stand-ins take its place.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

import pytest


class Stub(types.ModuleType):
    """A module that has every name: modules like itself, and classes where the name begins with a capital."""

    __path__: list = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() else Stub(name)

    def __call__(self, *args, **kwargs):
        return self


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and all modules in it."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


@contextlib.contextmanager
def modules(*forgotten, **given):
    """`sys.modules` with other entries ("__" for "."); what is imported of their packages meanwhile, and of the
    `forgotten` ones, is forgotten afterwards.
    """
    given = {name.replace("__", "."): module for name, module in given.items()}
    packages = {*forgotten, *(name.split(".")[0] for name in given)}
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in packages}
    for name in before:
        del sys.modules[name]
    sys.modules.update(given)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in packages]:
            del sys.modules[name]
        sys.modules.update(before)


def alone(package, module, **others):
    """Imports `package.module` without running the package's `__init__`; `others` are stubs.

    Skips the test where the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    bare = types.ModuleType(package)
    bare.__path__ = list(spec.submodule_search_locations)
    with modules(**{package: bare, **others}):
        return importlib.import_module(f"{package}.{module}")


def import_peer(name):
    """The module `name`, or the test is skipped. What it imports of torchvision is a stub where there is none."""
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
